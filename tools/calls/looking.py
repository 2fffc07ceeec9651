"""What the followers of calls see: new events, for all who look at one moment with one statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.utils import timezone

from connections import sealing
from connections.threads import in_thread
from tools.calls import ending
from tools.calls.lines import Reader
from tools.gathering import Gatherer
from tools.models import Call
from tools.models.call_states import FINAL_STATES
from tools.models.calls import seal_context

_AT_ONCE: Final = 100  # events of one call
_MOST_SEALED: Final = 64 * 1024  # characters of their progress, and one more event: a server may say 32 KB with each
_LOOKS_AT_ONCE: Final = 64
_LOOK: Final = f"""
    SELECT q.number, call.token_id, call.finished_at IS NOT NULL AND call.last_seq <= q.after, EXISTS (
            SELECT 1 FROM tools_accesstoken AS t, tools_assignment AS a, connections_tenant AS o
            WHERE t.id = q.token_id AND a.id = q.assignment_id AND o.id = q.tenant_id
                AND t.assignment_id = a.id AND a.tenant_id = o.id AND t.revoked_at IS NULL
                AND (t.expires_at IS NULL OR t.expires_at > %s) AND a.enabled AND o.suspended_at IS NULL
        ), event.seq, event.state, event.code, event.sealed_progress, event.at
    FROM unnest(%s::int[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[])
        AS q(number, id, tenant_id, assignment_id, token_id, after)
    JOIN tools_call AS call
        ON call.id = q.id AND call.tenant_id = q.tenant_id AND call.assignment_id = q.assignment_id
    LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT *, sum(length(sealed_progress)) OVER (ORDER BY seq) - length(sealed_progress) AS before FROM (
                SELECT seq, state, code, sealed_progress, at FROM tools_callevent
                WHERE call_id = q.id AND seq > q.after ORDER BY seq LIMIT {_AT_ONCE}
            ) AS next
        ) AS counted WHERE before < {_MOST_SEALED}
    ) AS event ON true
    ORDER BY q.number, event.seq
"""  # noqa: S608 - a number of ours


class Asked(NamedTuple):
    """A call of an assignment, the token of who looks, and the number of the event after which the others are new."""

    call_id: UUID
    tenant_id: UUID
    assignment_id: UUID
    token_id: UUID
    after: int


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of a call, or one step of its progress."""

    seq: int
    state: str
    code: str
    sealed_progress: str
    at: datetime
    seal_context: str

    def progress(self) -> dict[str, Any] | None:
        """Return the step (progress, total, message), or None for a transition; raises SealBroken."""
        if not self.sealed_progress:
            return None
        return dict(sealing.unseal(self.sealed_progress, context=self.seal_context))


@dataclass(frozen=True, slots=True)
class Look:
    """The new events of a call in their order.

    `over` says that no others will follow, `accepted` whether the token of who looks is valid now (of the assignment,
    in an organization that is not suspended), and `made_with` is the token that the call was made with.
    """

    events: list[Event]
    over: bool
    accepted: bool
    made_with: UUID | None

    @property
    def is_full(self) -> bool:
        """Whether there may be more events at this moment."""
        sealed = sum(len(event.sealed_progress) for event in self.events)
        return len(self.events) == _AT_ONCE or sealed >= _MOST_SEALED


async def look(asked: Asked) -> Look | None:
    """Return what is new of a call; None if the assignment has no such call, or no longer. Raises Django's errors."""
    return await _looks.get(asked)


async def _look(asked: Collection[Asked]) -> Mapping[Asked, Look]:
    if connection.vendor != "postgresql":
        return await in_thread(_look_one_by_one, asked)
    keys = list(asked)
    columns = [list(range(len(keys))), *map(list, zip(*keys, strict=True))]
    rows = await _reader.ask(_LOOK, [timezone.now(), *columns])
    return {keys[number]: _seen(keys[number], found) for number, found in groupby(rows, key=itemgetter(0))}


def _seen(asked: Asked, rows: Iterable[tuple[Any, ...]]) -> Look:
    context = seal_context(asked.tenant_id, asked.call_id)
    events, made_with, told, accepted = list[Event](), None, False, False
    for _, made_with, told, accepted, seq, *event in rows:  # noqa: B007 - the same in each row
        if seq is not None:
            state, code, sealed_progress, at = event
            events.append(Event(seq, state, code, sealed_progress, at, context))
    return Look(events, events[-1].state in FINAL_STATES if events else told, accepted, made_with)


def _look_one_by_one(asked: Collection[Asked]) -> dict[Asked, Look]:
    seen, gone = dict[Asked, Look](), ending.invalid_tokens({one.token_id for one in asked}, timezone.now())
    for one in asked:
        row = Call.objects.filter(pk=one.call_id, tenant=one.tenant_id, assignment=one.assignment_id)
        call = row.only("token", "state", "last_seq").first()
        if call is not None:
            told, accepted = call.finished and call.last_seq <= one.after, one.token_id not in gone
            new = call.events.filter(seq__gt=one.after)[:_AT_ONCE]
            events = new.values_list("seq", "state", "code", "sealed_progress", "at")
            seen[one] = _seen(one, [(0, call.token_id, told, accepted, *event) for event in events or [(None,)]])
    return seen


_reader: Final = Reader()
_looks: Final[Gatherer[Asked, Look]] = Gatherer(_look, most=_LOOKS_AT_ONCE, whose=attrgetter("tenant_id"))
