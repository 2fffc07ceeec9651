"""What becomes of a call: answers, progress, trouble, and what is known about its outcome."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer
from tests.servers.toolbox import PIXEL
from tools import mcp_client
from tools.mcp_client import Era, Progress, Server

KINDS = ["modern", "dual", "json", "legacy", "legacy stateless", "legacy json"]
PATIENCE = 10.0  # seconds


def at(server: McpServer, era: Era = "modern", **more: Any) -> Server:
    return Server(key=server.url, url=server.url, era=era, **more)


def suiting(server: McpServer, kind: str) -> Server:
    return at(server, "legacy" if kind.startswith("legacy") else "modern")


async def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_content_arrives_as_sent(mcp_server: StartServer, kind: str) -> None:
    server = suiting(mcp_server(kind), kind)
    echoed = await mcp_client.call_tool(server, "echo", {"text": "Grüße 🎈"})
    assert (echoed.content, echoed.is_error) == ([{"type": "text", "text": "Grüße 🎈"}], False)
    assert (await mcp_client.call_tool(server, "add", {"a": 2, "b": 3})).structured == {"total": 5}
    (image,) = (await mcp_client.call_tool(server, "picture", {})).content
    assert (image["mimeType"], image["data"]) == ("image/png", PIXEL)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_that_fails_is_an_answer_not_an_error(mcp_server: StartServer, kind: str) -> None:
    result = await mcp_client.call_tool(suiting(mcp_server(kind), kind), "fail", {})
    assert result.is_error
    assert result.content[0]["text"] == "No such order."


async def test_a_modern_call_is_exactly_one_request(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    (request,) = server.requests
    assert (request.headers["mcp-method"], request.headers["mcp-name"]) == ("tools/call", "echo")
    assert request.headers["accept-encoding"] == "identity"


async def test_an_unknown_era_is_found_out_first(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    result = await mcp_client.call_tool(at(server, "unknown"), "echo", {"text": "x"})
    assert result.content[0]["text"] == "x"
    assert server.executions("echo") == 1


async def test_unknown_members_of_a_result_are_kept(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(result={"content": [{"type": "hologram", "x-depth": 3}], "x-cost": 1}))
    result = await mcp_client.call_tool(at(server), "echo", {})
    assert result.content == [{"type": "hologram", "x-depth": 3}]
    assert result.raw["x-cost"] == 1


async def test_names_outside_ascii_are_called(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.toolbox.add("größe")
    assert (await mcp_client.call_tool(at(server), "größe", {"text": "x"})).content[0]["text"] == "x"
    assert server.requests[0].headers["mcp-name"].startswith("=?base64?")


async def test_marked_arguments_are_repeated_as_headers(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    mirrored = mcp_client.header_map(server.toolbox.definitions["route"]["inputSchema"])
    result = await mcp_client.call_tool(at(server), "route", {"region": "zürich"}, mirrored=mirrored)
    assert result.structured == {"region": "zürich"}
    assert result.content[0]["text"].startswith("=?base64?")
    with pytest.raises(mcp_client.RpcError) as refusal:
        await mcp_client.call_tool(at(server), "route", {"region": "zürich"})
    assert refusal.value.rpc_code == -32020


async def test_credentials_reach_the_server_and_no_repr(mcp_server: StartServer) -> None:
    server = mcp_server("behind 401")
    trusted = at(server, headers=(("Authorization", f"Bearer {kinds.TOKEN}"),))
    assert (await mcp_client.call_tool(trusted, "echo", {"text": "x"})).content[0]["text"] == "x"
    assert kinds.TOKEN not in repr(trusted)
    with pytest.raises(mcp_client.Unauthorized):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.executions("echo") == 1


async def test_a_named_header_carries_an_api_key(mcp_server: StartServer) -> None:
    server = mcp_server("api key")
    trusted = at(server, headers=(("X-API-Key", kinds.API_KEY),))
    assert (await mcp_client.call_tool(trusted, "echo", {"text": "x"})).content[0]["text"] == "x"
    with pytest.raises(mcp_client.Unauthorized):
        await mcp_client.discover(at(server))


async def test_a_custom_header_never_replaces_one_of_the_transport(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    sly = at(server, headers=(("Content-Length", "0"), ("MCP-Method", "ping"), ("Host", "elsewhere.example")))
    assert (await mcp_client.call_tool(sly, "echo", {"text": "x"})).content[0]["text"] == "x"


async def test_a_server_may_list_openly_and_ask_for_a_sign_in_on_calls(mcp_server: StartServer) -> None:
    server = at(mcp_server("open listing"))
    assert (await mcp_client.list_tools(server)).tools
    with pytest.raises(mcp_client.Unauthorized) as refusal:
        await mcp_client.call_tool(server, "echo", {"text": "x"})
    assert "scope" in (refusal.value.www_authenticate or "")
    assert not refusal.value.outcome_unknown


# --- progress and streams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["modern", "dual", "legacy", "legacy stateless"])
async def test_progress_is_heard_while_the_tool_runs(mcp_server: StartServer, kind: str) -> None:
    heard: list[Progress] = []
    server = suiting(mcp_server(kind), kind)
    result = await mcp_client.call_tool(server, "slow", {"steps": 3, "pause": 0.01}, progress=heard.append)
    assert result.content[0]["text"] == "done"
    assert heard == [Progress(1, 3, "step 1"), Progress(2, 3, "step 2"), Progress(3, 3, "step 3")]


async def test_progress_winds_the_idle_clock_up_again(mcp_server: StartServer) -> None:
    server = at(mcp_server("modern"), idle_timeout=2)
    result = await mcp_client.call_tool(server, "slow", {"steps": 11, "pause": 0.25})
    assert result.content[0]["text"] == "done"


async def test_progress_does_not_stop_the_absolute_clock(mcp_server: StartServer) -> None:
    server = at(mcp_server("modern"), timeout=0.5)
    with pytest.raises(mcp_client.TimedOut) as late:
        await mcp_client.call_tool(server, "slow", {"steps": 1000, "pause": 0.05})
    assert (late.value.kind, late.value.outcome_unknown) == ("absolute", True)


async def test_a_server_that_hangs_runs_into_the_idle_clock(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.TimedOut) as late:
        await mcp_client.call_tool(at(mcp_server("hangs"), idle_timeout=0.2), "echo", {"text": "x"})
    assert (late.value.kind, late.value.outcome_unknown) == ("idle", True)


async def test_questions_of_the_server_are_refused_and_the_call_goes_on(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    result = await mcp_client.call_tool(at(server, "legacy", idle_timeout=5), "ask_back", {})
    assert "refused" in result.content[0]["text"]


async def test_pings_noise_and_odd_line_ends_in_a_stream_are_no_trouble(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    session = at(server, "legacy")
    await mcp_client.discover(session)

    def answer(request: Incoming) -> bytes:
        return b'data: {"jsonrpc":"2.0","id":%d,\r\ndata: "result":{"content":[]}}\r\n\r\n' % request.rpc_id

    noise = (
        b"\xef\xbb\xbf: hello\r\revent: other\ndata: x\n\n",
        b'id: 1\ndata: {"jsonrpc":"2.0","id":"p1","method":"ping"}\n\n',
        b'data: {"jsonrpc":"2.0","method":"notifications/unheard_of","params":[1]}\n\n',
    )
    server.rules.insert(0, kinds.only_on("tools/call", kinds.streams(*noise, answer, hold=True)))
    assert (await mcp_client.call_tool(session, "echo", {})).content == []
    await until(lambda: any(r.message == {"jsonrpc": "2.0", "id": "p1", "result": {}} for r in server.requests))


# --- trouble --------------------------------------------------------------------------------------------------------


async def test_an_answer_over_the_cap_is_cut_off_early(mcp_server: StartServer) -> None:
    started = time.monotonic()
    with pytest.raises(mcp_client.AnswerTooLarge) as refusal:
        await mcp_client.call_tool(at(mcp_server("floods"), max_bytes=100_000), "echo", {"text": "x"})
    assert refusal.value.outcome_unknown
    assert refusal.value.sentence.startswith("The server's answer is larger than 0.1 MB, the most that is read of one.")
    assert time.monotonic() - started < 5


async def test_an_answer_that_announces_too_much_is_not_read(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.answers(200, b"x" * 2000))
    with pytest.raises(mcp_client.AnswerTooLarge):
        await mcp_client.call_tool(at(server, max_bytes=1000), "echo", {"text": "x"})


async def test_a_stream_over_the_cap_is_cut_off(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.streams(b": " + b"x" * 5000, hold=True))
    with pytest.raises(mcp_client.AnswerTooLarge):
        await mcp_client.call_tool(at(server, max_bytes=1000), "echo", {"text": "x"})


async def test_a_broken_stream_loses_the_call_and_says_so(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.ConnectionLost) as failure:
        await mcp_client.call_tool(at(mcp_server("drops")), "echo", {"text": "x"})
    assert failure.value.outcome_unknown


async def test_a_stream_that_ends_without_an_answer_loses_the_call(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.streams(b": bye\n\n"))
    with pytest.raises(mcp_client.ConnectionLost) as failure:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert failure.value.outcome_unknown


ANSWERS: dict[str, Any] = {
    "half a document": kinds.answers(200, b'{"jsonrpc": "2.0", "id"'),
    "no object": kinds.answers(200, b"[1]"),
    "no JSON-RPC": kinds.answers(200, b'{"content": []}'),
    "a wrong id": kinds.says(result={"content": []}, id=999_999_999),
    "no result": kinds.says(),
    "content that is a number": kinds.says(result={"content": 5}),
    "blocks that are numbers": kinds.says(result={"content": [5]}),
    "a bomb of brackets": kinds.answers(200, b"[" * 100_000),
    "depth that cannot be written again": kinds.answers(
        200, b'{"jsonrpc":"2.0","id":1,"result":' + b'{"a":' * 300 + b"1" + b"}" * 301
    ),
    "nothing": kinds.answers(202),
    "a compressed answer": kinds.answers(200, b"{}", content_encoding="gzip"),
    "a stream with a wrong id": kinds.streams(b'data: {"jsonrpc":"2.0","id":0,"result":{}}\n\n'),
    "a stream of no messages": kinds.streams(b"data: 5\n\n"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_breaks_the_protocol_is_named_as_such(mcp_server: StartServer, answer: Any) -> None:
    server = mcp_server("dual")
    server.behave(answer)
    with pytest.raises(mcp_client.BadAnswer) as failure:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert failure.value.sent


async def test_half_an_emoji_does_not_spoil_an_answer(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(result={"content": [{"type": "text", "text": "cut \ud83d, whole 🎈, \\ud83d"}]}))
    result = await mcp_client.call_tool(at(server), "echo", {})
    assert result.content[0]["text"] == "cut \ufffd, whole 🎈, \\ud83d"


async def test_what_a_server_says_stays_out_of_the_message(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(error={"code": -32603, "message": "secret detail"}))
    with pytest.raises(mcp_client.RpcError) as failure:
        await mcp_client.call_tool(at(server), "echo", {})
    assert "secret" not in str(failure.value)
    assert (failure.value.rpc_message, failure.value.rpc_code) == ("secret detail", -32603)
    assert not failure.value.outcome_unknown


@pytest.mark.parametrize(("status", "unknown"), [(500, False), (503, False), (502, True), (504, True), (524, True)])
async def test_only_a_proxy_that_lost_the_server_leaves_the_outcome_open(
    mcp_server: StartServer, status: int, unknown: bool
) -> None:
    server = mcp_server("dual")
    server.behave(kinds.answers(status))
    with pytest.raises(mcp_client.ServerFailed) as failure:
        await mcp_client.call_tool(at(server), "echo", {})
    assert (failure.value.status, failure.value.outcome_unknown) == (status, unknown)


async def test_a_tool_that_wants_input_is_told_apart(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(result={"resultType": "input_required", "inputRequests": {}, "requestState": "s"}))
    with pytest.raises(mcp_client.NeedsMore) as refusal:
        await mcp_client.call_tool(at(server), "echo", {})
    assert refusal.value.result_type == "input_required"


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [({"text": object()}, ()), ({"text": 2**70}, ()), ({}, (("X-A", "a\r\nX-B: b"),)), ({}, (("X-A", "🎈"),))],
)
async def test_what_cannot_be_written_never_leaves(mcp_server: StartServer, arguments: Any, headers: Any) -> None:
    server = mcp_server("dual")
    with pytest.raises(mcp_client.Unsendable) as refusal:
        await mcp_client.call_tool(at(server, headers=headers), "echo", arguments)
    assert not refusal.value.sent
    assert server.requests == []


async def test_a_failed_call_is_never_sent_again(mcp_server: StartServer) -> None:
    server = mcp_server("drops")
    for _ in range(2):
        with pytest.raises(mcp_client.ConnectionLost):
            await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.count("tools/call") == 2


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_one_broken_call_does_not_hurt_its_siblings(mcp_server: StartServer) -> None:
    server = mcp_server("modern")

    async def drop_the_bad(house: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        bad = request.rpc_method == "tools/call" and request.message["params"]["name"] == "fail"
        return bad and await kinds.drops(house, request, receive, send)

    server.rules.append(drop_the_bad)
    names = ["echo", "fail"] * 10
    results = await asyncio.gather(
        *(mcp_client.call_tool(at(server), name, {"text": name}) for name in names), return_exceptions=True
    )
    for name, result in zip(names, results, strict=True):
        assert isinstance(result, mcp_client.ConnectionLost if name == "fail" else mcp_client.ToolResult)


async def test_concurrent_calls_get_each_its_own_answer(mcp_server: StartServer) -> None:
    server = at(mcp_server("legacy"), "legacy")
    texts = [str(number) for number in range(40)]
    results = await asyncio.gather(*(mcp_client.call_tool(server, "echo", {"text": text}) for text in texts))
    assert [result.content[0]["text"] for result in results] == texts


async def test_a_cancelled_modern_call_hangs_up(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    over = asyncio.Event()

    async def notice(*parts: Any) -> bool:
        await kinds.hangs(*parts)
        loop.call_soon_threadsafe(over.set)
        return True

    loop = asyncio.get_running_loop()
    server.rules.append(notice)
    call = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {"text": "x"}))
    await until(lambda: server.requests)
    call.cancel()
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    assert call.cancelled()
    assert server.count("notifications/cancelled") == 0


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_an_abandoned_legacy_call_tells_the_server(mcp_server: StartServer, how: str) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server, "legacy"))  # opens the session, however long that takes
    session = at(server, "legacy", idle_timeout=2 if how == "timed out" else 60)
    call = asyncio.create_task(mcp_client.call_tool(session, "slow", {"steps": 1, "pause": 5}))
    await until(lambda: server.count("tools/call"))
    if how == "cancelled":
        call.cancel()
    await until(lambda: server.count("notifications/cancelled"))
    asked = next(request.rpc_id for request in server.requests if request.rpc_method == "tools/call")
    (told,) = [request.message for request in server.requests if request.rpc_method == "notifications/cancelled"]
    assert told["params"]["requestId"] == asked
    await asyncio.gather(call, return_exceptions=True)


async def test_the_body_is_plain_json_with_the_envelope(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"}, meta={"traceparent": "00-a-b-01"})
    sent = json.loads(server.requests[0].body)
    assert sent["params"]["arguments"] == {"text": "x"}
    assert sent["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert sent["params"]["_meta"]["traceparent"] == "00-a-b-01"
    assert sent["params"]["_meta"]["progressToken"] == sent["id"]
