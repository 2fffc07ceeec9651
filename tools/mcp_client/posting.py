"""One message, one POST: sent through the egress, its answer read under a clock and a cap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpcore2

from connections import egress
from connections.errors import Unreachable
from tools.mcp_client import sse, wire
from tools.mcp_client.errors import (
    AnswerTooLarge,
    BadAnswer,
    ConnectionLost,
    Forbidden,
    McpError,
    NotStreamableHttp,
    RateLimited,
    Redirected,
    ServerFailed,
    TimedOut,
    Unauthorized,
    Unsendable,
)
from tools.mcp_client.shapes import OnProgress, Progress, Server

_MAX_ERROR_BODY: Final = 64 * 1024
_LINGER: Final = 1.0  # seconds a finished stream may take to end, so that its connection can be used again
_background: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Fault:
    """The `error` member of an answer; `ours` when it carries the id of our request."""

    code: int
    message: str
    data: Any
    ours: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """How a server answered: a result, a fault, or neither (then the status says it)."""

    status: int
    session_id: str | None = None
    result: dict[str, Any] | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears what comes before the answer: progress, and requests of the server."""

    progress: OnProgress | None = None
    request: Callable[[dict[str, Any]], None] | None = None


DEAF: Final = Listener()


class _Body:
    """A request body that knows whether it was asked for, that is, whether the call may have left."""

    __slots__ = ("_content", "sent")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.sent = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.sent = True
        yield self._content


async def post(
    server: Server, question: wire.Question, *, listener: Listener = DEAF, deadline: float | None = None
) -> Reply:
    """Post one message and return the reply to it; `deadline` is a time of the running loop's clock.

    Raises an `McpError` for 3xx, 401, 403, 429 and 5xx, for what breaks the protocol, the cap or a clock;
    other 4xx are returned. `Refused` and `Unreachable` of the egress pass through.
    """
    route = wire.route_to(server)
    now = asyncio.get_running_loop().time()
    absolute = deadline if deadline is not None else now + server.timeout
    body = _Body(question.payload)
    request = httpcore2.Request(
        b"POST",
        route.url,
        headers=[*route.headers, (b"Content-Length", b"%d" % len(question.payload)), *question.headers],
        content=body,
        extensions=route.extensions,
    )
    timer = asyncio.timeout_at(min(absolute, now + server.idle_timeout))
    try:
        async with timer:
            response = await egress.pool().handle_async_request(request)
            return await _Exchange(server, question, listener, timer, absolute).read(response)
    except (McpError, TimeoutError, OSError, httpcore2.ProtocolError, httpcore2.NetworkError) as error:
        sent = body.sent and question.method == "tools/call"
        raise _named(error, sent=sent, timer=timer, absolute=absolute) from error
    except httpcore2.TimeoutException as error:
        raise TimedOut("connect") from error
    except Unreachable as error:
        if not error.sent:
            raise
        raise ConnectionLost(sent=body.sent and question.method == "tools/call") from error


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Run something whose failure nobody waits for, and keep it alive until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def _named(error: Exception, *, sent: bool, timer: asyncio.Timeout, absolute: float) -> McpError:
    if isinstance(error, McpError):
        error.sent = sent
        return error
    if isinstance(error, TimeoutError) and timer.expired():
        return TimedOut("absolute" if (timer.when() or 0) >= absolute else "idle", sent=sent)
    if isinstance(error, httpcore2.LocalProtocolError):
        return Unsendable(sent=sent)
    return ConnectionLost(sent=sent)


