"""A server of the handshake era asks a person on the open stream, and the call waits for the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.servers import asking, kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer
from tools import mcp_client
from tools.mcp_client import Question, Questions, Response, Server

PATIENCE = 10.0  # seconds
ACCEPTED = {"action": "accept", "content": {"name": "Ann", "color": "red"}}


def at(server: McpServer, **more: Any) -> Server:
    return Server(key=server.url, url=server.url, era="legacy", **more)


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


class Person:
    """Somebody who is asked, and thinks as long as a test wants."""

    def __init__(self, *responses: Response, thinks: float = 0, error: Exception | None = None) -> None:
        self.asked: list[Question] = []
        self.withdrawn = 0
        self._responses = list(responses)
        self._thinks = thinks
        self._error = error

    async def __call__(self, questions: Questions) -> dict[str, Response]:
        ((key, question),) = questions.requests.items()
        self.asked.append(question)
        try:
            await asyncio.sleep(self._thinks)
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        if self._error is not None:
            raise self._error
        return {key: self._responses[len(self.asked) - 1]}


def elicits(id_: Any, params: dict[str, Any], method: str = "elicitation/create") -> bytes:
    """Return one request of the server as an event."""
    message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
    return b"data: %b\n\n" % json.dumps(message).encode()


def ends(request: Incoming) -> bytes:
    """Return the event that ends a call."""
    result = {"jsonrpc": "2.0", "id": request.rpc_id, "result": {"content": []}}
    return b"data: %b\n\n" % json.dumps(result).encode()


def answered(server: McpServer) -> list[dict[str, Any]]:
    """Return our answers to the server's requests."""
    messages = [request.message for request in server.requests if isinstance(request.message, dict)]
    return [message for message in messages if "method" not in message]


