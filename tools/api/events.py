"""The events of one call as server-sent events (WHATWG HTML, section 9.2), from a view on the event loop.

The number of each `CallEvent` is its id, so a client that reconnects with `Last-Event-ID` misses none.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from connections.context import request_id
from connections.threads import in_thread
from tools.api.calls import AsyncView, own_call
from tools.callers import Principal, is_accepted, principals
from tools.calls import limits, watching
from tools.errors import CallerGone
from tools.models import Call, CallEvent
from tools.models.call_states import FINAL_STATES

HEARTBEAT = 15.0  # seconds of silence after which a comment keeps proxies from closing the stream
_RETRY = b"retry: 1000\n\n"  # milliseconds after which a client reconnects
_AT_ONCE = 500
_LEASE = 4 * HEARTBEAT  # seconds; renewed with each heartbeat

NewEvents = tuple[list[CallEvent], bool]  # the events, and whether they are the last


class CallEvents(AsyncView):
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
        call, first = await in_thread(_open, self.principal, id, known, of=self.principal.tenant_id)
        assert call.assignment_id is not None  # noqa: S101 - it is the caller's own
        slot = await limits.acquire_follower(
            limits.FollowerSlot("streams", call.assignment_id, call.tenant_id), lease=_LEASE
        )
        events = _stream(call, known, first, self.token_digest or "", self.principal.token_id, slot)
        answer: Any = StreamingHttpResponse(events, content_type="text/event-stream")
        answer["Cache-Control"] = "no-store"
        answer["X-Accel-Buffering"] = "no"
        answer["X-Content-Type-Options"] = "nosniff"
        answer["X-Request-ID"] = request_id.get()
        return answer  # type: ignore[no-any-return]


async def _stream(
    call: Call, last: int, new_events: NewEvents, token_digest: str, by: UUID, slot: limits.FollowerSlot
) -> AsyncIterator[bytes]:
    try:
        yield _RETRY
        async for part in _events(call, last, new_events, token_digest, by, slot):
            yield part
    finally:
        limits.release_follower(slot)


async def _events(
    call: Call, last: int, new_events: NewEvents, token_digest: str, by: UUID, slot: limits.FollowerSlot
) -> AsyncIterator[bytes]:
    keep_at = time.monotonic() + HEARTBEAT
    while is_accepted(await principals.get(token_digest)):  # a revoked token gets nothing more
        events, over = new_events
        for event in events:
            yield _written(event)
            last = event.seq
        if over:
            return
        if not events:
            try:
                seen = await watching.until(call.pk, lambda seen: seen.seq > last, HEARTBEAT, by=by)  # noqa: B023 - read at once
            except CallerGone:
                return
            if seen is None and watching.is_closing():  # the client connects to another process, and goes on there
                return
            if seen is None:
                yield b": still here\n\n"
        if time.monotonic() >= keep_at:
            keep_at = time.monotonic() + HEARTBEAT
            await limits.acquire_follower(slot, lease=_LEASE)
        new_events = await in_thread(_after, call, last, of=call.tenant_id)


def _open(principal: Principal, call_id: str, last: int) -> tuple[Call, NewEvents]:
    call = own_call(principal, call_id)
    return call, _after(call, last)


def _after(call: Call, last: int) -> NewEvents:
    """Return the events after the one with the number `last`."""
    events = list(call.events.filter(seq__gt=last)[:_AT_ONCE])
    return events, events[-1].state in FINAL_STATES if events else _has_ended_at(call.pk, last)


def _has_ended_at(call_id: UUID, last: int) -> bool:
    """Tell whether no event will follow: the call has ended and the client has its last one, or the row is gone."""
    return not Call.objects.filter(pk=call_id).exclude(finished_at__isnull=False, last_seq__lte=last).exists()


def _written(event: CallEvent) -> bytes:
    step = event.progress()
    data: dict[str, Any] = {"state": event.state, "at": event.at.isoformat(timespec="milliseconds")}
    if step is not None:
        data |= step
    if event.code:
        data["code"] = event.code
    kind = b"state" if step is None else b"progress"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, kind, orjson.dumps(data))
