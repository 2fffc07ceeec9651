"""One TCP or TLS connection on plain asyncio that speaks HTTP/1.1: one request at a time, and its answer as it arrives.

Answers are parsed by llhttp (httptools), the parser of Node and so of most MCP clients: what it refuses works with none
of those. Beyond it, an answer is refused here whose head is too long, or whose body is encoded for the transfer in
another way than in chunks. What it lets pass behind an answer is never read: such a connection is not used again.
"""

from __future__ import annotations

import asyncio
import select
from http import HTTPStatus
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from connections.errors import Unreachable

HELD_AT_MOST: Final = 256 * 1024  # bytes that nobody has read; above it we stop reading
LARGEST_HEAD: Final = 100 * 1024  # bytes, and as many between two pieces of a body
MOST_FIELDS: Final = 1_000  # of a head
WRITTEN_AT_ONCE: Final = 256 * 1024  # bytes of a body; a larger one waits until the peer has taken it
_JOINED: Final = 16 * 1024  # bytes of a body that are copied behind the head; it would else be a TLS record of its own
_MOST_PIECES: Final = 1_000  # of a body that nobody has read: pieces of one byte take forty times as much memory
_LONGEST_GREETING: Final = 64
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

Headers = list[tuple[bytes, bytes]]


class _NotHttp(Exception):
    """What came is refused, although the parser lets it pass."""