async def test_an_answer_reaches_the_tool_that_waits_for_it(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person(ACCEPTED)
    result = await mcp_client.call_tool(at(server), "ask_form", {}, ask=ann)
    assert result.structured == {"form": ACCEPTED}
    (question,) = ann.asked
    assert (question.mode, question.message) == ("form", "What do you want to order?")
    assert question.schema == asking.FORM
    posted = next(request for request in server.requests if request.message == answered(server)[0])
    assert posted.headers["mcp-session-id"] == server.sessions[0]


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_every_choice_about_a_visit_reaches_the_tool(mcp_server: StartServer, action: str) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person({"action": action})
    result = await mcp_client.call_tool(at(server), "ask_visit", {}, ask=ann)
    assert result.structured == {"visit": {"action": action}}
    assert (ann.asked[0].mode, ann.asked[0].url, ann.asked[0].elicitation_id) == ("url", asking.VISIT, "visit-7")


async def test_a_tool_may_ask_twice_on_one_stream(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person({"action": "accept", "content": {"name": "Ann"}}, {"action": "accept", "content": {"sure": True}})
    result = await mcp_client.call_tool(at(server), "ask_twice", {}, ask=ann)
    assert [question.message for question in ann.asked] == ["What is your name?", "Are you sure, Ann?"]
    assert result.structured == {"sure": {"action": "accept", "content": {"sure": True}}}
    assert server.count("tools/call") == 1


async def test_several_questions_are_open_at_once(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    both = asyncio.Event()
    modes: list[str] = []

    async def ann(questions: Questions) -> dict[str, Response]:
        ((key, question),) = questions.requests.items()
        modes.append(question.mode)
        if len(modes) == 2:
            both.set()
        await both.wait()
        return {key: ACCEPTED if question.mode == "form" else {"action": "accept"}}

    async with asyncio.timeout(PATIENCE):
        result = await mcp_client.call_tool(at(server), "ask_both", {}, ask=ann)
    assert sorted(modes) == ["form", "url"]
    assert result.structured == {"form": ACCEPTED, "visit": {"action": "accept"}}


async def test_without_anybody_to_ask_the_tool_hears_that_no_choice_was_made(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    result = await mcp_client.call_tool(at(server), "ask_form", {})
    assert result.structured == {"form": {"action": "cancel"}}


@pytest.mark.parametrize("clock", ["idle_timeout", "timeout"])
async def test_both_clocks_stand_still_while_a_person_thinks(mcp_server: StartServer, clock: str) -> None:
    server = mcp_server("legacy", asking.asking())
    result = await mcp_client.call_tool(at(server, **{clock: 0.4}), "ask_form", {}, ask=Person(ACCEPTED, thinks=0.8))
    assert result.structured == {"form": ACCEPTED}


@pytest.mark.parametrize(("clock", "kind"), [("idle_timeout", "idle"), ("timeout", "absolute")])
async def test_the_clocks_go_on_after_the_answer(mcp_server: StartServer, clock: str, kind: str) -> None:
    server = mcp_server("legacy")
    asked = elicits(1, asking.form("Sure?", asking.CONFIRMATION)["params"])
    server.rules.append(kinds.only_on("tools/call", kinds.streams(asked, hold=True)))
    ann = Person({"action": "cancel"}, thinks=0.4)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(mcp_client.TimedOut) as failure:
            await mcp_client.call_tool(at(server, **{clock: 0.3}), "echo", {}, ask=ann)
    assert (failure.value.kind, failure.value.outcome_unknown) == (kind, True)


async def test_a_caller_that_goes_away_withdraws_the_question(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person(ACCEPTED, thinks=60)
    call = asyncio.create_task(mcp_client.call_tool(at(server), "ask_form", {}, ask=ann))
    await until(lambda: ann.asked)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (call.cancelled(), ann.withdrawn) == (True, 1)
    assert asyncio.all_tasks() - {asyncio.current_task()} == {
        task for task in asyncio.all_tasks() if "_tell_cancelled" in repr(task) or "ServerStream" in repr(task)
    }
    await until(lambda: server.count("notifications/cancelled"))
    assert answered(server) == []


async def test_a_stream_that_breaks_withdraws_the_question(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    asked = elicits(1, asking.form("Sure?", asking.CONFIRMATION)["params"])
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def breaks(house: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        await kinds.streams(asked)(house, request, receive, _held(send, gone, loop))
        return True

    server.rules.append(kinds.only_on("tools/call", breaks))
    ann = Person(ACCEPTED, thinks=60)
    call = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {}, ask=ann))
    await until(lambda: ann.asked)
    gone.set()
    with pytest.raises(mcp_client.ConnectionLost) as loss:
        await call
    assert (loss.value.outcome_unknown, ann.withdrawn) == (True, 1)
    assert answered(server) == []


def _held(send: Any, gone: asyncio.Event, loop: asyncio.AbstractEventLoop) -> Callable[[Any], Awaitable[None]]:
    """Let the end of a body pass only when `gone` is set in the test's own loop."""

    async def held(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.body" and not event.get("more_body"):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_wait(gone), loop))
        await send(event)

    return held


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_server_that_answers_without_waiting_withdraws_the_question(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    asked = elicits(1, asking.form("Sure?", asking.CONFIRMATION)["params"])
    server.rules.append(kinds.only_on("tools/call", kinds.streams(asked, ends)))
    ann = Person(ACCEPTED, thinks=60)
    async with asyncio.timeout(PATIENCE):
        result = await mcp_client.call_tool(at(server), "echo", {}, ask=ann)
    assert result.content == []
    assert ann.withdrawn == len(ann.asked)


async def test_a_person_who_cannot_be_reached_made_no_choice(
    mcp_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = mcp_server("legacy", asking.asking())
    result = await mcp_client.call_tool(at(server), "ask_form", {}, ask=Person(error=RuntimeError("no database")))
    assert result.structured == {"form": {"action": "cancel"}}
    assert "could not be put to anybody" in caplog.text


async def test_an_unanswered_key_means_that_no_choice_was_made(mcp_server: StartServer) -> None:
    async def nobody(_: Questions) -> dict[str, Response]:
        return {}

    server = mcp_server("legacy", asking.asking())
    result = await mcp_client.call_tool(at(server), "ask_form", {}, ask=nobody)
    assert result.structured == {"form": {"action": "cancel"}}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"message": "Who?"},
        {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"a": {"type": "object"}}}},
        {"message": "Go", "mode": "url", "url": "javascript:alert(1)"},
        {"message": "Go", "mode": "telepathy"},
    ],
)
async def test_a_question_that_breaks_the_protocol_is_refused_and_the_call_goes_on(
    mcp_server: StartServer, params: dict[str, Any]
) -> None:
    server = mcp_server("legacy")
    server.rules.append(kinds.only_on("tools/call", kinds.streams(elicits("q", params), ends)))
    ann = Person()
    assert (await mcp_client.call_tool(at(server), "echo", {}, ask=ann)).content == []
    await until(lambda: answered(server))
    (answer,) = answered(server)
    assert (answer["id"], answer["error"]["code"], ann.asked) == ("q", -32602, [])


async def test_a_server_that_asks_without_end_is_no_longer_put_to_anybody(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    params = asking.visit("Go")["params"]
    server.rules.append(
        kinds.only_on("tools/call", kinds.streams(*(elicits(number, params) for number in range(25)), hold=True))
    )
    ann = Person(*[{"action": "accept"}] * 25)
    call = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {}, ask=ann))
    await until(lambda: len(answered(server)) == 25)
    assert len(ann.asked) == 20
    assert sum(answer["result"] == {"action": "cancel"} for answer in answered(server)) == 5
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_ping_is_answered_and_everything_else_refused_while_a_question_is_open(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    asked = elicits(1, asking.visit("Go")["params"])
    others = [elicits(2, {}, "ping"), elicits(3, {}, "sampling/createMessage")]
    server.rules.append(kinds.only_on("tools/call", kinds.streams(asked, *others, hold=True)))
    call = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {}, ask=Person(ACCEPTED, thinks=60)))
    await until(lambda: len(answered(server)) == 2)
    outcomes = {answer["id"]: answer.get("result", answer.get("error")) for answer in answered(server)}
    assert outcomes[2] == {}
    assert outcomes[3]["code"] == -32601
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_progress_while_a_person_thinks_is_heard(mcp_server: StartServer) -> None:
    def progress(request: Incoming) -> bytes:
        params = {"progressToken": request.rpc_id, "progress": 1}
        return (
            b"data: %b\n\n"
            % json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()
        )

    server = mcp_server("legacy")
    asked = elicits(1, asking.visit("Go")["params"])
    complete = (
        b'data: {"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"x"}}\n\n'
    )
    server.rules.append(kinds.only_on("tools/call", kinds.streams(asked, complete, progress, hold=True)))
    heard: list[float] = []
    ann = Person(ACCEPTED, thinks=2)
    with pytest.raises(mcp_client.TimedOut):
        await mcp_client.call_tool(
            at(server, idle_timeout=1.5), "echo", {}, ask=ann, progress=lambda step: heard.append(step.progress)
        )
    assert (heard, ann.withdrawn) == ([1], 0)
