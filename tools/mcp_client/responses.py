"""Reading the response to one POST: JSON or an event stream, within the caller's timeouts and size limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import httpcore2

from connections import egress, offload
from connections.errors import DuvoError
from tools.mcp_client import budget, forms, sse, wire
from tools.mcp_client.errors import (
    AnswerTooLarge,
    AnswerUnread,
    BadAnswer,
    ConnectionLost,
    Forbidden,
    NotStreamableHttp,
    RateLimited,
    Redirected,
    ServerFailed,
    Unauthorized,
)
from tools.mcp_client.shapes import OnProgress, Progress, Server
from tools.payloads.raw_json import is_small

_MAX_ERROR_BODY: Final = 64 * 1024
_LINGER: Final = 1.0  # seconds a finished stream may take to end, so that its connection can be used again
_RECONNECT_AFTER: Final = 1.0  # seconds, where a stream that may be resumed names none
_MOST_OF_OTHERS: Final = 256 * 1024  # bytes of an answer that has neither content nor tools, such as a handshake's
_UNCOUNTED: Final = 128 * 1024  # bytes of an answer that the budget does not count
_LARGE: Final = frozenset({"tools/call", "tasks/get"})  # whose answers have content
_LISTING: Final = "tools/list"
WHOLE_SECONDS: Final = 120.0  # that a large answer may take to arrive, once it has begun to
_READ_SECONDS: Final = 10.0  # of CPU time, for the largest answer
_MOST_OF_A_STEP: Final = 2_000  # characters of a progress message
_MOST_DIGITS: Final = 15  # of a Content-Length; one with more is ignored, as no such response is read
_SHORTEST_SECRET: Final = 12  # characters; what is shorter may be in a challenge by chance
_BROKEN: Final = (OSError, DuvoError, httpcore2.ProtocolError, httpcore2.NetworkError, httpcore2.TimeoutException)


@dataclass(frozen=True, slots=True)
class Fault:
    """The `error` member of an answer; `ours` when it carries the id of our request."""

    code: int
    message: str
    data: Any
    ours: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """How a server answered: a result, a fault, or neither (then the status says it); `size` in bytes.

    `large` is the result of a call as JSON (see `ToolResult`), where `result` is without its content.
    """

    status: int
    session_id: str | None = None
    result: dict[str, Any] | None = None
    fault: Fault | None = None
    size: int = 0
    large: bytes = b""


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks for what comes before the answer: progress, and requests of the server."""

    progress: OnProgress | None = None
    request: Callable[[dict[str, Any], Clock], None] | None = None


NO_LISTENER: Final = Listener()


