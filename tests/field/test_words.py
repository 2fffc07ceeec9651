"""A failed check names the status and quotes what the server says, never what we sent, and has a next step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connections.models import Connection
from connections.quoting import MOST_IN_A_SENTENCE
from tests.conftest import House
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Rule
from tools.mcp_client import Server
from tools.mcp_client.quoting import quoted, sentence_of
from tools.models import Probe

TENANT = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"X-Tenant-Id header is required"}}'
HOST = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Invalid Host header"}}'
PLAN = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"Your plan has no MCP"}}'


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        (kinds.answers(400, TENANT), "handshake_refused", ["HTTP 400", "“X-Tenant-Id header is required”"]),
        (kinds.answers(421, HOST), "handshake_refused", ["HTTP 421", "“Invalid Host header”"]),
        (kinds.answers(402, PLAN), "handshake_refused", ["HTTP 402", "“Your plan has no MCP”"]),
        (
            kinds.answers(421, b"Invalid Host header", content_type="text/plain"),
            "handshake_refused",
            ["HTTP 421", "“Invalid Host header”"],
        ),
        (
            kinds.answers(400, b'{"status":400,"error":"Bad Request","message":"X-Tenant-Id is missing"}'),
            "handshake_refused",
            ["HTTP 400", "“X-Tenant-Id is missing”"],
        ),
        (
            kinds.answers(404, b'{"status":404,"error":"Not Found","path":"/mcp"}'),
            "not_streamable_http",
            ["HTTP 404", "“Not Found”"],
        ),
        (kinds.answers(200, b"", content_type=""), "bad_answer", ["is empty"]),
        (kinds.answers(402, b'{"message":"No credits left"}'), "handshake_refused", ["HTTP 402", "“No credits left”"]),
        (kinds.answers(404, TENANT), "handshake_refused", ["HTTP 404", "“X-Tenant-Id header is required”"]),
        (kinds.answers(404, b'{"message":"no route"}'), "not_streamable_http", ["HTTP 404", "“no route”"]),
        (kinds.answers(405, b"GET only", content_type="text/plain"), "not_streamable_http", ["HTTP 405"]),
        (kinds.says(error={"code": -32601, "message": "Method not found"}), "not_streamable_http", ["HTTP 200"]),
        (kinds.answers(451), "not_streamable_http", ["HTTP 451"]),
        (kinds.answers(503), "server_failed", ["HTTP 503"]),
        (kinds.answers(403, b"<html>", cf_mitigated="challenge"), "taken_for_a_bot", ["HTTP 403", "Cloudflare"]),
        (kinds.answers(503, b"<html>", cf_mitigated="block"), "taken_for_a_bot", ["HTTP 503", "Cloudflare"]),
        (kinds.answers(405, b"<html>", x_amzn_waf_action="captcha"), "taken_for_a_bot", ["HTTP 405", "AWS WAF"]),
        (kinds.answers(202, x_amzn_waf_action="challenge"), "taken_for_a_bot", ["HTTP 202", "AWS WAF"]),
        (kinds.answers(403, b"<html>", x_vercel_mitigated="challenge"), "taken_for_a_bot", ["HTTP 403", "Vercel"]),
        (kinds.answers(403, b'{"url":"x"}', x_dd_b="1"), "taken_for_a_bot", ["HTTP 403", "DataDome"]),
        (kinds.answers(403, b"<html>", x_sucuri_block="GEO02"), "taken_for_a_bot", ["HTTP 403", "Sucuri"]),
        (
            kinds.says(error={"code": -32050, "message": "The tenant is unknown"}),
            "rpc_error",
            ["-32050", "“The tenant is unknown”"],
        ),
    ],
)
def test_a_failed_check_says_what_the_server_says(
    acme: House,
    mcp_server: StartServer,
    probed: Callable[[Connection], Probe],
    answer: Rule,
    reason: str,
    told: list[str],
) -> None:
    server = mcp_server("legacy")
    server.behave(answer)
    connection = acme.connection(url=server.url)
    report = probed(connection)
    assert report.reason == reason
    for words in told:
        assert words in report.stages[-1]["sentence"], report.stages[-1]
        assert words in connection.reachability_sentence
    assert ("/mcp" in connection.next_step) == (reason == "not_streamable_http"), connection.next_step
    if reason == "handshake_refused":
        assert connection.next_step.startswith("Do what the server's own words say")
    assert connection.credential_state == "not_needed", "it is not the credential that is refused"


@pytest.mark.parametrize(
    ("kind", "pinned", "told"),
    [
        ("legacy", "modern", "to modern (2026-07-28 and later); this server speaks another."),
        ("modern", "legacy", "to legacy (2025-11-25 and earlier); this server speaks another. It answered HTTP 400."),
    ],
)
def test_a_pinned_era_that_does_not_fit_is_named(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe], kind: str, pinned: str, told: str
) -> None:
    connection = acme.connection(url=mcp_server(kind).url, era_choice=pinned)
    report = probed(connection)
    assert (report.reason, connection.reachability_reason) == ("era_pinned", "era_pinned")
    assert told in connection.reachability_sentence
    assert "Set Protocol era to" in connection.next_step


@pytest.mark.parametrize("era", ["auto", "modern"])
@pytest.mark.parametrize("status", [400, 402, 404, 422])
def test_a_refused_list_of_tools_is_told_with_the_servers_words(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe], era: str, status: int
) -> None:
    server = mcp_server("modern")
    server.behave(kinds.only_on("tools/list", kinds.answers(status, b'{"message":"No credits left"}')))
    connection = acme.connection(url=server.url, era_choice=era)
    assert probed(connection).reason == "unexpected_status"
    assert f"HTTP {status}" in connection.tools_sentence
    assert "“No credits left”" in connection.tools_sentence
    assert connection.next_step.startswith("Do what the server's own words say")


SENT = Server(
    key="k",
    url="https://mcp.example.com/mcp?key=k3y-in-the-address",
    headers=(("Authorization", "Bearer s3cret-token"),),
)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", ""),
        ("  \n ", ""),
        ("no\nsuch\x00 city\u202e", "In the server's own words: “no such city”."),
        ("bad token s3cret-token", "In the server's own words: “bad token [left out]”."),
        ("got Bearer s3cret-token", "In the server's own words: “got [left out]”."),
        ("no such shop at ?key=k3y-in-the-address", "In the server's own words: “no such shop at ?[left out]”."),
        ("x" * 1000, f"In the server's own words: “{'x' * MOST_IN_A_SENTENCE}…”."),
    ],
)
def test_quoted_words_are_capped_and_never_what_we_sent(words: str, told: str) -> None:
    assert sentence_of(quoted(words, SENT)) == told
