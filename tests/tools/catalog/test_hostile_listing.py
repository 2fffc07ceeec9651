"""What a hostile server writes into its listing: the rest of its tools stay usable, and no check breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connections.models import Connection
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import only_on, says
from tools.models import Probe

Probed = Callable[[Connection], Probe]
SCHEMA = {"type": "object"}


def nested(levels: int) -> dict[str, Any]:
    """A schema with so many levels, and draft-04's exclusive bound at the bottom."""
    schema: dict[str, Any] = {"minimum": 1, "exclusiveMinimum": True}
    for _ in range(levels):
        schema = {"items": schema}
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


@pytest.mark.smoke
@pytest.mark.parametrize(
    "hostile",
    [
        {"name": "a\x00b", "inputSchema": SCHEMA},
        {"name": "bad", "description": "\x00", "inputSchema": SCHEMA},
        {"name": "bad", "inputSchema": SCHEMA, "_meta": {"a\x00b": 1}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "\x00"}}}},
        {"name": "bad", "inputSchema": SCHEMA, "annotations": {"title\x00": []}},
        {"name": "bad", "inputSchema": SCHEMA, "annotations": {"title": []}, "icons": [{"src": "\x00"}]},
        {"inputSchema": SCHEMA},
        {"name": "bad", "inputSchema": SCHEMA | nested(240)},
        "\x00",
    ],
)
def test_a_definition_that_no_database_takes_spoils_no_other_tool(
    acme: House, mcp_server: StartServer, probed: Probed, hostile: object
) -> None:
    server = mcp_server("modern")
    tools = [{"name": "good", "inputSchema": SCHEMA}, hostile]
    server.rules.append(only_on("tools/list", says({"resultType": "complete", "tools": tools})))
    connection = acme.connection(url=server.url)
    report = probed(connection)
    assert (report.outcome, report.reason) == ("passed", "")
    assert connection.tools.usable().get(name="good")
    assert connection.tools.count() == 2


@pytest.mark.smoke
def test_a_server_whose_own_name_no_database_takes_is_connected(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("modern")
    info = {"io.modelcontextprotocol/serverInfo": {"name": "a\x00b", "version": "1\x00"}}
    facts = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "_meta": info}
    server.rules.append(only_on("server/discover", says(facts)))
    assert probed(acme.connection(url=server.url)).outcome == "passed"
