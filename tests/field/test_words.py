"""A failed check names the status and quotes what the server says, never what we sent, and has a next step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connections.models import Connection
from tests.conftest import House
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Rule
from tools.mcp_client import Server
from tools.mcp_client.quoting import MOST_IN_A_SENTENCE, quoted, sentence_of
from tools.models import Probe

TENANT = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"X-Tenant-Id header is required"}}'
HOST = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Invalid Host header"}}'
PLAN = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"Your plan has no MCP"}}'


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        (kinds.answers(400, TENANT), "not_streamable_http", ["HTTP 400", "“X-Tenant-Id header is required”"]),
        (kinds.answers(421, HOST), "not_streamable_http", ["HTTP 421", "“Invalid Host header”"]),
        (kinds.answers(402, PLAN), "not_streamable_http", ["HTTP 402", "“Your plan has no MCP”"]),
        (
            kinds.answers(421, b"Invalid Host header", content_type="text/plain"),
            "not_streamable_http",
            ["HTTP 421", "“Invalid Host header”"],
        ),
        (kinds.answers(451), "not_streamable_http", ["HTTP 451"]),
        (kinds.answers(503), "server_failed", ["HTTP 503"]),
        (kinds.answers(403, b"<html>", cf_mitigated="challenge"), "taken_for_a_bot", ["HTTP 403", "Cloudflare"]),
        (kinds.answers(503, b"<html>", cf_mitigated="block"), "taken_for_a_bot", ["HTTP 503", "Cloudflare"]),
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
    assert connection.next_step
    assert connection.credential_state == "not_needed", "it is not the credential that is refused"


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
