"""A modern tool that asks a person ends its answer with the questions; the call is made again with the answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.servers import asking, kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tools import mcp_client
from tools.mcp_client import Answers, Questions, Server, ToolResult

STATE = '{"nonce": "ü", "n": 1}'
QUESTION = asking.form("Sure?", asking.CONFIRMATION)
ACCEPTED = {"action": "accept", "content": {"sure": True}}


def at(server: McpServer, era: Any = "modern") -> Server:
    return Server(key=server.url, url=server.url, era=era)


def asks(**members: Any) -> dict[str, Any]:
    return {"resultType": "input_required", **members}


async def asked(server: Server, name: str, **options: Any) -> Questions:
    outcome = await mcp_client.call_tool(server, name, {}, **options)
    assert isinstance(outcome, Questions)
    return outcome


async def test_a_tool_that_asks_goes_on_with_the_answer_in_another_process(mcp_server: StartServer) -> None:
    server = mcp_server("modern", asking.asking())
    questions = await asked(at(server), "ask_form")
    (question,) = questions.requests.values()
    assert (question.mode, question.message) == ("form", "What do you want to order?")
    assert question.schema == asking.FORM | {"properties": asking.EVERY_FIELD}
    assert questions.state == asking.STATE % 1

    kept = Questions.restored(orjson.loads(orjson.dumps(questions)))
    assert kept == questions
    response = {"action": "accept", "content": {"name": "Ann", "color": "blue", "extras": ["red"]}}
    result = await mcp_client.call_tool(at(server), "ask_form", {}, answers=Answers({"form": response}, kept.state))
    assert isinstance(result, ToolResult)
    assert result.structured == {"form": response}

    first, second = (request.message for request in server.requests)
    assert first["id"] != second["id"]
    assert not {"inputResponses", "requestState"} & first["params"].keys()
    assert second["params"]["arguments"] == {}
    assert second["params"]["requestState"] == questions.state


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_is_an_answer_too(mcp_server: StartServer, action: str) -> None:
    server = mcp_server("modern", asking.asking())
    questions = await asked(at(server), "ask_visit")
    assert questions.requests["visit"].url == asking.VISIT
    assert questions.requests["visit"].mode == "url"
    answers = Answers({"visit": {"action": action}}, questions.state)
    result = await mcp_client.call_tool(at(server), "ask_visit", {}, answers=answers)
    assert result.structured == {"visit": {"action": action}}


async def test_a_tool_may_ask_again_with_another_state(mcp_server: StartServer) -> None:
    server = mcp_server("modern", asking.asking())
    first = await asked(at(server), "ask_twice")
    named = {"name": {"action": "accept", "content": {"name": "Ann"}}}
    second = await asked(at(server), "ask_twice", answers=Answers(named, first.state))
    assert [question.message for question in second.requests.values()] == ["Are you sure, Ann?"]
    assert second.state != first.state
    result = await mcp_client.call_tool(at(server), "ask_twice", {}, answers=Answers({"sure": ACCEPTED}, second.state))
    assert result.structured == {"sure": ACCEPTED}


async def test_several_questions_at_once_keep_their_keys(mcp_server: StartServer) -> None:
    questions = await asked(at(mcp_server("modern", asking.asking())), "ask_both")
    assert {key: question.mode for key, question in questions.requests.items()} == {"form": "form", "visit": "url"}


async def test_state_alone_goes_back_at_once_and_only_where_there_is_one(mcp_server: StartServer) -> None:
    server = mcp_server("modern", asking.asking())
    result = await mcp_client.call_tool(at(server), "ask_state", {"times": 3})
    assert result.content[0]["text"] == "after 3"
    sent = [request.message["params"] for request in server.requests]
    assert [params.get("requestState") for params in sent] == [None, *(asking.STATE % step for step in (1, 2, 3))]
    assert not any("inputResponses" in params for params in sent)
    assert len({request.rpc_id for request in server.requests}) == 4


async def test_answers_to_a_question_without_state_carry_none(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"}, answers=Answers({"a": ACCEPTED}))
    (request,) = server.requests
    assert request.message["params"]["inputResponses"] == {"a": ACCEPTED}
    assert "requestState" not in request.message["params"]


async def test_the_answer_to_one_call_is_in_no_other(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.once(kinds.says(asks(requestState=STATE))))
    await asyncio.gather(*(mcp_client.call_tool(at(server), "echo", {"text": str(number)}) for number in range(5)))
    answered = [request for request in server.requests if b"requestState" in request.body]
    assert (len(server.requests), len(answered)) == (6, 1)


async def test_a_server_that_never_stops_sending_state_is_left(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(asks(requestState=STATE)))
    with pytest.raises(mcp_client.NeedsMore) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert (len(server.requests), refusal.value.outcome_unknown) == (6, False)


@pytest.mark.parametrize(
    "question",
    [
        asks(),
        asks(inputRequests={}),
        asks(inputRequests={"a": {"method": "sampling/createMessage", "params": {}}}),
        asks(inputRequests={"a": QUESTION, "b": {"method": "roots/list"}}, requestState=STATE),
    ],
)
async def test_what_no_person_answers_ends_the_call(mcp_server: StartServer, question: dict[str, Any]) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(question))
    with pytest.raises(mcp_client.NeedsMore) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert (refusal.value.result_type, refusal.value.outcome_unknown) == ("input_required", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "question",
    [
        asks(inputRequests=[QUESTION], requestState=STATE),
        asks(inputRequests={"a": "?"}),
        asks(inputRequests={"a": {"method": 7}}),
        asks(inputRequests={"a": {"method": "elicitation/create"}}),
        asks(inputRequests={"": QUESTION}),
        asks(inputRequests={"a" * 201: QUESTION}),
        asks(inputRequests={"a\0": QUESTION}),
        asks(inputRequests={str(number): QUESTION for number in range(21)}),
        asks(inputRequests={"a": QUESTION}, requestState={"not": "text"}),
        asks(inputRequests={"a": QUESTION}, requestState="x" * (64 * 1024 + 1)),
    ],
)
async def test_a_question_that_breaks_the_protocol_ends_the_call_and_nothing_has_run(
    mcp_server: StartServer, question: dict[str, Any]
) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(question))
    with pytest.raises(mcp_client.BadQuestion) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert (refusal.value.sent, refusal.value.outcome_unknown) == (True, False)
    assert isinstance(refusal.value, mcp_client.BadAnswer)


@pytest.mark.parametrize("kind", ["modern", "legacy", "legacy json"])
async def test_a_visit_that_is_required_first_is_a_question_and_then_the_same_call(
    mcp_server: StartServer, kind: str
) -> None:
    server = mcp_server(kind, asking.asking())
    here = at(server, "modern" if kind == "modern" else "legacy")
    questions = await mcp_client.call_tool(here, "visit_first", {"tenant": "acme"})
    assert isinstance(questions, Questions)
    assert questions.state is None
    (question,) = questions.requests.values()
    assert (question.mode, question.url, question.elicitation_id) == ("url", asking.VISIT, "visit-7")
    server.toolbox.visited.add("acme")  # type: ignore[attr-defined]
    answers = Answers({key: {"action": "accept"} for key in questions.requests})
    result = await mcp_client.call_tool(here, "visit_first", {"tenant": "acme"}, answers=answers)
    assert result.content[0]["text"] == "connected"
    again = server.requests[-1].message["params"]
    assert ("inputResponses" in again) == (kind == "modern")
    assert "requestState" not in again


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"elicitations": []},
        {"elicitations": ["?"]},
        {"elicitations": [{"mode": "url", "message": "Go", "url": asking.VISIT}] * 21},
        {"elicitations": [{"message": "Who?", "requestedSchema": asking.ONE_NAME}]},
    ],
)
async def test_a_required_visit_without_an_address_has_not_run_the_tool(mcp_server: StartServer, data: Any) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(error={"code": -32042, "message": "secret detail", "data": data}))
    with pytest.raises(mcp_client.BadQuestion) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert (refusal.value.sent, refusal.value.outcome_unknown) == (True, False)


async def test_the_handshake_era_knows_no_such_result(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.append(kinds.only_on("tools/call", kinds.says(asks(inputRequests={"a": QUESTION}))))
    with pytest.raises(mcp_client.NeedsMore):
        await mcp_client.call_tool(at(server, "legacy"), "echo", {"text": "x"})
    assert server.count("tools/call") == 1


async def test_every_request_says_what_can_be_asked_here(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    await mcp_client.list_tools(at(server))
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    for request in server.requests:
        said = request.message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        assert said == {
            "elicitation": {"form": {}, "url": {}},
            "extensions": {"io.modelcontextprotocol/tasks": {}},
        }
    old = mcp_server("legacy")
    await mcp_client.discover(at(old, "legacy"))
    handshake = next(request.message for request in old.requests if request.rpc_method == "initialize")
    assert handshake["params"]["capabilities"] == {"elicitation": {"form": {}, "url": {}}}


@pytest.mark.parametrize("kind", ["modern", "legacy"])
async def test_a_callers_metadata_never_replaces_the_protocols(mcp_server: StartServer, kind: str) -> None:
    server = mcp_server(kind)
    mine = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "progressToken": "mine",
        "io.modelcontextprotocol/protocolVersion": "1999-01-01",
        "io.modelcontextprotocol/clientInfo": {"name": "mallory"},
        "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
    }
    await mcp_client.call_tool(at(server, kind), "echo", {"text": "x"}, meta=mine)
    call = next(request for request in server.requests if request.rpc_method == "tools/call")
    meta = call.message["params"]["_meta"]
    assert meta["traceparent"] == mine["traceparent"]
    assert meta["progressToken"] == call.rpc_id
    if kind == "modern":
        assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        assert "mallory" not in str(meta)
        assert "sampling" not in str(meta)


async def test_questions_are_put_back_as_they_were() -> None:
    question = mcp_client.Question("url", "Go", url=asking.VISIT, elicitation_id="7")
    questions = Questions({"a": question, "b": replace(question, mode="form", schema=asking.FORM, url=None)}, STATE)
    assert Questions.restored(orjson.loads(orjson.dumps(questions))) == questions
