"""A 403 is quoted, with a next step that helps, whether or not it brings a challenge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connections.models import Connection, Credential
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import answers, only_legacy, only_on
from tests.servers.running import Rule
from tools.models import Probe

pytestmark = pytest.mark.django_db

Probed = Callable[[Connection], Probe]
JSON, TEXT = {"content_type": "application/json"}, {"content_type": "text/plain"}
SCOPE = {"www_authenticate": 'Bearer error="insufficient_scope", scope="orders:write"'}

REFUSALS: dict[str, tuple[Rule, str]] = {
    "bare": (answers(403), "(HTTP 403)."),
    "its message": (answers(403, b'{"message": "Your plan has no MCP."}', **JSON), "“Your plan has no MCP.”"),
    "a problem": (answers(403, b'{"title": "Forbidden", "detail": "Not from there."}', **JSON), "“Not from there.”"),
    "an error of OAuth": (answers(403, b'{"error_description": "No seat."}', **JSON), "“No seat.”"),
    "JSON-RPC": (answers(403, b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"Off."}}', **JSON), "“Off.”"),
    "text": (answers(403, b"IP not allowed", **TEXT), "“IP not allowed”"),
    "a page": (answers(403, b"<html><h1>Forbidden</h1></html>", content_type="text/html"), "(HTTP 403)."),
    "a missing permission": (answers(403, **SCOPE), "It asks for the permission “orders:write”."),
    "another scheme": (answers(403, b'{"message": "No."}', www_authenticate="Negotiate", **JSON), "“No.”"),
}


def connect(house: House, url: str, method: str) -> Connection:
    connection = house.connection("Orders", url, authorization=method)
    if method == "api_key":
        Credential(connection=connection, kind="api_key").set("key-of-acme-0123456789", by=house.admin)
    return connection


@pytest.mark.parametrize("method", ["none", "api_key", "oauth"])
@pytest.mark.parametrize(("rule", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_403_says_what_the_server_says(
    acme: House, mcp_server: StartServer, probed: Probed, rule: Rule, words: str, method: str
) -> None:
    server = mcp_server()
    server.behave(rule)
    connection = connect(acme, server.url, method)
    report = probed(connection)
    stranger = method != "api_key"
    assert (connection.credential_state, connection.credential_reason) == (
        "refused",
        "access_refused" if stranger else "forbidden",
    )
    assert connection.reachability_state == "reachable"
    assert words in connection.credential_sentence
    assert report.stages[-1]["sentence"] == connection.credential_sentence
    assert connection.next_step.startswith("Do what the server's own words say, or ask its owner")


@pytest.mark.parametrize("method", ["server/discover", "initialize", "tools/list"])
def test_whenever_it_comes_in_a_check(acme: House, mcp_server: StartServer, probed: Probed, method: str) -> None:
    server = mcp_server()
    rules: list[Any] = [] if method == "tools/list" else [only_legacy] if method == "initialize" else []
    refusal = answers(403, b'{"message": "Not yet."}', **JSON)
    everything = [only_on(one, refusal) for one in {method, "initialize" if method != "tools/list" else method}]
    server.rules[:] = [*everything, *rules]
    connection = connect(acme, server.url, "api_key")
    probed(connection)
    assert (connection.credential_reason, "“Not yet.”" in connection.credential_sentence) == ("forbidden", True)
    server.behave()
    probed(connection)
    assert (connection.headline, connection.credential_reason) == ("connected", "")


def test_a_key_that_the_server_repeats_is_not_quoted(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    server = mcp_server()
    server.behave(answers(403, b'{"message": "key-of-acme-0123456789 may not."}', **JSON))
    connection = connect(acme, server.url, "api_key")
    report = probed(connection)
    assert "key-of-acme" not in connection.credential_sentence + str(report.stages)
    assert "[left out] may not." in connection.credential_sentence