class _Exchange:
    """The answering half of one POST."""

    __slots__ = ("_absolute", "_listener", "_question", "_server", "_timer")

    def __init__(
        self, server: Server, question: wire.Question, listener: Listener, timer: asyncio.Timeout, absolute: float
    ) -> None:
        self._server = server
        self._question = question
        self._listener = listener
        self._timer = timer
        self._absolute = absolute

    async def read(self, response: httpcore2.Response) -> Reply:
        headers = {name.lower(): value for name, value in response.headers}
        keep_open = False
        try:
            _raise_for_status(response.status, headers)
            session_id = headers.get(b"mcp-session-id")
            session = session_id.decode("latin-1") if session_id is not None else None
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if self._question.id is None:
                return Reply(response.status, session)
            _check_encoding(headers)
            if response.status >= HTTPStatus.BAD_REQUEST:
                return await self._read_refusal(response, session, kind)
            if kind == b"application/json":
                body = await self._collect(response, headers)
                return self._reply(response.status, session, wire.read_json(body))
            if kind == b"text/event-stream":
                stream = aiter(response.stream)  # type: ignore[arg-type]
                message = await self._listen(stream)
                keep_open = True
                in_background(_linger(stream, response))
                return self._reply(response.status, session, message)
            if response.status == HTTPStatus.OK:
                raise NotStreamableHttp
            raise BadAnswer("The server acknowledged a request without answering it.")
        finally:
            if not keep_open:
                await response.aclose()

    async def _collect(self, response: httpcore2.Response, headers: dict[bytes, bytes]) -> bytes:
        cap = self._server.max_bytes
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > cap:
            raise AnswerTooLarge
        parts: list[bytes] = []
        size = 0
        async for chunk in response.stream:  # type: ignore[union-attr]
            size += len(chunk)
            if size > cap:
                raise AnswerTooLarge
            if parts:
                self._touch()
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _listen(self, stream: AsyncIterator[bytes]) -> dict[str, Any]:
        decoder = sse.Decoder()
        size = 0
        async for chunk in stream:
            size += len(chunk)
            if size > self._server.max_bytes:
                raise AnswerTooLarge
            for event in decoder.feed(chunk):
                if event.name != b"message":
                    continue
                message = wire.read_json(event.data)
                if not isinstance(message, dict):
                    raise BadAnswer("The server's stream carries something that is no JSON-RPC message.")
                if "method" not in message:
                    return message
                self._hear(message)
        raise ConnectionLost

    async def _read_refusal(self, response: httpcore2.Response, session: str | None, kind: bytes) -> Reply:
        # A 4xx may or may not be JSON-RPC; whatever else it holds is of no use and never shown.
        if kind != b"application/json":
            return Reply(response.status, session)
        size = 0
        parts: list[bytes] = []
        async for chunk in response.stream:  # type: ignore[union-attr]
            size += len(chunk)
            parts.append(chunk)
            if size > _MAX_ERROR_BODY:
                return Reply(response.status, session)
        try:
            reply = self._reply(response.status, session, wire.read_json(b"".join(parts)))
        except BadAnswer:
            return Reply(response.status, session)
        return Reply(response.status, session, fault=reply.fault)

    def _reply(self, status: int, session: str | None, message: Any) -> Reply:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise BadAnswer("The server's answer is no JSON-RPC message.")
        id_ = message.get("id")
        ours = id_ == self._question.id
        error = message.get("error")
        # A refusal may carry any id: some servers put a word there.
        if isinstance(error, dict) and (ours or id_ is None or status >= HTTPStatus.BAD_REQUEST):
            code = error.get("code")
            if isinstance(code, int):
                return Reply(status, session, fault=Fault(code, str(error.get("message")), error.get("data"), ours))
        result = message.get("result")
        if ours and isinstance(result, dict):
            return Reply(status, session, result=result)
        raise BadAnswer("The server's answer belongs to another request or has no result.")

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if self._listener.request is not None:
                self._listener.request(message)
            return
        params = message.get("params")
        if message["method"] != "notifications/progress" or not isinstance(params, dict):
            return
        done = params.get("progress")
        if params.get("progressToken") != self._question.id or not isinstance(done, int | float):
            return
        self._touch()
        if self._listener.progress is not None:
            total, text = params.get("total"), params.get("message")
            self._listener.progress(
                Progress(
                    done,
                    total if isinstance(total, int | float) else None,
                    text if isinstance(text, str) else None,
                )
            )

    def _touch(self) -> None:
        # Something moved: the idle clock starts again, the absolute one stands.
        now = asyncio.get_running_loop().time()
        self._timer.reschedule(min(self._absolute, now + self._server.idle_timeout))


def _raise_for_status(status: int, headers: dict[bytes, bytes]) -> None:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    challenge = headers.get(b"www-authenticate")
    text = challenge.decode("latin-1") if challenge is not None else None
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


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    # We ask for `identity`: a compressed answer could unfold into anything.
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise BadAnswer("The server compressed its answer although it was asked not to.")


async def _linger(stream: AsyncIterator[bytes], response: httpcore2.Response) -> None:
    try:
        async with asyncio.timeout(_LINGER):
            async for _ in stream:
                pass
    except (TimeoutError, OSError, httpcore2.ProtocolError, httpcore2.NetworkError):
        pass
    finally:
        await response.aclose()
