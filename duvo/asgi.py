"""The ASGI application: Django for everything, with a straight way in for calls.

Django's own way costs 1 ms of CPU per request in thread hops for signals and middleware that a call does not need
(sessions, CSRF, static files, pages' headers). A call's view needs no thread at all, so it is asked directly.
"""

from __future__ import annotations

import asyncio
import gc
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

from connections.errors import DuvoError  # noqa: E402
from duvo.logging import new_request_id  # noqa: E402
from tools import call_door, event_door, problems  # noqa: E402

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_BODY_SECONDS = 60.0  # how long a body may take to arrive

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

# What is loaded by now lives as long as the process: a full collection among 1,000 waiting calls would look at all of
# it and keep everybody waiting for a quarter of a second. New objects are looked at less often for the same reason.
gc.collect()
gc.freeze()
gc.set_threshold(5_000, 5, 50)


class ClientGone(Exception):
    """The client has gone before its request was complete."""


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve one ASGI connection."""
    for pattern, view in _DOORS if scope["type"] == "http" else ():
        if match := pattern.fullmatch(scope["path"]):
            await _call(scope, receive, send, view, match.groupdict())
            return
    await django_application(scope, receive, send)


async def _call(scope: dict[str, Any], receive: Receive, send: Send, view: _View, names: dict[str, str]) -> None:
    refusal: DuvoError | None = None
    try:
        body, refusal = await _body(receive), None
    except ClientGone:
        return
    except DuvoError as error:
        body, refusal = b"", error
    request = ASGIRequest(scope, io.BytesIO(body))
    new_request_id(request.headers.get("X-Request-ID"))
    try:
        request.get_host()
    except DisallowedHost:
        refusal = problems.UnknownHost()
    answer = call_door.refuse(refusal) if refusal is not None else await view(request, **names)
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


async def _body(receive: Receive) -> bytes:
    """Return the body; raises TooLarge, TooSlow, and ClientGone for one that breaks off: that is not what was meant."""
    chunks: list[bytes] = []
    size, more, most = 0, True, settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while more and size <= 2 * most:  # what is only a little larger is read to its end, and then refused
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                size += len(message.get("body", b""))
                if size <= most:
                    chunks.append(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise problems.TooSlow from error
    if size > most:
        raise problems.TooLarge
    return b"".join(chunks)
