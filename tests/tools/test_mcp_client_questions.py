"""A tool that asks back in the middle of a call hears that nobody made a choice, and the call goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tools import mcp_client
from tools.mcp_client import Server

STATE = '{"nonce": "ü", "n": 1}'
FORM = {"message": "Sure?", "requestedSchema": {"type": "object", "properties": {"sure": {"type": "boolean"}}}}
QUESTION = {"method": "elicitation/create", "params": FORM}


def at(server: McpServer, era: Any = "modern") -> Server:
    return Server(key=server.url, url=server.url, era=era)


def asks(**members: Any) -> dict[str, Any]:
    return {"resultType": "input_required", **members}


async def test_a_question_is_answered_with_cancel_and_the_call_comes_to_its_end(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.once(kinds.says(asks(inputRequests={"confirm": QUESTION}, requestState=STATE))))
    result = await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert result.content == [{"type": "text", "text": "x"}]
    asked, answered = (request.message for request in server.requests)
    assert asked["id"] != answered["id"]
    assert answered["params"]["arguments"] == {"text": "x"}
    assert answered["params"]["inputResponses"] == {"confirm": {"action": "cancel"}}
    assert answered["params"]["requestState"] == STATE
    assert "inputResponses" not in asked["params"]
    assert server.executions("echo") == 1


async def test_state_is_returned_only_where_there_is_one(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    stateless, bare = asks(inputRequests={"a": QUESTION}), asks(requestState=STATE)
    server.behave(kinds.once(kinds.says(stateless)), kinds.once(kinds.says(bare)))
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    _, first, second = (request.message["params"] for request in server.requests)
    assert "requestState" not in first
    assert second["requestState"] == STATE
    assert "inputResponses" not in second


async def test_the_answer_to_one_call_is_in_no_other(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.once(kinds.says(asks(inputRequests={"a": QUESTION}, requestState=STATE))))
    await asyncio.gather(*(mcp_client.call_tool(at(server), "echo", {"text": str(number)}) for number in range(5)))
    answered = [request for request in server.requests if b"requestState" in request.body]
    assert (len(server.requests), len(answered)) == (6, 1)


@pytest.mark.parametrize(
    "question",
    [
        asks(),
        asks(inputRequests=[QUESTION], requestState=STATE),
        asks(inputRequests={"a": {"method": "sampling/createMessage", "params": {}}}),
        asks(inputRequests={"a": QUESTION, "b": {"method": "roots/list"}}, requestState=STATE),
        asks(inputRequests={"a": "?"}),
    ],
)
async def test_what_nobody_can_answer_ends_the_call(mcp_server: StartServer, question: dict[str, Any]) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(question))
    with pytest.raises(mcp_client.NeedsMore) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert (refusal.value.result_type, refusal.value.outcome_unknown) == ("input_required", False)
    assert len(server.requests) == 1


async def test_a_server_that_never_stops_asking_is_left(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(asks(inputRequests={"a": QUESTION})))
    with pytest.raises(mcp_client.NeedsMore):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert len(server.requests) == 6


async def test_the_handshake_era_knows_no_such_question(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.append(kinds.only_on("tools/call", kinds.says(asks(inputRequests={"a": QUESTION}))))
    with pytest.raises(mcp_client.NeedsMore):
        await mcp_client.call_tool(at(server, "legacy"), "echo", {"text": "x"})
    assert server.count("tools/call") == 1
