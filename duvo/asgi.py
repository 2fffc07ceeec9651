"""The ASGI application: Django for everything, with a straight way in for calls.

Django's own way costs 1 ms of CPU per request in thread hops for signals and middleware that a call does not need
(sessions, CSRF, static files, pages' headers). A call's view needs no thread at all, so it is asked directly.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.core.exceptions import DisallowedHost

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - these need the applications loaded
from django.core.handlers.asgi import ASGIRequest  # noqa: E402
from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402

from duvo.logging import new_request_id  # noqa: E402
from tools import call_door, event_door, problems  # noqa: E402

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_View = Callable[..., Awaitable[HttpResponse | StreamingHttpResponse]]
_ID = r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_DOORS: list[tuple[re.Pattern[str], _View]] = [
    (re.compile(pattern), cast("_View", door.as_view()))
    for pattern, door in [
        (r"/v1/tools/(?P<name>[A-Za-z0-9_-]+)/call", call_door.CallTool),
        (rf"/v1/calls/{_ID}", call_door.CallDetail),
        (rf"/v1/calls/{_ID}/cancel", call_door.CancelCall),
        (rf"/v1/calls/{_ID}/input", call_door.AnswerCall),
        (rf"/v1/calls/{_ID}/events", event_door.CallEvents),
    ]
]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve one ASGI connection."""
    for pattern, view in _DOORS if scope["type"] == "http" else ():
        if match := pattern.fullmatch(scope["path"]):
            await _call(scope, receive, send, view, match.groupdict())
            return
    await django_application(scope, receive, send)


async def _call(scope: dict[str, Any], receive: Receive, send: Send, view: _View, names: dict[str, str]) -> None:
    body = await _body(receive)
    request = ASGIRequest(scope, io.BytesIO(body or b""))
    new_request_id(request.headers.get("X-Request-ID"))
    answer: HttpResponse | StreamingHttpResponse
    try:
        request.get_host()
    except DisallowedHost:
        answer = call_door.refuse(problems.UnknownHost())
    else:
        answer = await view(request, **names) if body is not None else call_door.refuse(problems.TooLarge())
    headers = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in answer.items()]
    if isinstance(answer, HttpResponse):
        headers.append((b"content-length", str(len(answer.content)).encode()))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    if isinstance(answer, HttpResponse):
        await send({"type": "http.response.body", "body": answer.content})
    else:
        await _stream(answer, receive, send)


async def _stream(answer: StreamingHttpResponse, receive: Receive, send: Send) -> None:
    """Send what comes until it ends, or the client goes."""

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


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or None when it is larger than allowed; the rest is then read and dropped."""
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks) if size <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE else None
