"""Reading the response to one POST: JSON or an event stream, within the caller's timeouts and size limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from connections import egress, guards
from connections.errors import Unreachable
from connections.words import words_in
from tools.mcp_client import budget, decoding, framing, messages, pacing, parsing, quoting, refusals, sse, wire
from tools.mcp_client.clock import Clock
from tools.mcp_client.errors import AnswerTooLarge, BadAnswer, ConnectionLost, NotStreamableHttp, TakenForABot
from tools.mcp_client.messages import Fault
from tools.mcp_client.shapes import LogLine, OnProgress, Progress, Server
from tools.payloads import tool_results

_MAX_ERROR_BODY: Final = 64 * 1024
_REFUSAL_SECONDS: Final = 2.0  # that the body of an error may take to arrive
MOST_LINES: Final = 100  # log notifications of one call that are told
_RECONNECT_AFTER: Final = 1.0  # seconds, where a stream that may be resumed names none
_MOST_OF_OTHERS: Final = 256 * 1024  # bytes of an answer that has neither content nor tools, such as a handshake's
_UNCOUNTED: Final = 128 * 1024  # bytes of an answer that the budget does not count
WHOLE_SECONDS: Final = 120.0  # that a large answer may take to arrive, once it has begun to
_EMPTY: Final = "The server's answer is empty."
_MOST_DIGITS: Final = 15  # of a Content-Length; one with more is ignored, as no such response is read


@dataclass(frozen=True, slots=True)
class Reply:
    """How a server answered: a result, a fault, or neither (then the status says it); `size` in bytes.

    `large` is the result of a call as JSON (see `ToolResult`), where `result` is without its content. `said` are the
    server's words about an error, as `quoting` lets them through.
    """

    status: int
    session_id: str | None = None
    result: dict[str, Any] | None = None
    fault: Fault | None = None
    size: int = 0
    large: bytes = b""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks for what comes before the answer: progress and log notifications, and requests of the server."""

    progress: OnProgress | None = None
    request: Callable[[dict[str, Any], Clock], None] | None = None


NO_LISTENER: Final = Listener()


