"""A server of the handshake era asks on its session's own stream, which names no call."""

from __future__ import annotations

import asyncio

from tests.servers import asking
from tests.servers.fixtures import StartServer
from tests.tools.test_mcp_client_elicitation import Person, at
from tools import mcp_client

PATIENCE = 10.0
NAMED = {"action": "accept", "content": {"name": "Ann"}}


async def test_a_question_beside_the_call_reaches_its_caller(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person(NAMED)
    async with asyncio.timeout(PATIENCE):
        result = await mcp_client.call_tool(at(server), "ask_aside", {}, ask=ann)
    assert result.structured == NAMED