class Wire(asyncio.Protocol):
    """The asyncio protocol of one connection; `status` is 0 until the head of the awaited answer has arrived.

    `complete`: all of the answer has arrived. `unasked`: how bytes begin that came when no answer was awaited.
    """

    __slots__ = (
        "_asked", "_barren", "_beyond", "_chunks", "_fault", "_full", "_has_length", "_head", "_held", "_loop",
        "_parser", "_paused", "_poll", "_reader", "_stays_open", "_until_end", "_used", "_writer", "complete", "ended",
        "failure", "headers", "status", "transport", "unasked",
    )  # fmt: skip

    def __init__(self) -> None:
        """Start unconnected."""
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._poll: select.poll | None = None
        self.transport: asyncio.Transport
        self.ended = False
        self.failure: Exception | None = None  # of the connection
        self.unasked = b""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = self._paused = self._used = False
        self._begin(asked=False)

    def _begin(self, *, asked: bool) -> None:
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self._asked = asked
        self._stays_open = self._until_end = self._has_length = self._beyond = False
        self._fault: Exception | None = None  # in what the server says
        self._chunks: list[bytes] = []
        self._held = self._head = self._barren = 0

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none

    def data_received(self, data: bytes) -> None:
        """Parse the bytes for the reader; pause the peer when nobody takes them."""
        if not self._asked:
            self.unasked = (self.unasked + data)[:_LONGEST_GREETING]
            if self._used:  # this connection is of no use any more
                self.transport.abort()
            return
        held = self._held
        self._parse(data)
        if len(self._chunks) > _MOST_PIECES:
            self._chunks = [b"".join(self._chunks)]
        self._barren = 0 if self._held > held else self._barren + len(data)
        if self._barren > LARGEST_HEAD and not self.complete:
            self._fault = self._fault or _NotHttp("too many bytes without a body")
        if self._beyond or self._fault is not None:
            self.transport.abort()
        elif self._held > HELD_AT_MOST and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        if self.status or self._fault is not None:
            _wake(self._reader)
            _wake(self._writer)

    def eof_received(self) -> None:
        """Note that the peer sends no more; the transport then closes itself."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self.failure = exc
        self._end()
        _wake(self._writer)

    def _end(self) -> None:
        self.ended = True
        if self._until_end and self.failure is None and self._fault is None:
            self.complete = True
        _wake(self._reader)

    def pause_writing(self) -> None:
        """Note that the peer is slower than we."""
        self._full = True

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._full = False
        _wake(self._writer)

    # --- llhttp -----------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Parse the bytes; the last one apart from the others, as the answer has to end with it and not before."""
        view = memoryview(data)
        try:
            if not self.complete:
                self._parser.feed_data(view[:-1])
            if self.complete:
                self._beyond = True
            else:
                self._parser.feed_data(view[-1:])
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.complete:
                self._beyond = True
            else:
                self._fault = error

    def on_message_begin(self) -> None:
        """Read nothing behind the answer."""
        if self.complete:
            raise _NotHttp("beyond the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; trailers are only counted."""
        self._head += len(name) + len(value)
        if self._head > LARGEST_HEAD or len(self.headers) >= MOST_FIELDS:
            raise _NotHttp("the head is too long")
        if self.status:
            return
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"content-length":
            self._has_length = True
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self._has_length:
                raise _NotHttp("its end is told in another way, or in two")
            self._has_length = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Know how the answer goes on."""
        status, parser = self._parser.get_status_code(), self._parser
        if status < HTTPStatus.CONTINUE or status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise _NotHttp("no other protocol was asked for")
        if status < HTTPStatus.OK:  # the head of the answer is still to come
            self.headers = []
            self._has_length = False
            return
        self.status = status
        self._until_end = not self._has_length and status not in _WITHOUT_BODY
        self._stays_open = parser.should_keep_alive() and parser.get_http_version() == "1.1"

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._chunks.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or only that of a 1xx before it."""
        self.complete = self.status != 0

    # --- an exchange ------------------------------------------------------------------------------------------------

    def is_readable(self) -> bool:
        """Whether the peer has sent anything or hung up; the kernel is asked, as the event loop may not know it yet."""
        if self.ended or self.unasked or self.transport.is_closing():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        descriptor: int = self.transport.get_extra_info("socket").fileno()
        return descriptor

    async def ask(self, head: bytes, body: bytes, *, write: float | None, read: float | None) -> None:
        """Send a request in one piece and wait for the head of its answer; raises Unreachable.

        The two limits are the seconds in which the peer takes a large body, and says something.
        """
        self._begin(asked=True)
        self._used = True
        if len(body) <= _JOINED:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
            if len(body) > WRITTEN_AT_ONCE:
                await self._written(write)
        while not self.status:
            await self.more(read)

    async def _written(self, seconds: float | None) -> None:
        """Wait until the peer has taken most of the body, or has answered before; raises Unreachable."""
        if not self._full or self.ended or self.status:
            return
        self._writer = self._loop.create_future()
        try:
            await _within(self._writer, seconds)
        except TimeoutError as error:
            sentence = "The server did not take the request in time."
            raise Unreachable(sentence, code="answer_timeout", sent=True) from error
        finally:
            self._writer = None

    def take(self) -> bytes:
        """Return what has arrived of the body."""
        if not self._chunks:
            return b""
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            if not self.ended:
                self.transport.resume_reading()
        return chunk

    async def more(self, seconds: float | None) -> None:
        """Wait until more of the answer has arrived; raises Unreachable when nothing more will, or not in time."""
        if self._fault is not None:
            raise Unreachable("The server's answer is not valid HTTP.", code="not_http", sent=True) from self._fault
        if self.failure is not None:
            sentence = "The connection broke while the answer was awaited."
            raise Unreachable(sentence, code="connection_lost", sent=True) from self.failure
        if self.ended:
            sentence = "The server hung up before its answer was complete."
            raise Unreachable(sentence, code="connection_lost", sent=True)
        self._reader = self._loop.create_future()
        try:
            await _within(self._reader, seconds)
        except TimeoutError as error:
            raise Unreachable("The server did not answer in time.", code="answer_timeout", sent=True) from error
        finally:
            self._reader = None

    def finish(self) -> bool:
        """End the exchange; return whether another one may follow, else disconnect."""
        self._asked = False
        reusable = self.complete and self._stays_open and not (self._beyond or self._chunks or self.ended)
        # An early answer: what is left of this request would stand before the next one.
        reusable = reusable and not self.transport.get_write_buffer_size()
        if not reusable:
            self.close()
        return reusable

    def close(self) -> None:
        """Disconnect at once: every answer that was wanted has been read."""
        self.ended, self._until_end = True, False
        self.transport.abort()


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
