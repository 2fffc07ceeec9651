"""One TCP or TLS connection on plain asyncio, as httpcore2 wants it: half the CPU of its own backend.

Headers and body are held back until the answer is awaited, so that a request leaves in one piece.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections import deque
from typing import Any, cast

import httpcore2

from connections.egress import handshakes
from connections.egress.record import note
from connections.errors import Unreachable

HELD_AT_MOST = 256 * 1024  # bytes: above it we stop reading, or begin to send


class Wire(asyncio.Protocol):
    """The asyncio protocol of one connection: what has arrived, its end, and whether it takes more."""

    def __init__(self) -> None:
        """Start unconnected."""
        self.transport: asyncio.Transport
        self.ended = False
        self.failure: Exception | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none

    def data_received(self, data: bytes) -> None:
        """Keep the bytes for the reader; pause the peer when nobody takes them."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held > HELD_AT_MOST and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        """Note that the peer sends no more; the transport then closes itself."""
        self.ended = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self.ended = True
        self.failure = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        """Note that the peer is slower than we."""
        self._full = True

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._full = False
        _wake(self._writer)

    @property
    def readable(self) -> bool:
        """Whether there are bytes, or the end, to read."""
        return self._held > 0 or self.ended

    def take(self, max_bytes: int) -> bytes:
        """Return what has arrived, at most so many bytes."""
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._held -= len(chunk)
        if self._paused and self._held < HELD_AT_MOST // 2 and not self.ended:
            self._paused = False
            self.transport.resume_reading()
        return chunk

    async def wait_readable(self, seconds: float | None) -> None:
        """Wait for bytes or the end; raises TimeoutError."""
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await _within(self._reader, seconds)
        finally:
            self._reader = None

    async def wait_writable(self, seconds: float | None) -> None:
        """Wait until the peer has taken enough; raises TimeoutError."""
        if not self._full or self.ended:
            return
        self._writer = asyncio.get_running_loop().create_future()
        try:
            await _within(self._writer, seconds)
        finally:
            self._writer = None


class Stream(httpcore2.AsyncNetworkStream):
    """A connection that httpcore2 reads and writes; its errors are Unreachable, and tell what may have been sent."""

    def __init__(self, wire: Wire) -> None:
        """Take a connected wire."""
        self._wire = wire
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._between_requests = True
        self._used = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the interface of httpcore2
        """Send what is held back, then return bytes, or none at the end of the connection."""
        if self._unsent:
            self._send()
        wire = self._wire
        if not wire.readable:
            try:
                await wire.wait_readable(timeout)
            except TimeoutError as error:
                raise Unreachable("The server did not answer in time.", code="answer_timeout", sent=True) from error
        self._between_requests = True
        chunk = wire.take(max_bytes)
        if not chunk and wire.failure is not None:
            raise Unreachable(
                "The connection broke while the answer was awaited.", code="connection_lost", sent=True
            ) from wire.failure
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the interface of httpcore2
        """Hold the bytes back until the answer is awaited or they are many."""
        if not buffer:
            return
        if self._between_requests:
            self._start_request()
        self._unsent.append(buffer)
        self._unsent_size += len(buffer)
        if self._unsent_size < HELD_AT_MOST:
            return
        self._send()
        try:
            await self._wire.wait_writable(timeout)
        except TimeoutError as error:
            raise Unreachable(
                "The server did not take the request in time.", code="answer_timeout", sent=True
            ) from error

    def _start_request(self) -> None:
        """Refuse to begin a request on a connection that the server has closed meanwhile; the pool takes another."""
        if self._used and (self._wire.readable or self._closed_by_peer()):
            raise httpcore2.ConnectionNotAvailable
        self._used = True
        self._between_requests = False

    def _closed_by_peer(self) -> bool:
        """Ask the kernel: the event loop may not know it yet."""
        sock = self._wire.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _send(self) -> None:
        request = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_size = 0
        self._wire.transport.write(request)

    async def aclose(self) -> None:
        """Disconnect at once: every answer that was wanted has been read."""
        self._wire.ended = True
        self._wire.transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore2
    ) -> Stream:
        """Secure the connection and check the certificate against the host name; raises Unreachable, nothing sent."""
        wire = self._wire
        started = time.monotonic()
        address = wire.transport.get_extra_info("peername")
        try:
            transport = await asyncio.get_running_loop().start_tls(
                wire.transport, wire, ssl_context, server_hostname=server_hostname, ssl_handshake_timeout=timeout
            )
            # The peer disconnected, or bytes came before the handshake's end: anybody on the way can have sent those,
            # and they would be taken for the answer to the first request.
            if transport is None or wire.readable:
                raise ConnectionResetError
        except OSError as error:  # SSLError is one
            wire.transport.abort()
            # What came before the handshake was taken by the wire: no TLS server speaks first.
            failure = handshakes.of_greeting(wire.take(64)) or handshakes.judge(error)
            failure = await handshakes.look_again(failure, error, address, server_hostname)
            note("tls", failure.sentence, started=started, code=failure.code)
            raise Unreachable(failure.sentence, code=failure.code) from error
        wire.transport = transport
        version = transport.get_extra_info("ssl_object").version() or ""
        note(
            "tls", f"The certificate is valid for {server_hostname} ({version}).", started=started, tls_version=version
        )
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore2 asks for; `is_readable` on an idle connection means that the server disconnected."""
        if info == "is_readable":
            return self._wire.readable
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._wire.transport.get_extra_info(names.get(info, info))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _within(waiter: asyncio.Future[None], seconds: float | None) -> None:
    if seconds is None:
        await waiter
        return
    timer = asyncio.get_running_loop().call_later(seconds, _expire, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
