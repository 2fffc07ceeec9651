"""Sessions of the handshake era: opened once, kept, opened again when they expire, and closed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pytest_django import Settings

from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer
from tests.tools.mcp_client.test_elicitation import until
from tools import mcp_client
from tools.mcp_client import Server, sessions
from tools.mcp_client.handshake import open_session


def at(server: McpServer) -> Server:
    return Server(key=server.url, url=server.url, era="legacy")


@pytest.mark.parametrize("kind", ["legacy", "legacy stateless", "legacy json"])
async def test_a_call_on_a_live_session_is_exactly_one_request(mcp_server: StartServer, kind: str) -> None:
    server = mcp_server(kind)
    await mcp_client.discover(at(server))
    handshake = len(server.requests)
    assert [request.rpc_method for request in server.requests] == ["initialize", "notifications/initialized"]
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    before = len(server.requests)
    for _ in range(3):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert len(server.requests) == before + 3
    first = [request.method for request in server.requests[handshake:before]]
    assert first == (["POST"] if kind == "legacy stateless" else ["GET", "POST"])


async def test_the_negotiated_version_and_session_travel_in_headers(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    headers = server.requests[-1].headers
    assert headers["mcp-protocol-version"] == "2025-11-25"
    assert headers["mcp-session-id"] == server.sessions[0]
    assert "mcp-method" not in headers


async def test_tcp_connections_are_reused(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    for _ in range(20):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.connections <= 4  # one of them is the session's own stream


async def test_many_first_calls_open_one_session(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await asyncio.gather(*(mcp_client.call_tool(at(server), "echo", {"text": "x"}) for _ in range(20)))
    assert server.count("initialize") == 1
    assert server.executions("echo") == 20


async def test_a_caller_that_leaves_does_not_take_the_handshake_along(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    leaving = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {"text": "x"}))
    staying = asyncio.create_task(mcp_client.call_tool(at(server), "echo", {"text": "y"}))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).content[0]["text"] == "y"
    assert server.count("initialize") == 1


async def test_an_expired_session_is_opened_again_once_and_the_call_runs_once(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    server.expire_sessions()
    results = await asyncio.gather(*(mcp_client.call_tool(at(server), "echo", {"text": "y"}) for _ in range(10)))
    assert all(result.content[0]["text"] == "y" for result in results)
    assert server.count("initialize") == 2
    assert server.executions("echo") == 11


async def test_a_session_that_never_lives_is_given_up(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("tools/call", kinds.answers(404)))
    with pytest.raises(mcp_client.UnexpectedStatus) as refusal:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.count("tools/call") == 2
    assert not refusal.value.outcome_unknown


async def test_a_session_refused_with_400_is_opened_again_once(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))
    refusal = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID provided"}}'
    gone, refuses = set(server.sessions), kinds.answers(400, refusal)

    async def forgotten(_: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        in_vain = request.rpc_method == "tools/call" or request.headers.get("mcp-session-id") in gone
        return in_vain and await refuses(server, request, receive, send)

    server.rules.insert(0, forgotten)
    with pytest.raises(mcp_client.UnexpectedStatus):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.count("tools/call") == 2
    del server.rules[0]
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.executions("echo") == 1


async def test_a_refusal_of_one_request_with_400_is_no_lost_session(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", kinds.answers(400)))
    with pytest.raises(mcp_client.UnexpectedStatus):
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert server.count("tools/call") == 1


async def test_a_failed_handshake_is_tried_again_by_the_next_caller(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.answers(503))
    with pytest.raises(mcp_client.ServerFailed) as failure:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert not failure.value.sent
    del server.rules[0]
    assert (await mcp_client.call_tool(at(server), "echo", {"text": "x"})).content[0]["text"] == "x"


async def test_another_credential_never_uses_the_same_session(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    await mcp_client.call_tool(replace(at(server), key="next generation"), "echo", {"text": "x"})
    assert len(server.sessions) == 2


async def test_closing_deletes_the_session_at_the_server(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    await mcp_client.close(at(server))
    assert server.requests[-1].method == "DELETE"
    assert server.requests[-1].headers["mcp-session-id"] == server.sessions[0]
    await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert len(server.sessions) == 2


async def test_closing_what_was_never_open_does_nothing(mcp_server: StartServer) -> None:
    await mcp_client.close(Server(key="nobody", url="https://mcp.example.com/mcp"))


async def test_a_handshake_with_an_unknown_version_is_refused(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.says(result={"protocolVersion": "1999-01-01", "capabilities": {}}))
    with pytest.raises(mcp_client.UnsupportedVersion):
        await mcp_client.discover(at(server))


async def test_a_stream_that_the_server_ends_early_is_resumed_without_a_second_call(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))
    asked: list[int] = []

    async def ends_early(_: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        asked.append(request.rpc_id)
        return await kinds.streams(b"id: 7\nretry: 10\ndata:\n\n")(server, request, receive, send)

    async def goes_on(_: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        if request.method != "GET" or request.headers["last-event-id"] != "7":
            return False
        answer = b'id: 8\ndata: {"jsonrpc":"2.0","id":%d,"result":{"content":[]}}\n\n' % asked[0]
        return await kinds.streams(answer)(server, request, receive, send)

    server.behave(kinds.only_on("tools/call", ends_early), goes_on)
    assert (await mcp_client.call_tool(at(server), "echo", {"text": "x"})).content == []
    assert len(asked) == 1


async def test_a_stream_that_cannot_be_resumed_loses_the_call(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))
    server.behave(kinds.only_on("tools/call", kinds.streams(b"id: 7\nretry: 10\ndata:\n\n")), kinds.answers(405))
    with pytest.raises(mcp_client.ConnectionLost) as failure:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert failure.value.outcome_unknown


async def test_a_server_that_may_not_be_reached_again_in_the_middle_leaves_the_outcome_open(
    mcp_server: StartServer, settings: Settings
) -> None:
    server = mcp_server("legacy")
    await mcp_client.discover(at(server))

    async def leaves(_: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        settings.EGRESS_ALLOWED_NETWORKS = []
        headers = [(b"content-type", b"text/event-stream"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"id: 7\nretry: 10\ndata:\n\n"})
        return True

    server.behave(kinds.only_on("tools/call", leaves))
    with pytest.raises(mcp_client.ConnectionLost) as failure:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert failure.value.outcome_unknown


async def test_two_owners_never_share_a_session(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    acme, rival = (replace(at(server), owner=name) for name in ("acme", "rival"))
    for owner in (acme, rival, acme, rival):
        await mcp_client.call_tool(owner, "echo", {"text": "x"})
    used = [request.headers["mcp-session-id"] for request in server.requests if request.rpc_method == "tools/call"]
    assert used[0] == used[2] != used[1] == used[3]


async def test_owners_of_a_server_without_sessions_share_its_handshake(mcp_server: StartServer) -> None:
    server = mcp_server("legacy stateless")
    for owner in ("acme", "rival", "third"):
        await mcp_client.call_tool(replace(at(server), owner=owner), "echo", {"text": "x"})
    assert server.count("initialize") == 1


async def test_shared_handshakes_make_room_for_others(mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    server = mcp_server("legacy stateless")
    revisions = [replace(at(server), key=f"connection/{revision}") for revision in range(5)]
    for revision in revisions:
        sessions.share(await open_session(revision))
        sessions.share(await open_session(revision))
    kept = [revision.key for revision in revisions if sessions.stateless(revision) is not None]
    assert kept == ["connection/2", "connection/3", "connection/4"]


async def test_of_what_a_server_says_about_itself_only_short_words_are_kept(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    facts = {"protocolVersion": "2025-11-25", "capabilities": {f"{number:05}": {} for number in range(10_000)}}
    info = {"serverInfo": {"name": "n" * 5000, "version": "v" * 5000}, "instructions": "i" * 50_000}
    server.rules.insert(0, kinds.only_on("initialize", kinds.says(result=facts | info)))
    assert len(repr(await mcp_client.discover(at(server)))) < 1000


async def test_a_session_that_makes_room_for_others_is_ended_at_its_server(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    server = mcp_server("legacy")
    for owner in ("first", "second", "first", "third"):
        await mcp_client.call_tool(replace(at(server), owner=owner), "echo", {"text": "x"})

    def ended() -> list[str]:
        return [request.headers["mcp-session-id"] for request in server.requests if request.method == "DELETE"]

    await until(ended)
    assert ended() == [server.sessions[1]], "the one that was not used for the longest time"
