"""HTTP on one connection, with a limit on everything that a client could prolong.

uvicorn bounds neither the time nor the size of a request's head, nor how long and how much of an answer may stay
unread. `duvo.serve` names this protocol.

Connections are counted by `--limit-concurrency`, beyond which everybody hears 503. Before that is reached, those that
ask nothing are closed, the oldest first: a stranger who opens thousands of them keeps nobody out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from enum import Enum
from typing import Any

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from connections.context import WHOSE

HEAD_SECONDS = 20.0  # from the opening of the connection, or the first byte, to the end of a head
BODY_SECONDS = 70.0  # to the end of a body; before, bodies.py has refused one that is too slow
LINGER_SECONDS = 1.0  # how long a process that ends waits for requests that were on their way
UNREAD_SECONDS = 60.0  # how long a client may take nothing of an answer
LARGEST_HEAD = 64 * 1024  # bytes of a request line with its headers; also of what frames the parts of a body
MOST_PIPELINED = 32  # requests that wait behind the one that is answered
MOST_UNREAD = 256 * 1024 * 1024  # bytes of all answers that wait to be read, in this process
MOST_UNREAD_OF_ONE = 64 * 1024 * 1024  # of those of one organization, or of a stranger's address
CROWDED = 0.9  # of --limit-concurrency: from here on connections that ask nothing make room

_unread: Counter[Hashable] = Counter()


class _Part(Enum):
    HEAD = "head"
    BODY = "body"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with limits of time and size; WebSockets are not supported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*args, **kwargs)
        self._clock: asyncio.TimerHandle | None = None
        self._awaited: _Part | None = None  # what the clock runs for
        self._part: _Part | None = None  # of the request that is arriving; None between two
        self._arrived = False  # a request is complete with the bytes at hand
        self._head = 0  # bytes of names and values
        self._unused = 0  # bytes of which nothing came yet: of a header that has no end, say
        self._unread: asyncio.TimerHandle | None = None
        self._counted: tuple[Hashable, int] | None = None  # whose answer waits to be read, and its bytes
        self._ending = False  # the process is to end: this connection has no other request after the next one
        # Of this server's connections those on which no request is complete; the one that is quiet longest comes first.
        self._quiet: dict[Protocol, None] = vars(self.server_state).setdefault("quiet", {})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head, and see to it that there is room for it."""
        super().connection_made(transport)
        self._wait_for(_Part.HEAD)
        self._is_quiet()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._wait_for(None)
        self.resume_writing()
        self._quiet.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the clock runs while a request is incomplete, and bytes between two requests begin one."""
        self._arrived = False
        self._unused += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._wait_for(None)
        elif self._unused > LARGEST_HEAD:
            self.send_400_response("The head of the request is too large.")
        else:
            self._wait_for(None if self._arrived and self._part is None else self._part or _Part.HEAD)

    def shutdown(self) -> None:
        """Go on with what is asked here, and with nothing else; calls get some seconds, and then a known end.

        A request may be on its way over a connection that is quiet at this moment, and is answered if it comes at once.
        """
        from tools.calls import closing  # noqa: PLC0415 - uvicorn loads this module before the application

        closing.begin(settings.SHUTDOWN_GRACE_WEB)
        self._ending = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_SECONDS, self._close_if_quiet)

    def on_message_begin(self) -> None:
        """Begin to count the head."""
        self._part, self._head, self._unused = _Part.HEAD, 0, 0
        if self in self._quiet:
            self._is_quiet()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; those that follow a body are of no use here and are dropped."""
        self._head += len(name) + len(value)
        if self._head > LARGEST_HEAD:
            message = "the head is too large"
            raise httptools.HttpParserError(message)
        if self._part is _Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the request answered, or queued behind others on this connection."""
        if len(self.pipeline) >= MOST_PIPELINED:
            message = "too many requests wait on this connection"
            raise httptools.HttpParserError(message)
        self._part, self._unused = _Part.BODY, 0
        super().on_headers_complete()
        if self._ending and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._part, self._arrived, self._unused = None, True, 0
        self._quiet.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what waits on this connection; when nothing does, it is quiet."""
        super().on_response_complete()
        self._may_be_quiet()

    def pause_writing(self) -> None:
        """Start the clock of a client that does not read, unless too much waits to be read already."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        self._watch_reader(size)
        whose = self.cycle.scope.get(WHOSE) if self.cycle is not None else None
        whose = whose() if callable(whose) else whose or self.client
        self._counted = (whose, size)
        _unread[whose] += size
        if _unread[whose] > MOST_UNREAD_OF_ONE or _unread.total() > MOST_UNREAD:
            self.transport.abort()  # nothing less would free the memory

    def resume_writing(self) -> None:
        """Stop that clock."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self._counted is not None:
            whose, size = self._counted
            self._counted = None
            _unread[whose] -= size
            if not _unread[whose]:
                del _unread[whose]
            self._may_be_quiet()
        super().resume_writing()

    def _close_if_quiet(self) -> None:
        if self in self._quiet:
            self.transport.close()

    def _may_be_quiet(self) -> None:
        """Note that nothing is asked here any more, once the last answer is complete and on its way."""
        over = self.cycle is not None and self.cycle.response_complete
        if over and self._counted is None and not self.transport.is_closing():
            self._is_quiet()

    def _is_quiet(self) -> None:
        """Note that nothing is asked here from this moment on."""
        self._quiet.pop(self, None)
        self._quiet[self] = None

    def _make_room(self) -> None:
        """Close connections that ask nothing, as long as there are so many that others would be refused."""
        most = self.limit_concurrency and max(1, int(self.limit_concurrency * CROWDED))
        while most and len(self.connections) > most:
            oldest = next(iter(self._quiet), None)
            if oldest is None or oldest is self:
                return
            self._quiet.pop(oldest)
            self.connections.discard(oldest)  # which uvicorn does as well, in the loop's next turn
            oldest.transport.close()  # and not `abort`: the end of its last answer may be on its way

    def _watch_reader(self, before: int) -> None:
        def check() -> None:
            left = self.transport.get_write_buffer_size()
            if left < before:
                self._watch_reader(left)
            else:
                self.transport.abort()

        self._unread = self.loop.call_later(UNREAD_SECONDS, check)

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: the request is answered as any other."""

    def _wait_for(self, part: _Part | None) -> None:
        """Start the clock for this part of the request; if it runs for the part already, it is not started again."""
        if part is self._awaited:
            return
        self._awaited = part
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if part is not None:
            seconds = HEAD_SECONDS if part is _Part.HEAD else BODY_SECONDS
            self._clock = self.loop.call_later(seconds, self._out_of_time, part)

    def _out_of_time(self, part: _Part) -> None:
        """End the connection, unless an earlier request on it is still being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        self._awaited = None
        if self.pipeline or (part is _Part.HEAD and answering):
            self._wait_for(part)
        elif part is _Part.HEAD and not self._unused and self._part is None:
            self.transport.close()  # nobody has asked anything
        elif part is _Part.HEAD:
            self.transport.write(STATUS_LINE[408] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
        else:
            self.transport.abort()
