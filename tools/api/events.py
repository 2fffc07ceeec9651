"""The events of one call as server-sent events (WHATWG HTML, section 9.2), from a view on the event loop.

The number of each `CallEvent` is its id, so a client that reconnects with `Last-Event-ID` misses none.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from connections.context import request_id
from connections.threads import in_thread
from tools.api.calls import PresumingView, own_call
from tools.calls import limits, looking, watching
from tools.calls.exchanging import Seen
from tools.calls.looking import Asked, Event, Look
from tools.errors import CallerGone, CallNotFound

HEARTBEAT = 15.0  # seconds of silence after which a comment keeps proxies from closing the stream
_RETRY = b"retry: 1000\n\n"  # milliseconds after which a client reconnects
_LEASE = 4 * HEARTBEAT  # seconds; renewed with each heartbeat


class CallEvents(PresumingView):
    """The events of one call of this assignment."""

    method = "GET"

    @extend_schema(
        operation_id="calls_events",
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                location=OpenApiParameter.HEADER,
                description="The number of the last event that arrived; the stream goes on behind it.",
            )
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.STR,
                description="An event `state` for each move and `progress` for each step; the data is a JSON object. "
                "The stream ends after a final state; the call's own address then has the result.",
            )
        },
    )
    async def get(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Follow a call, from its beginning or from where the client was."""
        last = request.headers.get("Last-Event-ID", "")
        known = int(last[:9]) if last.isascii() and last.isdigit() else 0
        assert self.principal.assignment_id is not None  # noqa: S101 - the view admits only assignments
        mine = self.principal.tenant_id, self.principal.assignment_id, self.principal.token_id
        asked = Asked(UUID(str(id)), *mine, known)  # Django has made one of it, the short way has not
        slot = await limits.acquire_follower(
            limits.FollowerSlot("streams", asked.assignment_id, asked.tenant_id), lease=_LEASE
        )
        try:
            first = await self._first(asked)
        except BaseException:
            limits.release_follower(slot)
            raise
        events = _stream(asked, first, slot)
        answer: Any = StreamingHttpResponse(events, content_type="text/event-stream")
        answer["Cache-Control"] = "no-store"
        answer["X-Accel-Buffering"] = "no"
        answer["X-Content-Type-Options"] = "nosniff"
        answer["X-Request-ID"] = request_id.get()
        return answer  # type: ignore[no-any-return]

    async def _first(self, asked: Asked) -> Look:
        """Return the first look at a call; raises CallNotFound, CallerGone and ActingRefused."""
        first = await looking.look(asked)
        if first is None:
            raise CallNotFound
        if not first.accepted:
            raise CallerGone
        if first.made_with != self.principal.token_id:
            await in_thread(own_call, self.principal, str(asked.call_id), of=self.principal.tenant_id)
        return first


async def _stream(asked: Asked, look: Look | None, slot: limits.FollowerSlot) -> AsyncIterator[bytes]:
    keep_at = time.monotonic() + HEARTBEAT
    begin = _RETRY
    try:
        while look is not None and look.accepted:  # a revoked token gets nothing more
            if told := begin + b"".join(map(_written, look.events)):
                yield told
            begin = b""
            if look.over:
                return
            if look.events:
                asked = asked._replace(after=look.events[-1].seq)
            if not look.is_full:
                news = partial(_is_news, asked.after)
                seen = await watching.until(asked.call_id, news, HEARTBEAT, by=asked.token_id)
                if seen is None and watching.is_closing():  # the client connects to another process, and goes on there
                    return
                if seen is None:
                    yield b": still here\n\n"
            if time.monotonic() >= keep_at:
                keep_at = time.monotonic() + HEARTBEAT
                await limits.acquire_follower(slot, lease=_LEASE)
            look = await looking.look(asked)
    except CallerGone:
        return
    finally:
        limits.release_follower(slot)


def _is_news(after: int, seen: Seen) -> bool:
    return seen.finished or seen.seq > after


def _written(event: Event) -> bytes:
    step = event.progress()
    data: dict[str, Any] = {"state": event.state, "at": event.at.isoformat(timespec="milliseconds")}
    if step is not None:
        data |= step
    if event.code:
        data["code"] = event.code
    kind = b"state" if step is None else b"progress"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, kind, orjson.dumps(data))
