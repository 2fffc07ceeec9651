"""What happens to calls in other processes, seen from this one, and what happens here, told to the others.

Everything is said in the call's row. One coroutine per event loop looks at the rows that matter here, four times a
second and only while there are any: whether calls that somebody waits for have moved, whether calls that run here are
no longer wanted. It also writes down their progress and that they are alive. So a thousand waiting callers cost one
query and no thread. A call that another process speaks of through `pubsub` is looked at at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import Error as DatabaseFailed
from django.utils import timezone

from connections.threads import in_thread
from tools import limits, pubsub
from tools.errors import CallCancelled, LeaseLost
from tools.mcp_client import Progress
from tools.models import Call
from tools.models.moves import FINAL_STATES, UNDER_WAY, CallState

LOOK_EVERY = 0.25  # seconds
PROGRESS_EVERY = 1.0  # seconds between two steps of one call that are written down
_STEPS_AT_ONCE = 50
_LOOKED_AT_ONCE = 250

logger = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What a look at a call's row shows: its state, the number of its last event, whether it was answered."""

    state: CallState
    seq: int
    answered: bool

    @classmethod
    def of(cls, call: Call) -> Seen:
        """Return what a row shows that was read."""
        return cls(CallState(call.state), call.last_seq, bool(call.sealed_answers))

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES


Enough = Callable[[Seen], bool]


@dataclass(slots=True)
class Running:
    """A call that runs in this event loop, with what is to be told of it."""

    id: UUID
    attempt: int
    seal: Callable[[Any], str]
    task: asyncio.Task[object]
    place: limits.Place | None
    alive_after: float  # when its lease is renewed next, by the loop's clock
    step: Progress | None = None
    step_after: float = 0.0
    interrupted: type[CallCancelled | LeaseLost] | None = None

    def progress(self, step: Progress) -> None:
        """Take a step of progress; the next look writes the newest one down."""
        self.step = step

    def interrupt(self, reason: type[CallCancelled | LeaseLost]) -> None:
        """Stop what runs."""
        if self.interrupted is None:
            self.interrupted = reason
            self.task.cancel()


