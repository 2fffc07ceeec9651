"""What a process writes and reads of the calls that it runs and waits for, all of them at a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from tools.models import Call
from tools.models.call_states import FINAL_STATES, UNDER_WAY, CallState


class Seen(NamedTuple):
    """What is known of a call: its state, the number of its last event (0: not read), whether it was answered."""

    state: CallState
    seq: int
    answered: bool

    @classmethod
    def of(cls, call: Call) -> Seen:
        """Return the same from a row that was read elsewhere."""
        return cls(CallState(call.state), call.last_seq, bool(call.sealed_answers))

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES


class Step(NamedTuple):
    """Progress of an attempt of a call, sealed."""

    id: UUID
    attempt: int
    sealed: str


class Exchanged(NamedTuple):
    """The rows that are waited for, and the ids of calls."""

    seen: dict[UUID, Seen]
    unwanted: set[UUID]  # open ones that somebody wants cancelled
    lost: set[UUID]  # that another attempt or an end has taken from us
    asking: set[UUID]  # that ask a person at this moment
    locked: set[UUID]  # of which nothing was written, as somebody has their rows locked


def exchange(
    waiting: list[UUID], any_run: bool, steps: list[Step], alive: list[tuple[UUID, int]], pausable: list[UUID]
) -> Exchanged:
    """Write progress, renew the leases of the calls that are `alive`, and read the rows that are waited for.

    `pausable` are those that may ask a person.
    """
    lost, locked = _write(steps, alive) if steps or alive else (set(), set())
    unwanted = set(Call.objects.unwanted().values_list("pk", flat=True)) if any_run else set()
    rows = Call.objects.filter(pk__in=waiting).values_list("pk", "state", "last_seq", "sealed_answers")
    seen = {pk: Seen(CallState(state), seq, bool(answers)) for pk, state, seq, answers in rows} if waiting else {}
    asks = Call.objects.filter(pk__in=pausable, state=CallState.INPUT_REQUIRED, sealed_answers="")
    asking = set(asks.values_list("pk", flat=True)) if pausable else set()
    return Exchanged(seen, unwanted, lost, asking, locked)


@transaction.atomic
def _write(steps: list[Step], alive: list[tuple[UUID, int]]) -> tuple[set[UUID], set[UUID]]:
    """Write progress and leases; return the calls that are no longer ours, and those whose rows are locked.

    A row that somebody has locked stays as it is: what one organization deletes must not cost the others their leases.
    """
    now, locked = timezone.now(), set()
    for step in steps:
        still = Call.objects.filter(pk=step.id, attempts=step.attempt, state=CallState.RUNNING)
        if not still.unlocked().update(progress_at=now, sealed_progress=step.sealed) and still.exists():
            locked.add(step.id)
    by_attempt: defaultdict[int, list[UUID]] = defaultdict(list)
    for call_id, attempt in alive:
        by_attempt[attempt].append(call_id)
    ours: dict[UUID, bool] = {}
    lease_until = now + timedelta(seconds=settings.CALL_LEASE)
    for attempt, ids in by_attempt.items():
        mine = Call.objects.filter(pk__in=ids, attempts=attempt, state__in=UNDER_WAY)
        mine.unlocked().update(lease_until=lease_until)
        ours |= {pk: until == lease_until for pk, until in mine.values_list("pk", "lease_until")}
    locked |= {pk for pk, renewed in ours.items() if not renewed}
    return {call_id for call_id, _ in alive} - ours.keys(), locked
