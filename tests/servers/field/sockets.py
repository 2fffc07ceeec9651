"""Ports that accept a connection and are no https server: each behaves in one way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast


class Port(asyncio.Protocol):
    """Greets, then treats what comes as its kind does."""

    def __init__(
        self, greeting: bytes, heard: Callable[[asyncio.Transport], None], opened: list[asyncio.Transport]
    ) -> None:
        self.greeting, self.heard, self.opened = greeting, heard, opened
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none
        self.opened.append(self.transport)
        if self.greeting:
            self.transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.heard(self.transport)


def silent(_: asyncio.Transport) -> None:
    """Say nothing."""


def hangs_up(transport: asyncio.Transport) -> None:
    transport.close()


def resets(transport: asyncio.Transport) -> None:
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def answers(said: bytes) -> Callable[[asyncio.Transport], None]:
    def answer(transport: asyncio.Transport) -> None:
        transport.write(said)
        transport.close()

    return answer


@asynccontextmanager
async def port(greeting: bytes = b"", heard: Callable[[asyncio.Transport], None] = silent) -> AsyncIterator[int]:
    """Listen on a free port of 127.0.0.1."""
    opened: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Port(greeting, heard, opened), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0)
