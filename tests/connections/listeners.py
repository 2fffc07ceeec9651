"""Small scripted servers on loopback that count who comes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from httpcore2 import URL

from connections import egress

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


class Peer(asyncio.Protocol):
    """One connection, as the server sees it."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: Any  # uvloop's own class is no asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.listener.accepted += 1
        self.listener.peers.append(self)

    def data_received(self, data: bytes) -> None:
        self.listener.requests.append(data)
        self.listener.answer(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.listener.peers.remove(self)


class Listener:
    """What came in: connections and requests; and how to answer them."""

    def __init__(self, answer: Callable[[Peer], None]) -> None:
        self.answer = answer
        self.port = 0
        self.accepted = 0
        self.requests: list[bytes] = []
        self.peers: list[Peer] = []


@asynccontextmanager
async def listening(
    answer: bytes | Callable[[Peer], None] = OK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """Listen on a free port of 127.0.0.1; bytes are sent for each request, a function decides for itself."""
    listener = Listener(answer if callable(answer) else lambda peer: peer.transport.write(answer))
    server = await asyncio.get_running_loop().create_server(lambda: Peer(listener), "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for peer in list(listener.peers):
            peer.transport.abort()
        await asyncio.sleep(0)


async def send(pool: egress.GuardedPool, method: str, url: str, **more: Any) -> egress.Response:
    """Send one request through a pool, as the call path does, and read its answer."""
    content = more.pop("content", b"")
    request = egress.Request(method.encode(), URL(url), [(b"Host", b"x")], content, **more)
    response = await pool.handle_async_request(request)
    await read(response)
    return response


async def read(response: egress.Response) -> bytes:
    """Read an answer to its end, and close it."""
    try:
        return b"".join([chunk async for chunk in response])
    finally:
        await response.aclose()
