"""A server of the handshake era asks on its session's own stream, which names no call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest

from tests.servers import asking, kinds
from tests.servers.aside import Aside
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tests.tools.mcp_client.test_elicitation import PATIENCE, Person, answered, at, elicits, ends, until
from tools import mcp_client
from tools.mcp_client import Questions, Response, server_stream
from tools.mcp_client.handshake import open_session
from tools.mcp_client.server_requests import MOST_REPLIES, ServerRequests

NAMED = {"action": "accept", "content": {"name": "Ann"}}
ASKED = asking.form("What is your name?", asking.ONE_NAME)["params"]
DISMISSED = {"action": "cancel"}


def streams_of(server: McpServer) -> int:
    """How often we asked for the session's own stream."""
    return sum(request.method == "GET" for request in server.requests)


def readers() -> list[asyncio.Task[Any]]:
    """The tasks that read such streams now."""
    return [task for task in asyncio.all_tasks() if "ServerStream" in repr(task)]


async def echo(server: McpServer, **more: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        await mcp_client.call_tool(at(server, **more), "echo", {"text": "x"})


@asynccontextmanager
async def under_way(server: McpServer, *people: Person, **more: Any) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Hold one call for each of these people open."""
    rule = kinds.only_on("tools/call", kinds.streams(b": wait\n\n", hold=True))
    server.rules.insert(0, rule)
    before = server.count("tools/call")
    calls = [
        asyncio.create_task(mcp_client.call_tool(at(server, **more), "echo", {"text": "x"}, ask=person))
        for person in people
    ]
    await until(lambda: server.count("tools/call") == before + len(people))
    try:
        yield calls
    finally:
        server.rules.remove(rule)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def with_aside(start: StartServer) -> tuple[McpServer, Aside]:
    server, aside = start("legacy"), Aside()
    server.rules.append(aside)
    return server, aside


@pytest.mark.parametrize("kind", ["legacy", "legacy json"])
async def test_a_question_beside_the_call_reaches_its_caller(mcp_server: StartServer, kind: str) -> None:
    server = mcp_server(kind, asking.asking())
    ann = Person(NAMED, NAMED)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            result = await mcp_client.call_tool(at(server), "ask_aside", {}, ask=ann)
            assert result.structured == NAMED
    posted = next(request for request in server.requests if request.message == answered(server)[0])
    assert posted.headers["mcp-session-id"] == server.sessions[0]
    assert (streams_of(server), len(ann.asked)) == (1, 2)


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_choice_beside_the_call_reaches_the_tool(mcp_server: StartServer, action: str) -> None:
    server = mcp_server("legacy", asking.asking())
    async with asyncio.timeout(PATIENCE):
        result = await mcp_client.call_tool(at(server), "ask_aside", {}, ask=Person({"action": action}))
    assert result.structured == {"action": action}


@pytest.mark.parametrize("clock", ["idle_timeout", "timeout"])
async def test_both_clocks_stand_still_while_a_person_thinks(mcp_server: StartServer, clock: str) -> None:
    server = mcp_server("legacy", asking.asking())
    ann = Person(NAMED, thinks=2.5)
    assert (await mcp_client.call_tool(at(server, **{clock: 2}), "ask_aside", {}, ask=ann)).structured == NAMED


async def test_the_clocks_go_on_after_the_answer(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    async with under_way(server, Person(NAMED, thinks=2), idle_timeout=1.5) as (call,):
        aside.say(elicits(1, ASKED))
        with pytest.raises(mcp_client.TimedOut) as failure:
            await call
    assert failure.value.kind == "idle"
    assert answered(server)[0]["result"] == NAMED


async def test_the_stream_is_opened_by_a_call_and_by_nothing_else(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))
    await mcp_client.list_tools(at(server))
    assert streams_of(server) == 0
    await asyncio.gather(*(echo(server) for _ in range(10)))
    (request,) = [request for request in server.requests if request.method == "GET"]
    assert request.headers["mcp-session-id"] == server.sessions[0]
    assert request.headers["mcp-protocol-version"] == "2025-11-25"
    assert request.headers["accept"] == "text/event-stream"
    assert "content-type" not in request.headers


async def test_a_server_without_sessions_is_not_asked_for_one(mcp_server: StartServer) -> None:
    server = mcp_server("legacy stateless")
    await echo(server)
    assert streams_of(server) == 0


REFUSALS = {
    "405": kinds.answers(405),
    "404": kinds.answers(404, b"Cannot GET /mcp", content_type="text/html"),
    "moved": kinds.answers(302, location="https://elsewhere.example/"),
    "web page": kinds.answers(200, b"<html>Welcome</html>", content_type="text/html"),
    "json": kinds.answers(200, b"{}"),
    "compressed": kinds.answers(200, b"x", content_type="text/event-stream", content_encoding="br"),
}


def on_get(rule: Any) -> Any:
    async def narrowed(server: Any, request: Any, receive: Any, send: Any) -> bool:
        return request.method == "GET" and await rule(server, request, receive, send)

    return narrowed


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_server_without_such_a_stream_is_asked_for_it_once(mcp_server: StartServer, refusal: str) -> None:
    server = mcp_server("legacy")
    server.rules.append(on_get(REFUSALS[refusal]))
    for _ in range(3):
        await echo(server)
    assert (streams_of(server), server.count("initialize"), server.executions("echo")) == (1, 1, 3)


@pytest.mark.parametrize("status", [401, 409, 429, 501, 503])
async def test_a_refusal_that_may_pass_is_tried_at_the_next_calls_but_not_for_ever(
    mcp_server: StartServer, status: int
) -> None:
    server = mcp_server("legacy")
    server.rules.append(on_get(kinds.answers(status)))
    for _ in range(6):
        await echo(server)
    assert (streams_of(server), server.executions("echo")) == (server_stream.MOST_MISSES, 6)


async def test_a_stream_that_somebody_else_still_reads_is_asked_for_until_it_is_free(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "_AT_ONCE", 0.001)
    server, aside = with_aside(mcp_server)
    refuses = kinds.answers(409)
    taken = iter([refuses] * 6)

    async def conflict(*more: Any) -> bool:
        rule = next(taken, None)
        return rule is not None and await rule(*more)

    server.rules.insert(0, on_get(conflict))
    session = await open_session(at(server))
    assert session.stream is not None
    session.stream.share(Alone())
    session.stream.hold()
    await until(lambda: aside.opened)
    assert streams_of(server) == 7
    session.stream.end()


async def test_a_stream_that_the_server_ends_is_asked_for_at_once_where_somebody_has_to_read_it(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "_BRIEF", 0.0)  # as if each had lasted for long
    monkeypatch.setattr(server_stream, "_SHORTEST_RETRY", 2 * PATIENCE)
    server, aside = with_aside(mcp_server)
    session = await open_session(at(server))
    assert session.stream is not None
    session.stream.share(Alone())
    session.stream.hold()
    for times in (1, 2, 3):
        await until(lambda times=times: len(aside.opened) == times)  # type: ignore[misc]
        aside.hang_up()
    session.stream.end()


async def test_a_stream_that_somebody_has_to_read_outlasts_what_may_pass(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "_SHORTEST_RETRY", 0.001)
    server, aside = with_aside(mcp_server)
    trouble = iter([kinds.answers(503), kinds.answers(401), kinds.streams(), *[kinds.answers(502)] * 5])

    async def outage(*more: Any) -> bool:
        rule = next(trouble, None)
        return rule is not None and await rule(*more)

    server.rules.insert(0, on_get(outage))
    session = await open_session(at(server))
    assert session.stream is not None
    session.stream.share(Alone())
    session.stream.hold()
    await until(lambda: aside.opened)
    assert streams_of(server) == 9
    session.stream.end()


class Alone:
    """No other process makes calls in the session."""

    async def running(self) -> list[ServerRequests] | None:
        return []


async def test_a_stream_that_ends_at_once_is_given_up(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.append(on_get(kinds.streams()))
    for _ in range(6):
        await echo(server)
    assert (streams_of(server), server.executions("echo")) == (server_stream.MOST_MISSES, 6)


async def test_a_stream_that_never_comes_up_holds_only_the_first_calls_up_and_only_for_a_moment(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server_stream, "IDLE_SECONDS", 0.6)
    server = mcp_server("legacy")
    server.rules.append(on_get(kinds.hangs))
    await mcp_client.discover(at(server))
    began = time.monotonic()
    await asyncio.gather(*(echo(server) for _ in range(3)))
    assert 0.3 <= time.monotonic() - began < PATIENCE
    monkeypatch.setattr(server_stream, "HEAD_SECONDS", 60.0)
    await echo(server)
    assert streams_of(server) == 1
    await until(lambda: not readers())
    await echo(server)
    await until(lambda: streams_of(server) == 2)
    assert server.executions("echo") == 5


async def test_a_stream_that_comes_up_late_is_heard(mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_stream, "HEAD_SECONDS", 0.1)
    server, aside = mcp_server("legacy"), Aside()
    let_up = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def late(*arguments: Any) -> bool:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(let_up.wait(), loop))
        return await aside(*arguments)

    server.rules.append(on_get(late))
    async with under_way(server, ann := Person(NAMED, thinks=60)):
        assert aside.opened == []
        let_up.set()
        await until(lambda: aside.opened)
        aside.say(elicits(1, ASKED))
        await until(lambda: ann.asked)


async def test_a_flood_is_cut_off_and_harms_no_call(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.append(on_get(kinds.streams(*[b": " + b"x" * 100_000 + b"\n"] * 50, hold=True)))
    for _ in range(6):
        await echo(server, max_bytes=300_000)
        await until(lambda: not readers())
    assert (streams_of(server), server.executions("echo")) == (server_stream.MOST_MISSES, 6)


async def test_garbage_is_passed_over(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    async with under_way(server, ann := Person(NAMED)):
        aside.say(b"data: {\n\n", b"data: [1]\n\n", b"data: 7\n\n", b"data: %b\n\n" % (b"[" * 500 + b"]" * 500))
        aside.say(b"event: other\ndata: {}\n\n", b'data: {"id": 1, "result": {}}\n\n', b"\xff\xfe\0\n\n")
        aside.say(b'data: {"jsonrpc":"2.0","method":"notifications/message","params":[]}\n\n')
        aside.say(b'data: {"jsonrpc":"2.0","id":[],"method":{"a":1}}\n\n')
        aside.say(elicits(2, {"message": "Who?"}), elicits(3, ASKED))
        await until(lambda: ann.asked and len(answered(server)) == 3)
    assert {str(answer["id"]): "error" in answer for answer in answered(server)} == {"[]": True, "2": True, "3": False}


async def test_ping_is_answered_and_what_no_person_can_give_is_refused(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    await echo(server)
    aside.say(elicits(1, {}, "ping"), elicits(2, {}, "sampling/createMessage"), elicits(3, {}, "roots/list"))
    await until(lambda: len(answered(server)) == 3)
    outcomes = {answer["id"]: answer.get("error", {}).get("code") for answer in answered(server)}
    assert outcomes == {1: None, 2: -32601, 3: -32601}


async def test_a_question_that_belongs_to_no_call_is_put_to_nobody(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    await echo(server)
    aside.say(elicits(1, ASKED))
    await until(lambda: answered(server))
    assert answered(server)[0]["result"] == DISMISSED


async def test_a_question_that_may_belong_to_either_of_two_calls_is_put_to_nobody(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    ann, bob = Person(), Person()
    async with under_way(server, ann, bob):
        aside.say(elicits(1, ASKED))
        await until(lambda: answered(server))
    assert (answered(server)[0]["result"], ann.asked, bob.asked) == (DISMISSED, [], [])


async def test_a_question_that_an_abandoned_call_may_have_left_is_put_to_nobody(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, aside = with_aside(mcp_server)
    async with under_way(server, Person()):
        pass
    async with under_way(server, bob := Person(NAMED)):
        aside.say(elicits(1, ASKED))
        await until(lambda: answered(server))
        assert (answered(server)[0]["result"], bob.asked) == (DISMISSED, [])
    monkeypatch.setattr(server_stream, "_DOUBT_SECONDS", 0.0)
    async with under_way(server, Person()):
        pass
    async with under_way(server, eve := Person(NAMED)):
        aside.say(elicits(2, ASKED))
        await until(lambda: len(answered(server)) == 2)
        assert (answered(server)[1]["result"], len(eve.asked)) == (NAMED, 1)


async def test_a_caller_that_goes_away_withdraws_the_question(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    ann = Person(NAMED, thinks=60)
    async with under_way(server, ann) as (call,):
        aside.say(elicits(1, ASKED))
        await until(lambda: ann.asked)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until(lambda: server.count("notifications/cancelled"))
    assert (call.cancelled(), ann.withdrawn, answered(server)) == (True, 1, [])


async def test_a_call_that_ends_withdraws_the_question(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    ann = Person(NAMED, thinks=60)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def answers_late(house: McpServer, request: Any, receive: Any, send: Any) -> bool:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked.wait(), loop))
        return await kinds.streams(ends)(house, request, receive, send)

    server.rules.insert(0, kinds.only_on("tools/call", answers_late))
    call = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {}, ask=ann))
    await until(lambda: server.count("tools/call"))
    aside.say(elicits(1, ASKED))
    await until(lambda: ann.asked)
    asked.set()
    assert (await call).content == []
    assert (ann.withdrawn, answered(server)) == (1, [])


async def test_a_stream_that_breaks_in_the_middle_of_a_call_is_resumed(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "_SHORTEST_RETRY", 0.01)
    server, aside = with_aside(mcp_server)
    async with under_way(server, ann := Person(NAMED)):
        aside.say(b"id: 7\ndata:\n\n")
        aside.hang_up()
        await until(lambda: len(aside.opened) == 2)
        aside.say(elicits(1, ASKED))
        await until(lambda: answered(server))
    assert (answered(server)[0]["result"], len(ann.asked)) == (NAMED, 1)
    assert [request.headers.get("last-event-id") for request in aside.opened] == [None, "7"]


async def test_the_next_call_opens_the_stream_again_with_the_newest_token(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    old, new = ((("Authorization", f"Bearer {token}"),) for token in ("old", "new"))
    await echo(server, headers=old)
    aside.hang_up()
    await until(lambda: aside.closed)
    await echo(server, headers=new)
    await until(lambda: len(aside.opened) == 2)
    aside.say(elicits(1, {}, "ping"))
    await until(lambda: answered(server))
    assert [request.headers["authorization"] for request in aside.opened] == ["Bearer old", "Bearer new"]
    posted = next(request for request in server.requests if request.message == answered(server)[0])
    assert (posted.headers["authorization"], server.count("initialize")) == ("Bearer new", 1)


async def test_the_stream_is_closed_when_no_call_came_for_a_while(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_stream, "IDLE_SECONDS", 0.2)
    server, aside = with_aside(mcp_server)
    await mcp_client.call_tool(at(server), "slow", {"steps": 5, "pause": 0.1})
    assert (len(aside.opened), aside.closed) == (1, 0)
    await until(lambda: aside.closed and not readers())
    await echo(server)
    assert (len(aside.opened), server.count("initialize")) == (2, 1)


async def test_closing_a_session_closes_its_stream(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    await echo(server)
    await mcp_client.close(at(server))
    await until(lambda: aside.closed and not readers())


async def test_an_expired_session_takes_its_stream_along(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    await echo(server)
    first = server.sessions[0]
    server.expire_sessions()
    await echo(server)
    await until(lambda: aside.closed)
    assert [request.headers["mcp-session-id"] for request in aside.opened] == [first, server.sessions[1]]


async def test_a_forgotten_session_keeps_its_stream_for_the_call_that_is_under_way(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    async with under_way(server, ann := Person(NAMED)):
        server.rules.insert(0, kinds.once(kinds.only_on("tools/call", kinds.answers(409))))
        with pytest.raises(mcp_client.UnexpectedStatus):
            await mcp_client.call_tool(at(server), "echo", {"text": "x"})
        aside.say(elicits(1, ASKED))
        await until(lambda: answered(server))
        assert (answered(server)[0]["result"], len(ann.asked), aside.closed) == (NAMED, 1, 0)
    await until(lambda: aside.closed)


async def test_another_credential_has_a_stream_of_its_own(mcp_server: StartServer) -> None:
    server, aside = with_aside(mcp_server)
    await echo(server)
    await mcp_client.call_tool(replace(at(server), key="next generation"), "echo", {"text": "x"})
    assert {request.headers["mcp-session-id"] for request in aside.opened} == set(server.sessions)
    assert len(server.sessions) == 2


async def test_a_server_that_asks_faster_than_it_takes_answers_gets_no_more(mcp_server: StartServer) -> None:
    async def hangs_on_answers(house: McpServer, request: Any, receive: Any, send: Any) -> bool:
        ours = isinstance(request.message, dict) and "method" not in request.message
        return ours and await kinds.hangs(house, request, receive, send)

    server, aside = with_aside(mcp_server)
    server.rules.insert(0, hangs_on_answers)
    async with under_way(server, ann := Person(NAMED, thinks=60)):
        aside.say(*(elicits(number, {}, "ping") for number in range(5 * MOST_REPLIES)), elicits("last", ASKED))
        await until(lambda: ann.asked)
        await until(lambda: len(answered(server)) == MOST_REPLIES)


async def test_a_question_is_put_in_the_context_of_its_call(mcp_server: StartServer) -> None:
    server = mcp_server("legacy", asking.asking())
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    callers: list[str] = []

    async def whoever(questions: Questions) -> dict[str, Response]:
        callers.append(caller.get())
        return dict.fromkeys(questions.requests, NAMED)

    for name in ("ann", "bob"):
        caller.set(name)
        await mcp_client.call_tool(at(server), "ask_aside", {}, ask=whoever)
    assert callers == ["ann", "bob"]
