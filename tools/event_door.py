"""The life of one call as server-sent events (WHATWG HTML, section 9.2), from a door on the event loop.

Each event has the number of the call's move as its id, so a client that comes back with `Last-Event-ID` misses none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from connections.context import request_id
from connections.threads import in_thread
from tools import watching
from tools.authentication import principals
from tools.call_door import Door, own
from tools.models import Call, CallEvent
from tools.models.moves import FINAL_STATES

HEARTBEAT = 15.0  # seconds of silence after which a comment keeps proxies from closing the stream
_RETRY = b"retry: 1000\n\n"  # milliseconds after which a client comes back
_AT_ONCE = 500


class CallEvents(Door):
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
        call = await in_thread(own, self.principal, id)
        last = request.headers.get("Last-Event-ID", "")
        known = int(last[:9]) if last.isascii() and last.isdigit() else 0
        events = _stream(call.pk, known, self.token_digest or "")
        answer: Any = StreamingHttpResponse(events, content_type="text/event-stream")
        answer["Cache-Control"] = "no-store"
        answer["X-Accel-Buffering"] = "no"
        answer["X-Content-Type-Options"] = "nosniff"
        answer["X-Request-ID"] = request_id.get()
        return answer  # type: ignore[no-any-return]


async def _stream(call_id: UUID, last: int, token_digest: str) -> AsyncIterator[bytes]:
    yield _RETRY
    while await principals.get(token_digest) is not None:  # a revoked token hears nothing more
        events = await in_thread(_after, call_id, last)
        for event in events:
            yield _written(event)
            last = event.seq
            if event.state in FINAL_STATES:
                return
        if events:
            continue
        if await in_thread(_has_ended_at, call_id, last):
            return
        seen = await watching.until(call_id, lambda seen: seen.seq > last, HEARTBEAT)  # noqa: B023 - read at once
        if seen is None:
            yield b": still here\n\n"


def _after(call_id: UUID, last: int) -> list[CallEvent]:
    return list(CallEvent.objects.filter(call=call_id, seq__gt=last).select_related("call")[:_AT_ONCE])


def _has_ended_at(call_id: UUID, last: int) -> bool:
    """Tell whether nothing will come any more: the client knows the end, or the row is gone."""
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
