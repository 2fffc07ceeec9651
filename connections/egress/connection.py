"""One connection to a server, which is opened by its first request, and the answers that come through it."""

from __future__ import annotations

import time
from collections.abc import Callable

from connections.egress.network import PinnedBackend
from connections.egress.request import Request
from connections.egress.wire import Headers, Wire
from connections.errors import Unreachable


class Connection:
    """A connection for one request at a time; `requests` counts them."""

    __slots__ = ("_backend", "_expires", "_host", "_port", "_wire", "requests")

    def __init__(self, host: str, port: int, backend: PinnedBackend) -> None:
        """Take where it will lead; nothing is opened yet."""
        self._host, self._port, self._backend = host, port, backend
        self._wire: Wire | None = None
        self._expires: float | None = None  # while it is idle
        self.requests = 0

    def __repr__(self) -> str:
        state = "idle" if self.is_idle() else "in use"
        return f"<Connection to {self._host}:{self._port}, {state}, {self.requests} requests>"

    async def send(self, request: Request, head: bytes, done: Callable[[bool], None]) -> Response:
        """Send a request and return its answer, whose body is still to come; raises Refused and Unreachable.

        `done` is called once the answer is closed, with whether another request may have the connection.
        """
        timeouts = request.extensions.get("timeout") or {}
        self._expires = None
        self.requests += 1
        wire = self._wire
        if wire is None:
            wire = self._wire = await self._backend.connect(self._host, self._port, timeouts.get("connect"))
            if wire.unasked:
                raise Unreachable("The server speaks before it is asked: it is no web server.", code="not_http")
            if wire.ended:
                raise Unreachable("The server hung up before it was asked anything.", code="connection_lost")
        request.sent = True
        read = timeouts.get("read")
        await wire.ask(head, request.content, write=timeouts.get("write"), read=read)
        return Response(wire, read, done)

    def rest(self, seconds: float) -> None:
        """Be idle from now on, for so many seconds at most."""
        self._expires = time.monotonic() + seconds

    def is_idle(self) -> bool:
        """Whether another request may have it, or it is closed."""
        return self._expires is not None or self._wire is None or self._wire.ended

    def has_expired(self) -> bool:
        """Whether an idle connection is of no use any more, as far as the event loop knows."""
        wire, expires = self._wire, self._expires
        return wire is None or wire.ended or bool(wire.unasked) or expires is None or time.monotonic() > expires

    def is_usable(self) -> bool:
        """Whether an idle connection can take a request: the server has not hung up, as far as the kernel knows."""
        return not self.has_expired() and self._wire is not None and not self._wire.is_readable()

    def fileno(self) -> int:
        """Return the descriptor of an open connection's socket."""
        assert self._wire is not None  # noqa: S101
        return self._wire.fileno()

    def close(self) -> None:
        """Disconnect."""
        if self._wire is not None:
            self._wire.close()


class Response:
    """An answer: status, headers with names in lower case, and the pieces of its body. It has to be closed."""

    __slots__ = ("_done", "_read", "_wire", "headers", "status")

    def __init__(self, wire: Wire, read: float | None, done: Callable[[bool], None]) -> None:
        """Take the wire once the head has arrived, and the seconds between two pieces of the body."""
        self.status: int = wire.status
        self.headers: Headers = wire.headers
        self._wire: Wire | None = wire
        self._read = read
        self._done = done

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece of the body; raises Unreachable if none comes in time, or the connection breaks."""
        wire = self._wire
        while wire is not None:
            if chunk := wire.take():
                return chunk
            if wire.complete:
                break
            await wire.more(self._read)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let another request have the connection if the answer was read to its end, else disconnect."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._done(wire.finish())
