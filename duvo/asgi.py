"""The ASGI application: Django for everything, except that calls go to their views directly.

Django's handler costs 1 ms of CPU per request in thread hops for signals and middleware that a call does not need
(sessions, CSRF, static files, pages' headers). A call's view needs no thread at all, so it is called directly.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.core.exceptions import DisallowedHost

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402
from django.core.handlers.asgi import ASGIRequest  # noqa: E402 - these need the applications loaded
from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.middleware.security import SecurityMiddleware  # noqa: E402

from connections import key_holders, sealing  # noqa: E402
from connections.clients import header_of  # noqa: E402
from connections.context import WHOSE  # noqa: E402
from connections.errors import DuvoError  # noqa: E402
from duvo import bodies  # noqa: E402
from duvo.bodies import Receive  # noqa: E402
from duvo.caching import keep_private  # noqa: E402
from duvo.logging import new_request_id  # noqa: E402
from tools.api import calls, events, problems  # noqa: E402
from tools.calls import closing  # noqa: E402

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_View = Callable[..., Awaitable[HttpResponse | StreamingHttpResponse]]
_ID = r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_DIRECT_VIEWS: list[tuple[re.Pattern[str], _View]] = [
    (re.compile(pattern), cast("_View", view.as_view()))
    for pattern, view in [
        (r"/v1/tools/(?P<name>[A-Za-z0-9_-]+)/call", calls.CallTool),
        (rf"/v1/calls/{_ID}", calls.CallDetail),
        (rf"/v1/calls/{_ID}/cancel", calls.CancelCall),
        (rf"/v1/calls/{_ID}/input", calls.AnswerCall),
        (rf"/v1/calls/{_ID}/events", events.CallEvents),
    ]
]

# These views run outside Django's middleware; its rules about HTTPS are applied to them here.
_security = SecurityMiddleware(lambda _: HttpResponse())

# What is loaded by now lives as long as the process: a full collection among 1,000 waiting calls would traverse all of
# it and keep everybody waiting for a quarter of a second. New objects are collected less often for the same reason.
gc.collect()
gc.freeze()
gc.set_threshold(5_000, 5, 50)


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve one ASGI connection."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _no_websocket(scope, receive, send)
    else:
        await _answer(scope, receive, send)


async def _answer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    headers = dict(scope["headers"])
    scope[WHOSE] = partial(bodies.whose, scope)  # until it is known better
    try:
        if headers.get(b"upgrade", b"").lower() == b"websocket":
            raise problems.NoWebSockets
        body = await bodies.read(scope, headers, receive)
    except bodies.ClientGone:
        return
    except DuvoError as refusal:
        await _refuse(scope, receive, send, refusal)
        return
    for pattern, view in _DIRECT_VIEWS:
        if match := pattern.fullmatch(scope["path"]):
            await _call(scope, body, receive, send, view, match.groupdict())
            return
    await django_application(scope, bodies.again(body, receive), send)


async def _call(
    scope: dict[str, Any], body: bytes, receive: Receive, send: Send, view: _View, names: dict[str, str]
) -> None:
    request = ASGIRequest(scope, io.BytesIO(body))
    new_request_id(header_of(request, "X_REQUEST_ID"))
    try:
        answer: HttpResponse | StreamingHttpResponse | None = _security.process_request(request)
        request.get_host()
    except DisallowedHost:
        answer = calls.refuse(problems.UnknownHost())
    if answer is None:
        answer = await view(request, **names)
    keep_private(answer)
    _security.process_response(request, cast("HttpResponse", answer))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": _headers(answer)})
    if isinstance(answer, HttpResponse):
        await send({"type": "http.response.body", "body": answer.content})
    else:
        await _stream(answer, receive, send)


async def _refuse(scope: dict[str, Any], receive: Receive, send: Send, refusal: DuvoError) -> None:
    """Answer a request without using its body; the answer is sent first, then the rest of the body read and dropped."""
    request = ASGIRequest(scope, io.BytesIO())
    new_request_id(request.headers.get("X-Request-ID"))
    answer = calls.refuse(refusal)
    if not scope["path"].startswith("/v1/"):
        answer.content, answer["Content-Type"] = f"{refusal.sentence}\n".encode(), "text/plain; charset=utf-8"
    answer["Connection"] = "close"
    _security.process_response(request, answer)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": _headers(answer)})
    await send({"type": "http.response.body", "body": answer.content, "more_body": True})
    await bodies.drain(receive)
    await send({"type": "http.response.body", "body": b""})


def _headers(answer: HttpResponse | StreamingHttpResponse) -> list[tuple[bytes, bytes]]:
    headers = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in answer.items()]
    if isinstance(answer, HttpResponse) and not answer.has_header("Content-Length"):
        headers.append((b"content-length", str(len(answer.content)).encode()))
    return headers


async def _no_websocket(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Refuse a WebSocket with 404; servers that cannot send that send 403."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = f"{problems.NoWebSockets().sentence}\n".encode()
    kind = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": 404, "headers": kind})
    await send({"type": "websocket.http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Show from the start on which keys this process has, and end its calls at the end."""
    await receive()
    stop_showing = key_holders.keep_showing("web", sealing.key_ids)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    stop_showing()
    await closing.begin(settings.SHUTDOWN_GRACE_WEB)  # also for calls that nobody waits for here
    await send({"type": "lifespan.shutdown.complete"})


async def _stream(answer: StreamingHttpResponse, receive: Receive, send: Send) -> None:
    """Send the parts of a streamed answer until it ends, or the client disconnects."""

    async def sending() -> None:
        async for part in cast("AsyncIterator[bytes]", answer.streaming_content):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    work = asyncio.ensure_future(sending())
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        work.cancel()
    if work.done() and not work.cancelled():
        work.result()