@dataclass(slots=True)
class _Watch:
    """What one event loop waits for and what it runs."""

    waiting: defaultdict[UUID, list[tuple[Enough, asyncio.Future[Seen]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    running: dict[UUID, Running] = field(default_factory=dict)
    moved: set[UUID] = field(default_factory=set)  # to be looked at before the others
    soon: asyncio.Event = field(default_factory=asyncio.Event)
    looking: asyncio.Task[None] | None = None
    listening: asyncio.Task[None] | None = None

    def hear(self, call_id: UUID) -> None:
        """Have a call looked at at once, if it matters here."""
        if call_id in self.waiting or call_id in self.running:
            self.moved.add(call_id)
            self.soon.set()

    def listen(self) -> None:
        """See to it that what other processes tell is heard, from now until the end of this loop."""
        if self.listening is None:
            self.listening = asyncio.ensure_future(pubsub.listen(self.hear))

    def look(self) -> None:
        """See to it that somebody looks."""
        if self.looking is None or self.looking.done():
            self.looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time() + LOOK_EVERY
        while self.waiting or self.running:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.soon.wait(), next_look - loop.time())
            self.soon.clear()
            if not (self.waiting or self.running):
                return
            at_all = loop.time() >= next_look or not self.moved.isdisjoint(self.running)
            waiting = self._in_turn() if at_all else list(self.moved & self.waiting.keys())
            running = self.running.values() if at_all else ()
            self.moved.clear()
            steps = self._steps(running, loop.time())
            due = [run for run in running if loop.time() >= run.alive_after]
            alive = [(run.id, run.attempt) for run in due]
            try:
                seen, unwanted, lost = await in_thread(_news, waiting, bool(running), steps, alive)
            except DatabaseFailed:  # whatever it is: those who wait here would wait for ever
                logger.warning("The rows of waiting and running calls could not be read; trying again.")
                await asyncio.sleep(LOOK_EVERY)
                continue
            if at_all:
                next_look = loop.time() + LOOK_EVERY
            for run in due:
                run.alive_after = _next_heartbeat()
            # Not of those that have ended since: their places are free, and would be taken for nobody.
            places = [run.place for run in due if run.place is not None and self.running.get(run.id) is run]
            await limits.keep(places, lease=settings.CALL_LEASE)
            self._tell(seen)
            for call_id in unwanted & self.running.keys():
                self.running[call_id].interrupt(CallCancelled)
            for run in due:
                if run.id in lost and self.running.get(run.id) is run:
                    run.interrupt(LeaseLost)

    def _in_turn(self) -> list[UUID]:
        """Return the calls waited for, as many as one look may cost; the others come first in the next one."""
        ids = list(islice(self.waiting, _LOOKED_AT_ONCE))
        for call_id in ids:
            self.waiting[call_id] = self.waiting.pop(call_id)
        return ids

    def _steps(self, running: Iterable[Running], now: float) -> list[tuple[UUID, int, str]]:
        steps: list[tuple[UUID, int, str]] = []
        for run in running:
            if run.step is not None and now >= run.step_after and len(steps) < _STEPS_AT_ONCE:
                said = {"progress": run.step.progress, "total": run.step.total, "message": run.step.message}
                steps.append((run.id, run.attempt, run.seal(said)))
                run.step, run.step_after = None, now + PROGRESS_EVERY
        return steps

    def _tell(self, rows: dict[UUID, Seen]) -> None:
        for call_id, seen in rows.items():
            for enough, future in self.waiting.get(call_id, ()):
                if not future.done() and enough(seen):
                    future.set_result(seen)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


async def until(call_id: UUID, enough: Enough, seconds: float) -> Seen | None:
    """Return what was seen of the call as soon as that is enough, in whatever process it runs; None in time's end."""
    watch = _watch()
    entry = (enough, asyncio.get_running_loop().create_future())
    watch.waiting[call_id].append(entry)
    watch.look()
    watch.listen()
    try:
        return await asyncio.wait_for(entry[1], seconds)
    except TimeoutError:
        return None
    finally:
        watch.waiting[call_id].remove(entry)
        if not watch.waiting[call_id]:
            del watch.waiting[call_id]
        if not watch.waiting:
            watch.soon.set()  # who looks for nobody stops


def moved(call_id: UUID) -> None:
    """Have those who wait in this process for a call look at once, as it has moved here."""
    _watch().hear(call_id)


@contextmanager
def running(
    call_id: UUID, attempt: int, *, seal: Callable[[Any], str], place: limits.Place | None = None
) -> Iterator[Running]:
    """Keep a call alive while it runs inside, and let others interrupt it.

    Raises CallCancelled when somebody no longer wants it, and LeaseLost when it is no longer ours.
    """
    watch, task = _watch(), asyncio.current_task()
    assert task is not None  # noqa: S101 - calls run in tasks
    if (older := watch.running.get(call_id)) is not None:  # its lease ran out, and the call has come here again
        older.interrupt(LeaseLost)
    run = watch.running[call_id] = Running(call_id, attempt, seal, task, place, _next_heartbeat())
    watch.look()
    try:
        yield run
    except asyncio.CancelledError:
        if run.interrupted is None:
            raise
        task.uncancel()
        raise run.interrupted from None
    finally:
        if watch.running.get(call_id) is run:
            del watch.running[call_id]


def _watch() -> _Watch:
    loop = asyncio.get_running_loop()
    if loop not in _watches:
        _watches[loop] = _Watch()
    return _watches[loop]


def _next_heartbeat() -> float:
    """Return when to renew a lease: within a third of it, and not for all calls that came together at once."""
    return asyncio.get_running_loop().time() + settings.CALL_LEASE / 3 * random.uniform(0.5, 1)  # noqa: S311 - spreads load, no secret


def _news(
    waiting: list[UUID], any_run: bool, steps: list[tuple[UUID, int, str]], alive: list[tuple[UUID, int]]
) -> tuple[dict[UUID, Seen], set[UUID], set[UUID]]:
    """Write what is to be told; return the rows waited for, the unwanted open calls, and those no longer ours."""
    now = timezone.now()
    for call_id, attempt, sealed in steps:
        still = Call.objects.filter(pk=call_id, attempts=attempt, state=CallState.RUNNING)
        still.update(progress_at=now, sealed_progress=sealed)
    lost = _say_alive(alive) if alive else set()
    unwanted = set(Call.objects.unwanted().values_list("pk", flat=True)) if any_run else set()
    rows = Call.objects.filter(pk__in=waiting).values_list("pk", "state", "last_seq", "sealed_answers")
    seen = {pk: Seen(CallState(state), seq, bool(answers)) for pk, state, seq, answers in rows} if waiting else {}
    return seen, unwanted, lost


def _say_alive(calls: list[tuple[UUID, int]]) -> set[UUID]:
    """Renew the leases of calls that run here and return those that another attempt or an end has taken from us."""
    by_attempt: defaultdict[int, list[UUID]] = defaultdict(list)
    for call_id, attempt in calls:
        by_attempt[attempt].append(call_id)
    ours: set[UUID] = set()
    lease_until = timezone.now() + timedelta(seconds=settings.CALL_LEASE)
    for attempt, ids in by_attempt.items():
        mine = Call.objects.filter(pk__in=ids, attempts=attempt, state__in=UNDER_WAY)
        mine.update(lease_until=lease_until)
        ours |= set(mine.values_list("pk", flat=True))
    return {call_id for call_id, _ in calls} - ours