class Clock:
    """The idle and the absolute timeout of a request, on one timer; progress restarts only the idle one.

    After `stop` both are stopped until each `stop` was followed by a `resume`.
    """

    __slots__ = ("_absolute", "_idle", "_loop", "_stopped_at", "_stops", "timer")

    def __init__(self, server: Server, deadline: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._absolute = deadline if deadline is not None else now + server.timeout
        self._idle = server.idle_timeout
        self._stops = 0
        self._stopped_at = now
        self.timer = asyncio.timeout_at(min(self._absolute, now + self._idle))

    @property
    def which(self) -> Literal["idle", "absolute"]:
        """Which of the two timeouts is due first."""
        return "absolute" if (self.timer.when() or 0) >= self._absolute else "idle"

    def restart_idle(self) -> None:
        """Restart the idle timeout, as something has arrived."""
        if not self._stops:
            self.timer.reschedule(min(self._absolute, self._loop.time() + self._idle))

    def finish_within(self, seconds: float) -> None:
        """Shorten the absolute timeout to so many seconds from now: the answer has begun to arrive."""
        self._absolute = min(self._absolute, self._loop.time() + seconds)
        self.restart_idle()

    @contextmanager
    def stop_idle(self) -> Iterator[None]:
        """Stop the idle timeout inside, as it is not the server that we wait for; the absolute one goes on."""
        if not self._stops:
            self.timer.reschedule(self._absolute)
        yield
        self.restart_idle()

    def stop(self) -> None:
        """Stop both timeouts, for instance while a person is asked."""
        if not self._stops:
            self._stopped_at = self._loop.time()
            self.timer.reschedule(None)
        self._stops += 1

    def resume(self) -> None:
        """Undo one `stop`; undoing the last one moves the deadline by the time that has passed."""
        self._stops -= 1
        if not self._stops:
            self._absolute += self._loop.time() - self._stopped_at
            self.restart_idle()


class ResponseReader:
    """Reads the answer to one request; afterwards `unfinished` is what is left to do in the background."""

    __slots__ = (
        "_account", "_clock", "_counted", "_expected", "_large", "_listener", "_request", "_server", "_session",
        "_size", "_status", "unfinished",
    )  # fmt: skip

    def __init__(self, server: Server, request: wire.Request, listener: Listener, clock: Clock) -> None:
        self._server = server
        self._request = request
        self._listener = listener
        self._clock = clock
        self._size = 0
        self._status = 0
        self._session: str | None = None
        self._expected = self._server.max_bytes  # bytes, at most
        self._counted = False  # whether the budget knows of this answer
        self._large = b""
        self.unfinished: Coroutine[Any, Any, None] | None = None

    async def read(self, response: httpcore2.Response) -> Reply:
        """Return the reply; raises as `posting.post` says."""
        headers = {name.lower(): value for name, value in response.headers}
        end = ExitStack()
        self._account = end.enter_context(budget.account())
        try:
            _raise_for_status(response.status, headers, self._server)
            self._status = response.status
            session = headers.get(b"mcp-session-id")
            self._session = session.decode("latin-1") if session is not None else None
            if self._request.id is None:
                return self._bare()
            return await self._read_answer(response, headers)
        finally:
            end.close()
            if self.unfinished is None:
                await response.aclose()

    async def _read_answer(self, response: httpcore2.Response, headers: dict[bytes, bytes]) -> Reply:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # We ask for `identity`: a compressed answer could decompress to any size.
        plain = headers.get(b"content-encoding", b"identity").strip().lower() == b"identity"
        if response.status >= HTTPStatus.BAD_REQUEST:
            return await self._read_refusal(response) if plain and kind == b"application/json" else self._bare()
        if not plain:
            raise BadAnswer("The server compressed its answer although it was asked not to.")
        if kind == b"application/json":
            return self._reply(await self._parsed(await self._collect(response, headers)))
        if kind == b"text/event-stream":
            return self._reply(await self._follow(response))
        if response.status == HTTPStatus.OK:
            raise NotStreamableHttp
        raise BadAnswer("The server acknowledged a request without answering it.")

    async def _collect(self, response: httpcore2.Response, headers: dict[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < _MOST_DIGITS and int(length):
            self._expected = int(length)
            self._check_size(self._expected)
        parts: list[bytes] = []
        async for chunk in response.stream:  # type: ignore[union-attr]
            counted = self._counted
            await self._count_bytes(chunk)
            if self._counted and not counted:  # from now on others wait for what it holds of the budget
                self._clock.finish_within(WHOLE_SECONDS)
            elif parts:
                self._clock.restart_idle()
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _follow(self, response: httpcore2.Response) -> dict[str, Any]:
        """Read a stream to the answer, and again from where it stopped if it may be resumed (2025-11-25)."""
        decoder = sse.Decoder()
        while True:
            try:
                message = await self._listen(response, decoder)
            finally:
                if self.unfinished is None:
                    await response.aclose()
            if message is not None:
                return message
            if not decoder.last_id or not self._request.resumable:
                raise ConnectionLost
            await asyncio.sleep(_RECONNECT_AFTER if decoder.retry is None else decoder.retry)
            response = await self._reopen(decoder.last_id)
            decoder = sse.Decoder(decoder.last_id, decoder.retry)

    async def _listen(self, response: httpcore2.Response, decoder: sse.Decoder) -> dict[str, Any] | None:
        stream = aiter(response.stream)  # type: ignore[arg-type]
        try:
            async for chunk in stream:
                await self._count_bytes(chunk)
                for event in decoder.feed(chunk):
                    message = await self._message(event)
                    if message is not None:
                        self.unfinished = _linger(stream, response)
                        return message
        except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
            if not decoder.last_id or not self._request.resumable:
                raise ConnectionLost from error
        return None

    async def _message(self, event: sse.Event) -> dict[str, Any] | None:
        """Return the answer if this event holds it; any other message is handled here."""
        if event.name != b"message" or not event.data:
            return None
        message = await self._parsed(event.data)
        if not isinstance(message, dict):
            raise BadAnswer("The server's stream carries something that is no JSON-RPC message.")
        if "method" not in message:
            return message
        self._handle(message)
        return None

    async def _reopen(self, last_id: bytes) -> httpcore2.Response:
        route = wire.route_to(self._server)
        headers = [pair for pair in route.headers if pair[0] not in (b"Accept", b"Content-Type")]
        headers += [(b"Accept", b"text/event-stream"), (b"Last-Event-ID", last_id), *self._request.headers]
        again = httpcore2.Request(b"GET", route.url, headers=headers, extensions=route.extensions)
        response = await egress.pool().handle_async_request(again)
        if response.status == HTTPStatus.OK:
            return response
        await response.aclose()
        raise ConnectionLost

    async def _read_refusal(self, response: httpcore2.Response) -> Reply:
        # A 4xx may or may not be JSON-RPC; whatever else it holds is of no use and never shown.
        parts: list[bytes] = []
        async for chunk in response.stream:  # type: ignore[union-attr]
            self._size += len(chunk)
            parts.append(chunk)
            if self._size > _MAX_ERROR_BODY:
                return self._bare()
        try:
            return self._bare(self._reply(wire.read_json(b"".join(parts))).fault)
        except BadAnswer:
            return self._bare()

    def _bare(self, fault: Fault | None = None) -> Reply:
        return Reply(self._status, self._session, fault=fault)

    def _reply(self, message: Any) -> Reply:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise BadAnswer("The server's answer is no JSON-RPC message.")
        id_ = message.get("id")
        ours = id_ == self._request.id
        error = message.get("error")
        # An error may carry any id: some servers put some text there.
        if isinstance(error, dict) and (ours or id_ is None or self._status >= HTTPStatus.BAD_REQUEST):
            code = error.get("code")
            if isinstance(code, int):
                return self._bare(Fault(code, str(error.get("message")), error.get("data"), ours))
        result = message.get("result")
        if ours and isinstance(result, dict):
            return Reply(self._status, self._session, result=result, size=self._size, large=self._large)
        raise BadAnswer("The server's answer belongs to another request or has no result.")

    def _handle(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if self._listener.request is not None:
                self._listener.request(message, self._clock)
            return
        params = message.get("params")
        if message["method"] != "notifications/progress" or not isinstance(params, dict):
            return
        done = params.get("progress")
        if params.get("progressToken") != self._request.id or not isinstance(done, int | float):
            return
        self._clock.restart_idle()
        if self._listener.progress is not None:
            total, text = params.get("total"), params.get("message")
            self._listener.progress(
                Progress(
                    done,
                    total if isinstance(total, int | float) else None,
                    forms.shown(text, _MOST_OF_A_STEP) if isinstance(text, str) else None,
                )
            )

    async def _parsed(self, body: bytes) -> Any:
        """Return a parsed message; a large one of a call is parsed in a separate process, its content kept as bytes."""
        self._large = b""  # it may be that of an earlier message
        if is_small(body):
            return wire.read_json(body)
        if self._request.method == _LISTING:
            return await asyncio.to_thread(wire.read_json, body)
        if self._request.method not in _LARGE:
            self._check_size(len(body))
            return wire.read_json(body)
        try:
            with self._clock.stop_idle():
                method = self._request.method.encode()
                beside, self._large = await offload.run(
                    "tools.offload_jobs:answer", body, method, tenant=self._server.tenant, seconds=_READ_SECONDS,
                    patient=True,  # an answer that has arrived is not dropped because others wait
                )  # fmt: skip
        except (offload.TooMuchWork, offload.Crowded, offload.Broken) as error:
            raise AnswerUnread from error
        if not beside:
            raise BadAnswer("The server's answer is no JSON that can be read, or too large beside its content.")
        return wire.read_json(beside)

    async def _count_bytes(self, chunk: bytes) -> None:
        """Count received bytes; once there are many, take the size of the answer from the budget."""
        self._size += len(chunk)
        self._check_size(self._size)
        if self._size <= _UNCOUNTED:
            return
        if not self._counted:
            self._counted = True
            with self._clock.stop_idle():
                await self._account.hold(self._server.tenant, self._expected)
        await asyncio.sleep(0)  # a server that sends faster than we read would let no other task run

    def _check_size(self, size: int) -> None:
        most = self._server.max_bytes
        if self._request.method not in _LARGE and self._request.method != _LISTING:
            most = min(most, _MOST_OF_OTHERS)
        if size > most:
            raise AnswerTooLarge(most)


def _raise_for_status(status: int, headers: dict[bytes, bytes], server: Server) -> None:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    challenge = headers.get(b"www-authenticate")
    text = _unrepeated(challenge.decode("latin-1"), server) if challenge is not None else None
    wait = wire.retry_after(headers.get(b"retry-after"), time.time())
    if status < HTTPStatus.BAD_REQUEST:
        raise Redirected(status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerFailed(status, retry_after=wait)
    if status == HTTPStatus.UNAUTHORIZED:
        raise Unauthorized(text)
    if status == HTTPStatus.FORBIDDEN:
        raise Forbidden(text)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited(wait)


async def _linger(stream: AsyncIterator[bytes], response: httpcore2.Response) -> None:
    try:
        async with asyncio.timeout(_LINGER):
            async for _ in stream:
                pass
    except _BROKEN:
        pass
    finally:
        await response.aclose()


def _unrepeated(challenge: str, server: Server) -> str:
    """Return a challenge without those of our secrets that it repeats: people are shown the scopes in it."""
    for _, value in server.headers:
        secret = value.removeprefix("Bearer ")
        if len(secret) >= _SHORTEST_SECRET:
            challenge = challenge.replace(secret, "")
    return challenge
