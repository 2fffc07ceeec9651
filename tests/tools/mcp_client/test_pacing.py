"""A stream of very many very small messages holds nobody else up, and has an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer, Receive, Send
from tests.tools.calls.test_large_answers import Heart
from tools import mcp_client
from tools.mcp_client import pacing
from tools.mcp_client.errors import BadAnswer

SIZE = 1_900_000  # bytes; an answer may have two million
ANSWER = (
    b'data: {"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"Graz"}],"resultType":"complete"}}\n\n'
)
LEFT_OUT = [b"\n", b":\n", b"id:1\n", b"retry:1\n", b"event:a\n\n", b"data\n\n"]  # lines of which no message comes
MESSAGES = [
    b"data:x\n\n", b"data:{\n\n", b'data:{"a":\n\n', b"data:{}\n\n", b"data:[]\n\n", b"data:1\n\n",
    b'data:{"method":"notifications/message"}\n\n', b'data:{"id":1,"method":"ping"}\n\n',
]  # fmt: skip


def says(much: bytes) -> Any:
    """Answer a call with this, and then with its result, in one stream."""

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        return await kinds.respond(send, 200, much + ANSWER % request.rpc_id, content_type="text/event-stream")

    return kinds.only_on("tools/call", rule)


async def called(mcp_server: StartServer, much: bytes) -> tuple[mcp_client.ToolResult | None, str, float]:
    """Return the result or what is said of it, and the longest time for which our loop did nothing else."""
    server = mcp_server("modern")
    server.behave(kinds.only_modern, says(much))
    known = mcp_client.Server(key="k", url=server.url, era="modern", tenant="acme")
    heart = Heart()
    try:
        result = await mcp_client.call_tool(known, "echo", {"text": "x"})
    except BadAnswer as error:
        return None, error.sentence, heart.stop()
    assert isinstance(result, mcp_client.ToolResult)
    return result, "", heart.stop()


@pytest.mark.parametrize("piece", LEFT_OUT)
async def test_lines_that_are_no_messages_are_skipped_and_hold_nobody(
    mcp_server: StartServer, settings: Any, piece: bytes
) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    result, _, longest = await called(mcp_server, piece * (SIZE // len(piece)))
    assert result is not None
    assert result.content == [{"type": "text", "text": "Graz"}]
    assert longest < 0.25


@pytest.mark.parametrize("piece", MESSAGES)
async def test_very_many_messages_end_the_stream_and_hold_nobody(
    mcp_server: StartServer, settings: Any, piece: bytes
) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    result, sentence, longest = await called(mcp_server, piece * (SIZE // len(piece)))
    assert result is None
    assert sentence in {
        "The server's stream has more than 100 messages a second.",
        "The server's stream has too many messages that are not JSON.",
    }
    assert longest < 0.25, "seconds before"


async def test_a_stream_of_some_thousand_messages_is_read(mcp_server: StartServer, settings: Any) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    steps = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"step"}}\n\n'
    result, _, _ = await called(mcp_server, steps * 5_000 + b"data: still here\n\n" * 1_000)
    assert result is not None


def test_whoever_goes_on_for_hours_may_send_as_many_as_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now)
    pace = pacing.Pace()
    for second in range(3 * 3600):
        now = float(second)
        for _ in range(10):
            pace.count()
        if second % 10 == 0:
            pace.count_broken()


async def test_others_have_their_turn_after_each_piece() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for size in (100_000, *[1] * 100_000):
            yield b"x" * size

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    got = [len(piece) async for piece in pacing.pieces(chunks())]
    task.cancel()
    assert sum(got) == 200_000
    assert max(got) == 8192
    assert turns >= 200_000 // 8192
