"""httpx2 over the guarded pool: for everything that is not the call path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from connections.egress import decoding, urls
from connections.egress.connection import Response
from connections.egress.pool import GuardedPool, pool
from connections.egress.request import Request
from connections.errors import AnswerRefused, DuvoError, Unreachable

USER_AGENT = "Duvo-Connections/0.1"
TIMEOUT = httpx2.Timeout(15.0, connect=10.0)  # seconds between two bytes; the whole is capped by `fetch`

_BEGINNING = 3.0  # seconds for the beginning of a body that may not end
_OF_COMPRESSED = frozenset({b"content-encoding", b"content-length"})
_MOST_COMPRESSED = 2 * 1024 * 1024  # bytes of a compressed body; who reads it counts what comes out


class Body(httpx2.AsyncByteStream):
    """A whole body that knows whether it was `sent`: before that no byte of the request has left."""

    def __init__(self, content: bytes) -> None:
        """Take the whole body."""
        self.content = content
        self.carrier: Request | None = None

    @property
    def sent(self) -> bool:
        """Whether a byte of its request may have left."""
        return self.carrier is not None and self.carrier.sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        yield self.content


class Transport(httpx2.AsyncBaseTransport):
    """An httpx2 transport through the running loop's pool; raises Refused and Unreachable."""

    def __init__(self, through: GuardedPool | None = None) -> None:
        """Take a pool of one's own, or use the running loop's."""
        self._pool = through

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Check the URL of this hop and send; an answer that is compressed against our wish is read all the same."""
        url = httpcore2.URL(urls.check_hop(str(request.url)))
        request.headers["accept-encoding"] = "identity"
        body = request.stream
        content = await request.aread()
        carrier = Request(request.method.encode(), url, request.headers.raw, content, request.extensions)
        if isinstance(body, Body):
            body.carrier = carrier
        answer = await (self._pool or pool()).handle_async_request(carrier)
        coding = dict(answer.headers).get(b"content-encoding", b"")
        try:
            stream = _AnswerStream(answer, coding)
        except AnswerRefused:
            await answer.aclose()
            raise
        # What is read is neither compressed nor as long as it was.
        headers = [pair for pair in answer.headers if not coding or pair[0] not in _OF_COMPRESSED]
        return httpx2.Response(answer.status, headers=headers, stream=stream)


class _AnswerStream(httpx2.AsyncByteStream):
    def __init__(self, answer: Response, coding: bytes) -> None:
        self._answer = answer
        self._plain = decoding.plain(answer, coding, _MOST_COMPRESSED)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._plain:
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


def client(through: GuardedPool | None = None) -> httpx2.AsyncClient:
    """Return a new, cheap client over the running loop's pool: no redirects, no proxies, no cookies kept.

    Closing it leaves the pool open.
    """
    return httpx2.AsyncClient(
        transport=Transport(through),
        timeout=TIMEOUT,
        headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a cookie of one tenant is never sent for another
        follow_redirects=False,
        trust_env=False,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, headers (case-insensitive), body."""

    status: int
    headers: httpx2.Headers
    body: bytes


async def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    data: Mapping[str, Any] | None = None,
    json: Any = None,
    max_bytes: int = 1024 * 1024,
    timeout: float = 15.0,  # noqa: ASYNC109 - one deadline over the whole exchange
    head_only: bool = False,
    enough: Callable[[bytes], bool] | None = None,
    through: GuardedPool | None = None,
) -> Answer:
    """Send one request and read its answer, at most `max_bytes` of it, within `timeout` seconds all in all.

    With `head_only` the body is left unread: it may be a stream that does not end. With `enough` it is read until that
    is true of what has come, and for at most three seconds; what has come by then is the body, and its trouble is not
    raised. A redirect is an answer like any other.
    Raises Refused, AnswerRefused (too large, compressed) and Unreachable.
    """
    async with client(through) as http:
        request = http.build_request(
            method, urls.check_hop(url), headers=headers, content=content, data=data, json=json
        )
        body = Body(await request.aread())
        request.stream = body
        try:
            async with asyncio.timeout(timeout):
                response = await http.send(request, stream=True)
                try:
                    body_read = b"" if head_only else await _read(response, max_bytes, enough)
                    return Answer(response.status_code, response.headers, body_read)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise Unreachable("The server took too long to answer.", code="answer_timeout", sent=body.sent) from error


async def _read(response: httpx2.Response, max_bytes: int, enough: Callable[[bytes], bool] | None) -> bytes:
    if enough is not None:
        return await _beginning(response, max_bytes, enough)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise AnswerRefused
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise AnswerRefused
    return bytes(body)


async def _beginning(response: httpx2.Response, max_bytes: int, enough: Callable[[bytes], bool]) -> bytes:
    body = bytearray()
    with suppress(TimeoutError, DuvoError):
        async with asyncio.timeout(_BEGINNING):
            async for chunk in response.aiter_raw():
                body += chunk[: max_bytes - len(body)]
                if len(body) >= max_bytes or enough(bytes(body)):
                    break
    return bytes(body)