class ResponseReader:
    """Reads the answer to one request; afterwards `unfinished` is what is left to do in the background."""

    __slots__ = (
        "_clock", "_counted", "_expected", "_large", "_lines", "_listener", "_not_finite", "_odd", "_other", "_pace",
        "_request", "_server", "_session", "_size", "_status", "_until_read", "unfinished",
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
        self._until_read = ExitStack()
        self._large = b""
        self._lines = 0  # of the log
        self._not_finite = False  # whether the answer has numbers that JSON cannot hold
        self._pace = pacing.Pace()
        self._odd: BadAnswer | None = None  # what a stream carried besides, to be told if no answer comes
        self._other: dict[str, Any] | None = None  # an answer on a stream with another id: ours if no other comes
        self.unfinished: Coroutine[Any, Any, None] | None = None

    async def read(self, response: egress.Response) -> Reply:
        """Return the reply; raises as `posting.post` says."""
        headers = refusals.combined(response.headers)
        try:
            self._status = response.status
            if guard := guards.among(name.decode("latin-1") for name in headers):
                raise TakenForABot(response.status, guard)
            if (error := refusals.error_for(response.status, headers, self._server)) is not None:
                error.said = (await self._read_refusal(response, headers)).said or error.said
                raise error
            session = headers.get(b"mcp-session-id")
            self._session = session.decode("latin-1") if session is not None else None
            if self._request.id is None:
                return self._bare()
            return await self._read_answer(response, headers)
        finally:
            self._until_read.close()
            if self.unfinished is None:
                await response.aclose()

    async def _read_answer(self, response: egress.Response, headers: dict[bytes, bytes]) -> Reply:
        kind = framing.kind_of(headers)
        if response.status >= HTTPStatus.BAD_REQUEST:
            return await self._read_refusal(response, headers)
        if framing.is_announced(kind):
            return self._reply(await self._message_in(response, headers, kind))
        if response.status != HTTPStatus.OK:
            raise BadAnswer("The server acknowledged a request without answering it.")
        try:
            return self._reply(await self._message_in(response, headers, kind))
        except BadAnswer as error:
            if error.sentence == _EMPTY:
                raise
            raise NotStreamableHttp from error

    async def _message_in(self, response: egress.Response, headers: dict[bytes, bytes], kind: bytes) -> Any:
        raw = aiter(response)
        chunks = self._plain(raw, headers)
        first = await framing.beginning(chunks, self._dropped)
        body = framing.joined(first, chunks)
        match framing.framing(first, kind):
            case "stream":
                self._odd = None if first else BadAnswer(_EMPTY)
                return await self._follow(response, raw, body)
            case "json":
                whole = await self._collect(body, headers)
                if not first and not whole.strip():
                    raise BadAnswer(_EMPTY)
                return self._among(await self._parsed(whole))
        raise NotStreamableHttp if first else BadAnswer(_EMPTY)

    def _dropped(self, count: int) -> None:
        self._clock.restart_idle()
        self._size += count
        self._check_size(self._size)

    def _among(self, value: Any) -> Any:
        return messages.answer_among(value, self._request.id, self._handle)

    def _plain(self, body: Any, headers: dict[bytes, bytes]) -> AsyncIterator[bytes]:
        """Return the body without its compression; the caller counts its bytes."""
        return decoding.plain(body, headers.get(b"content-encoding", b""), self._server.max_bytes)

    async def _collect(self, body: AsyncIterator[bytes], headers: dict[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < _MOST_DIGITS and int(length) and b"content-encoding" not in headers:
            self._expected = int(length)
            self._check_size(self._expected)
        parts: list[bytes] = []
        async for chunk in body:
            counted = self._counted
            await self._count_bytes(chunk)
            if self._counted and not counted:  # from now on others wait for what it holds of the budget
                self._clock.finish_within(WHOLE_SECONDS)
            else:
                self._clock.restart_idle()
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _follow(
        self, response: egress.Response, raw: AsyncIterator[bytes], body: AsyncIterator[bytes]
    ) -> dict[str, Any]:
        """Read a stream to the answer, and again from where it stopped if it may be resumed (2025-11-25).

        `body` is the response's `raw` bytes without their compression.
        """
        decoder = sse.Decoder()
        while True:
            try:
                message = await self._listen(response, raw, body, decoder)
            finally:
                if self.unfinished is None:
                    await response.aclose()
            if message is not None:
                return message
            if not decoder.last_id or not self._request.resumable:
                if self._other is not None:
                    return self._other
                raise self._odd or ConnectionLost
            await asyncio.sleep(_RECONNECT_AFTER if decoder.retry is None else decoder.retry)
            response = await self._reopen(decoder.last_id)
            headers = dict(response.headers)
            raw = aiter(response)
            body = self._plain(raw, headers)
            decoder = sse.Decoder(decoder.last_id, decoder.retry)

    async def _listen(
        self, response: egress.Response, raw: AsyncIterator[bytes], body: AsyncIterator[bytes], decoder: sse.Decoder
    ) -> dict[str, Any] | None:
        try:
            async for piece in pacing.pieces(body):
                self._clock.restart_idle()  # whatever it is, it is a sign of life
                await self._count_bytes(piece)
                for event in decoder.feed(piece):
                    message = await self._message(event)
                    if message is not None:
                        self.unfinished = framing.linger(raw, response)
                        return message
        except Unreachable as error:
            if not decoder.last_id or not self._request.resumable:
                raise ConnectionLost from error
            return None
        # The blank line after the last event is often forgotten; what is not whole is no JSON, and skipped.
        last = decoder.finish()
        return await self._message(last) if last is not None else None

    async def _message(self, event: sse.Event) -> dict[str, Any] | None:
        """Return the answer if this event holds it; any other message is handled here, and what is none is skipped."""
        if not event.data:
            return None
        self._pace.count()
        try:
            value = await self._parsed(event.data)
        except BadAnswer as error:
            self._note_broken(event, error)
            return None
        for message in value if isinstance(value, list) else [value]:
            if messages.is_answer(message):
                if messages.is_ours(message.get("id"), self._request.id):
                    return message  # type: ignore[no-any-return]
                self._other = self._other or message
            if isinstance(message, dict) and isinstance(message.get("method"), str):
                self._handle(message)
            elif not isinstance(message, dict) or messages.is_ours(message.get("id"), self._request.id):
                self._odd = BadAnswer("The server's stream ended with something that is no JSON-RPC answer.")
        if _is_called_error(event):
            self._note_error(words_in(value))
        return None

    def _note_broken(self, event: sse.Event, error: BadAnswer) -> None:
        if event.data.lstrip()[:1] in (b"{", b"["):
            self._odd = error
            self._pace.count_broken()
        if _is_called_error(event):
            self._note_error(event.data.decode("utf-8", "replace"))

    def _note_error(self, words: str) -> None:
        self._odd = BadAnswer("The server's stream ended with an error that is no JSON-RPC answer.")
        self._odd.said = quoting.quoted(words, self._server)

    async def _reopen(self, last_id: bytes) -> egress.Response:
        route = wire.route_to(self._server)
        headers = [pair for pair in route.headers if pair[0] not in (b"Accept", b"Content-Type")]
        headers += [(b"Accept", b"text/event-stream"), (b"Last-Event-ID", last_id), *self._request.headers]
        again = egress.Request(b"GET", route.url, headers, extensions=route.extensions)
        response = await egress.pool().handle_async_request(again)
        if response.status == HTTPStatus.OK:
            return response
        await response.aclose()
        raise ConnectionLost

    async def _read_refusal(self, response: egress.Response, headers: dict[bytes, bytes]) -> Reply:
        """Return the JSON-RPC error or the words that the body of a 4xx or 5xx may hold, if it comes in time."""
        kind = framing.kind_of(headers)
        if response.status < HTTPStatus.BAD_REQUEST or not refusals.may_have_words(kind):
            return self._bare()
        body = bytearray()
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS):
                async for chunk in self._plain(response, headers):
                    body += chunk
                    if len(body) > _MAX_ERROR_BODY:
                        return self._bare()
        except framing.BROKEN:
            return self._bare()
        value, words = refusals.read(bytes(body), kind)
        said = quoting.quoted(words, self._server)
        try:
            return self._bare(self._reply(self._among(value)).fault if value is not None else None, said)
        except BadAnswer:
            return self._bare(said=said)

    def _bare(self, fault: Fault | None = None, said: str = "") -> Reply:
        if fault is not None:
            said = quoting.quoted(messages.words_of(fault), self._server) or said
            fault = replace(fault, message=said)
        return Reply(self._status, self._session, fault=fault, said=said)

    def _reply(self, message: Any) -> Reply:
        refusal = self._status >= HTTPStatus.BAD_REQUEST
        try:
            read = messages.read(message, self._request.id, self._request.method, refusal=refusal)
        except BadAnswer as unusable:
            if not messages.is_answer(message):  # frameworks answer in their own words, with any status
                unusable.said = quoting.quoted(words_in(message), self._server)
            raise
        if isinstance(read, Fault):
            return self._bare(read)
        has_content = self._request.method in parsing.WITH_CONTENT
        if has_content and isinstance(error := read.get("error"), dict):  # of a failed task
            read = {**read, "error": error | {"message": quoting.quoted(str(error.get("message")), self._server)}}
        holder = read.get("result") if self._request.method == "tasks/get" else read
        if has_content and isinstance(holder, dict):
            holder["_meta"] = tool_results.meta_of(holder, not_finite=self._not_finite)
        return Reply(self._status, self._session, result=read, size=self._size, large=self._large)

    def _handle(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if self._listener.request is not None:
                self._listener.request(message, self._clock)
            return
        if self._listener.progress is None:
            return
        if (progress := messages.progress_in(message, self._request.id)) is not None:
            self._listener.progress(progress)
        elif self._lines < MOST_LINES and (line := messages.log_line_in(message)) is not None:
            self._lines += 1
            level, logger, text = (quoting.quoted(part, self._server) for part in line)
            self._listener.progress(Progress(None, line=LogLine(level, logger, text)))

    async def _parsed(self, body: bytes) -> Any:
        """Return a parsed message, and keep what else is known of it for the reply."""
        message = await parsing.parse(body, self._request.method, self._server, self._clock)
        self._large, self._not_finite = message.large, message.not_finite
        return message.value

    async def _count_bytes(self, chunk: bytes) -> None:
        """Count received bytes; once there are many, take the size of the answer from the budget."""
        self._size += len(chunk)
        self._check_size(self._size)
        if self._size <= _UNCOUNTED:
            return
        if not self._counted:
            self._counted = True
            account = self._until_read.enter_context(budget.account())
            with self._clock.stop_idle():
                await account.hold(self._server.tenant, self._expected)
        await asyncio.sleep(0)  # a server that sends faster than we read would let no other task run

    def _check_size(self, size: int) -> None:
        most = self._server.max_bytes
        if self._request.method not in parsing.WITH_CONTENT and self._request.method != parsing.LISTING:
            most = min(most, _MOST_OF_OTHERS)
        if size > most:
            raise AnswerTooLarge(most)


def _is_called_error(event: sse.Event) -> bool:
    """Tell whether the stream calls this event an error, which is told where no answer comes."""
    return b"error" in event.name.lower()
