"""The GET stream of a session, on which a server sends requests of its own (2025-11-25, transports).

Many servers ask there what a running call needs to know. Such a question names no call: if exactly one call is under
way, its caller is asked; if there is none or may be several, nobody is. Where several processes share a session, one of
them reads its stream, and the calls of the others count as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from http import HTTPStatus
from typing import Any, Final, Protocol

from connections import egress
from tools.mcp_client import decoding, framing, pacing, questions, sse, wire
from tools.mcp_client.clock import Clock, Pausable
from tools.mcp_client.errors import AnswerTooLarge, BadAnswer, McpError, NotStreamableHttp, UnexpectedStatus
from tools.mcp_client.posting import in_background
from tools.mcp_client.server_requests import Replies, ServerRequests

IDLE_SECONDS: Final = 60.0  # without a call after which the stream is closed
HEAD_SECONDS: Final = 1.0  # that calls wait for the headers of the stream
RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
MOST_ASKED: Final = 128 * 1024  # bytes of one message
MOST_SORTED: Final = 16  # questions at once of which it is found out whose they are
MOST_MISSES: Final = 3  # failures in a row after which no stream is opened in this session, or less often if it is held
_BRIEF: Final = 2.0  # seconds; a stream that ended sooner counts as a failure
_AT_ONCE: Final = 0.1  # seconds; who pings on the stream must not find nobody
_SHORTEST_RETRY: Final = 1.0  # seconds
_LONGEST_RETRY: Final = 30.0
_DOUBT_SECONDS: Final = 60.0  # in which the tool of an abandoned call may still ask
# These may succeed with another token, a moment later or at another instance; any other 4xx is final.
_TEMPORARY: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})


class Elsewhere(Protocol):
    """The calls of a session that other processes make."""

    async def running(self) -> list[ServerRequests] | None:
        """Return where the questions of each go; None when a task, or a call that was abandoned, may have asked."""
        ...


class _NoClock:
    """In place of the clock of a call that another process makes, and stops itself."""

    expired = False

    def stop(self) -> None: ...

    def resume(self) -> None: ...


class ServerStream:
    """The GET stream of one session: opened before a call, shared by all, closed when none came for a while.

    Of a session that several processes share it is open from `hold` to `leave` in one of them, calls or not.
    It holds one connection and one asyncio task, and is opened with the `server` of `replies`. A server without such a
    stream is asked for it once in a session; no failure here is an error of a call.
    """

    __slots__ = (
        "_calls", "_conflicts", "_doubt_until", "_elsewhere", "_head", "_headers", "_held", "_last_call", "_misses",
        "_nobody", "_pace", "_refused", "_replies", "_retired", "_size", "_sorting", "_task", "_timer", "_waits",
    )  # fmt: skip

    def __init__(self, replies: Replies, version: str, session_id: str) -> None:
        """Open nothing yet."""
        self._replies = replies
        self._headers = wire.session_headers(version, session_id)
        self._nobody = ServerRequests(None, replies)
        self._calls: dict[ServerRequests, Clock] = {}
        self._elsewhere: Elsewhere | None = None
        self._held: bool | None = None  # None: not shared, and open around calls
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = asyncio.Event()  # not set as long as calls should wait for the answer's head
        self._waits = True
        self._refused = self._retired = False
        self._misses = self._conflicts = 0
        self._size = self._sorting = 0
        self._pace = pacing.Pace()
        self._last_call = self._doubt_until = 0.0

    async def ready(self) -> None:
        """Open the stream before a call is sent; waits for it a second at most, and no more after that was in vain."""
        if self._task is None and self._held is not False and not (self._refused or self._retired):
            self._open()
        if self._task is not None and not self._head.is_set():
            await self._head.wait()

    def share(self, elsewhere: Elsewhere) -> None:
        """Open the stream only between `hold` and `leave` from now on, as other processes use the session as well."""
        self._elsewhere, self._held = elsewhere, False

    def hold(self) -> None:
        """Read the stream from now on, with or without calls."""
        self._held = True
        if self._task is None and not (self._refused or self._retired):
            self._open()

    def leave(self) -> None:
        """Leave the stream to another process."""
        self._held = False
        self._close()

    @property
    def held(self) -> bool:
        """Whether this process is the one that reads the stream."""
        return self._held is True

    @property
    def is_open(self) -> bool:
        """Whether the stream is read, or asked for again."""
        return self._task is not None

    @contextmanager
    def deliver_to(self, requests: ServerRequests, clock: Clock) -> Iterator[None]:
        """Deliver the server's requests to `requests` as long as its call is under way and no other one is."""
        self._calls[requests] = clock
        self._size = 0
        try:
            yield
        except asyncio.CancelledError:
            self._doubt()
            raise
        except McpError as error:
            if error.outcome_unknown:
                self._doubt()
            raise
        finally:
            del self._calls[requests]
            self._last_call = asyncio.get_running_loop().time()
            if self._retired and not self._calls:
                self.end()

    @property
    def in_use(self) -> bool:
        """Whether a call of the session is under way."""
        return bool(self._calls)

    def retire(self) -> None:
        """Close the stream as soon as no call is under way."""
        self._retired = True
        if not self._calls:
            self.end()

    def end(self) -> None:
        """Close the stream for good."""
        self._retired = True
        self._close()

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._last_call = loop.time()
        self._head = head = asyncio.Event()
        if self._waits:
            loop.call_later(HEAD_SECONDS, self._wait_no_longer, head)
        else:
            head.set()
        self._timer = loop.call_later(IDLE_SECONDS, self._close_if_idle)
        # It outlives the call that opens it, and must not carry that call's context along.
        self._task = loop.create_task(self._keep(head), context=Context())

    def _close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _wait_no_longer(self, head: asyncio.Event) -> None:
        if not head.is_set():
            self._waits = False
            head.set()

    def _close_if_idle(self) -> None:
        loop = asyncio.get_running_loop()
        if self._held:
            self._size = 0  # what a server may send in a minute without calls
        since = loop.time() if self._calls or self._held else self._last_call
        rest = since + IDLE_SECONDS - loop.time()
        if rest > 0:
            self._timer = loop.call_later(rest, self._close_if_idle)
        else:
            self._close()

    async def _keep(self, head: asyncio.Event) -> None:
        """Read the stream until it is not wanted any more; one that ends while a call is under way is resumed."""
        loop = asyncio.get_running_loop()
        decoder = sse.Decoder()
        try:
            while not self._refused:
                began = loop.time()
                status = await self._listen(decoder, head)
                head.set()
                # Who has read the stream until now may not have gone yet.
                self._conflicts = self._conflicts + 1 if self._held and status == HTTPStatus.CONFLICT else 0
                # A server that says when to reconnect wants to be polled: a short stream is no failure then.
                missed = loop.time() - began < _BRIEF and decoder.retry is None and not self._conflicts
                self._misses = self._misses + 1 if missed else 0
                # Where somebody has to read the stream, what may pass is never the end of it.
                self._refused = self._refused or (self._misses >= MOST_MISSES and not self._held)
                if not (self._calls or self._held) or self._size > self._replies.server.max_bytes:
                    return
                await asyncio.sleep(self._pause(decoder.retry))
                decoder = sse.Decoder(decoder.last_id, decoder.retry)
        finally:
            head.set()
            if self._task is asyncio.current_task():  # nobody closed it
                self._task = None
                self._close()

    def _pause(self, retry: float | None) -> float:
        """Return the seconds until the stream is asked for again."""
        if self._conflicts:
            return min(_AT_ONCE * 2.0 ** min(self._conflicts - 1, 20), _LONGEST_RETRY)
        if retry is None and not self._misses:
            return _AT_ONCE
        longer = 2.0 ** min(max(self._misses - MOST_MISSES, 0), 20)
        return min(max(retry or 0, _SHORTEST_RETRY) * longer, _LONGEST_RETRY)

    async def _listen(self, decoder: sse.Decoder, head: asyncio.Event) -> int:
        """Read the stream to its end; return the status of a server that refuses it, else 200."""
        try:
            response = await egress.pool().handle_async_request(self._request(decoder.last_id))
            try:
                coding = _check(response)
                head.set()
                body = decoding.plain(response, coding, self._replies.server.max_bytes)
                async for piece in pacing.pieces(body):
                    self._count_bytes(piece)
                    for event in decoder.feed(piece):
                        self._pace.count()
                        self._handle(event)
            finally:
                await response.aclose()
        except UnexpectedStatus as refusal:
            self._refused = refusal.status not in _TEMPORARY and refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR
            return refusal.status
        except (NotStreamableHttp, BadAnswer):
            self._refused = True
        except framing.BROKEN:
            pass
        return HTTPStatus.OK

    def _request(self, last_id: bytes) -> egress.Request:
        route = wire.route_to(self._replies.server)
        headers = [pair for pair in route.headers if pair[0] not in (b"Accept", b"Content-Type")]
        cookies = self._replies.cookies.header if self._replies.cookies is not None else []
        headers += [(b"Accept", b"text/event-stream"), *cookies, *self._headers]
        if last_id:
            headers.append((b"Last-Event-ID", last_id))
        extensions = {**route.extensions, egress.STREAM: True}
        return egress.Request(b"GET", route.url, headers, extensions=extensions)

    def _count_bytes(self, chunk: bytes) -> None:
        """Limit the bytes of the stream during a call to those of an answer, so that a flood has an end."""
        self._size += len(chunk)
        if self._size > self._replies.server.max_bytes:
            raise AnswerTooLarge(self._replies.server.max_bytes)

    def _handle(self, event: sse.Event) -> None:
        if event.name != b"message" or len(event.data) > MOST_ASKED:  # no question is so long
            return
        try:
            message = wire.read_json(event.data)
        except BadAnswer:
            self._pace.count_broken()
            return  # nobody waits for this message in particular
        if not isinstance(message, dict) or "id" not in message or "method" not in message:
            return
        if message["method"] == questions.ELICITATION and _is_of_task(message):
            self._nobody.handle(message, None)
        elif self._elsewhere is None or message["method"] != questions.ELICITATION:
            self._deliver(message, [])
        elif self._sorting < MOST_SORTED:
            self._sorting += 1
            in_background(self._sort(message, self._elsewhere))

    async def _sort(self, message: dict[str, Any], elsewhere: Elsewhere) -> None:
        try:
            self._deliver(message, await elsewhere.running())
        finally:
            self._sorting -= 1

    def _deliver(self, message: dict[str, Any], others: list[ServerRequests] | None) -> None:
        """Hand a request of the server to the one call that may have caused it."""
        doubtful = others is None or asyncio.get_running_loop().time() < self._doubt_until
        calls: list[tuple[ServerRequests, Pausable]] = [
            *self._calls.items(),
            *((one, _NoClock()) for one in others or ()),
        ]
        if len(calls) == 1 and not doubtful:
            calls[0][0].handle(message, calls[0][1])
        else:
            self._nobody.handle(message, None)

    def _doubt(self) -> None:
        self._doubt_until = asyncio.get_running_loop().time() + _DOUBT_SECONDS


def _is_of_task(message: dict[str, Any]) -> bool:
    """Whether a request names the task for which it is made (2025-11-25, tasks): what tasks ask is not answered."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and RELATED_TASK in meta


def _check(response: egress.Response) -> bytes:
    """Return how a stream of events is compressed; raises an error for what is no such stream."""
    if response.status != HTTPStatus.OK:
        raise UnexpectedStatus(response.status)
    headers = dict(response.headers)
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"text/event-stream":
        raise NotStreamableHttp
    return headers.get(b"content-encoding", b"")
