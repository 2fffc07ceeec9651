"""Lets a process see what happens to calls in others, and writes what happens to calls that run here.

Processes share only the call's row. One coroutine per event loop reads the rows that matter here, four times a second
and only while there are any: whether calls that somebody waits for have changed, whether calls that run here are no
longer wanted. It also writes their progress and renews their leases. So a thousand waiting callers cost one query and
no thread. A call that another process publishes through `pubsub` is read at once; that it has ended needs no reading.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from cachetools import TTLCache
from django.conf import settings
from django.db import Error as DatabaseFailed
from django.utils import timezone

from connections.threads import in_thread
from tools.calls import ending, limits, pubsub
from tools.calls.exchanging import Seen, Step, exchange
from tools.errors import CallCancelled, CallerGone, LeaseLost, ProcessStopped
from tools.mcp_client import LogLine, Progress
from tools.models.call_states import CallState

POLL_EVERY = 0.25  # seconds
ENDS_EVERY = 0.75  # seconds between two queries what has ended for the calls that run here, and for who waits here
PROGRESS_EVERY = 1.0  # seconds between two steps of one call that are written
_STEPS_AT_ONCE = 50
_LINES_AT_ONCE = 10  # of the log of one call
_READ_AT_ONCE = 250
_MOST_RUNNING = 1_000  # calls in one query what has ended
_MOST_ENDED = 2_000
_ENDED_FOR = 5.0  # seconds

logger = logging.getLogger(__name__)


Enough = Callable[[Seen], bool]


class _Waiter(NamedTuple):
    """Somebody who waits for a call, and the token with which."""

    enough: Enough
    seen: asyncio.Future[Seen]
    by: UUID | None


@dataclass(slots=True)
class Running:
    """A call that runs in this event loop, with what is to be written about it."""

    id: UUID
    attempt: int
    seal: Callable[[Any], str]
    task: asyncio.Task[object]
    slot: limits.Slot | None
    alive_after: float  # when its lease is renewed next, by the loop's clock
    step: Progress | None = None
    last: Progress = field(default_factory=lambda: Progress(None))  # the newest step that was written
    lines: list[LogLine] = field(default_factory=list)
    step_after: float = 0.0
    caller: UUID | None = None  # the token of who waits for it
    hang_up: asyncio.Future[bool] | None = None  # set to False when that token is no longer valid
    interrupted: CallCancelled | LeaseLost | ProcessStopped | None = None
    pause: Callable[[bool], None] | None = None  # told whether its row asks a person, by whatever process

    def progress(self, step: Progress) -> None:
        """Take a step of progress, of which only the newest is written, or a line of the log; with the next query."""
        if step.line is None:
            self.step = step
        elif len(self.lines) < _LINES_AT_ONCE:
            self.lines.append(step.line)

    def in_session(self) -> bool:
        """Whether a question for this call may reach another process."""
        return self.pause is not None

    def interrupt(self, reason: CallCancelled | LeaseLost | ProcessStopped) -> None:
        """Cancel the call's asyncio task; `running` raises the reason there."""
        if self.interrupted is None:
            self.interrupted = reason
            self.task.cancel()


class _Taken(NamedTuple):
    """What was taken from a running call to be written."""

    run: Running
    newest: Progress | None
    lines: list[LogLine]

    def step(self) -> Step:
        """Return it as it is written."""
        last = self.newest or self.run.last
        step: dict[str, Any] = {"progress": last.progress, "total": last.total, "message": last.message}
        if self.lines:
            step["log"] = [asdict(line) for line in self.lines]
        return Step(self.run.id, self.run.attempt, self.run.seal(step))


@dataclass(slots=True)
class _Watch:
    """What one event loop waits for and what it runs."""

    waiting: defaultdict[UUID, list[_Waiter]] = field(default_factory=lambda: defaultdict(list))
    running: dict[UUID, Running] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)  # whose rows are to be read before the others
    ends_after: float = 0.0  # when to query next what has ended, by the loop's clock
    soon: asyncio.Event = field(default_factory=asyncio.Event)
    polling: asyncio.Task[None] | None = None
    listening: asyncio.Task[None] | None = None
    closing: bool = False  # no caller waits here any more
    # Calls that have ended a moment ago, for who has read their rows before, and waits only now.
    ended: TTLCache[UUID, Seen] = field(default_factory=lambda: TTLCache(maxsize=_MOST_ENDED, ttl=_ENDED_FOR))

    def notify(self, call_id: UUID, state: CallState | None = None) -> None:
        """Tell those who wait for a call that it has ended in this state, or have its row read, if it matters here."""
        if state is not None:
            seen = self.ended[call_id] = Seen(state, 0, answered=False)
            _notify_waiters([(call_id, waiter) for waiter in self.waiting.get(call_id, ())], {call_id: seen})
        if call_id in self.running or any(not waiter.seen.done() for waiter in self.waiting.get(call_id, ())):
            self.changed.add(call_id)
            self.soon.set()

    def listen(self) -> None:
        """Subscribe to what other processes publish, from now until the end of this loop."""
        if self.listening is None:
            self.listening = asyncio.ensure_future(pubsub.listen(self.notify))

    def start(self) -> None:
        """Start the coroutine that reads the rows, unless it runs."""
        if self.polling is None or self.polling.done():
            self.polling = asyncio.ensure_future(self._poll())

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        next_poll = loop.time() + POLL_EVERY
        while self.waiting or self.running:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_poll):
                    await self.soon.wait()
            self.soon.clear()
            if not (self.waiting or self.running):
                return
            published = not self.changed.isdisjoint(self.running)
            at_all = loop.time() >= next_poll or published
            if published or (at_all and loop.time() >= self.ends_after):
                self.ends_after = loop.time() + ENDS_EVERY
                await self._read_ends()
            waiting = self._in_turn() if at_all else list(self.changed & self.waiting.keys())
            running = list(self.running.values()) if at_all else []
            self.changed.clear()
            if not await self._exchange(waiting, running):
                await asyncio.sleep(POLL_EVERY)
            elif at_all:
                next_poll = loop.time() + POLL_EVERY

    async def _exchange(self, waiting: list[UUID], running: list[Running]) -> bool:
        """Write and read what is to be known of these calls, and tell it; False if the database could not be asked."""
        now = asyncio.get_running_loop().time()
        # Who comes while the rows are read may know a newer state than is read here.
        waiters = [(call_id, waiter) for call_id in waiting for waiter in self.waiting.get(call_id, ())]
        taken = self._taken(running, now)
        due = [run for run in running if now >= run.alive_after]
        alive = [(run.id, run.attempt) for run in due]
        pausable = [run.id for run in filter(Running.in_session, running)]
        steps = [one.step() for one in taken]
        try:
            told = await in_thread(exchange, waiting, bool(running), steps, alive, pausable)
        except DatabaseFailed:  # whatever it is: those who wait here would wait for ever
            _give_back(taken)
            logger.warning("The rows of waiting and running calls could not be read; trying again.")
            return False
        _give_back(one for one in taken if one.run.id in told.locked)
        for run in due:
            if run.id not in told.locked:
                run.alive_after = _next_heartbeat()
        # Not of those that have ended since: their slots are free, and would be taken for nobody.
        slots = [run.slot for run in due if run.slot is not None and self.running.get(run.id) is run]
        await limits.renew(slots, lease=settings.CALL_LEASE)
        _notify_waiters(waiters, told.seen)
        for call_id in told.unwanted & self.running.keys():
            self.running[call_id].interrupt(CallCancelled())
        self._pause(pausable, told.asking)
        for run in due:
            if run.id in told.lost and self.running.get(run.id) is run:
                run.interrupt(LeaseLost())
        return True

    def _pause(self, pausable: list[UUID], asking: set[UUID]) -> None:
        for call_id in pausable:
            if (run := self.running.get(call_id)) is not None and run.pause is not None:
                run.pause(call_id in asking)

    async def _read_ends(self) -> None:
        """Interrupt the calls here for which something has ended, and end the waits of tokens that are invalid."""
        runs = list(islice(self.running.values(), _MOST_RUNNING))
        for run in runs:  # those that do not fit come first the next time
            self.running[run.id] = self.running.pop(run.id)
        waiters = [waiter for waiters in self.waiting.values() for waiter in waiters]
        callers = {run.caller for run in runs} | {waiter.by for waiter in waiters}
        try:
            ends, gone = await in_thread(_ends, [run.id for run in runs], callers - {None})
        except DatabaseFailed:
            logger.warning("What has ended could not be read; trying again.")
            return
        for call_id in ends.keys() & self.running.keys():
            end = ends[call_id]
            self.running[call_id].interrupt(CallCancelled(ending.in_part(end), code=end.code))
        for run in runs:
            if run.caller in gone and run.hang_up is not None and not run.hang_up.done():
                run.hang_up.set_result(False)
        for waiter in waiters:
            if waiter.by in gone and not waiter.seen.done():
                waiter.seen.set_exception(CallerGone())

    def _in_turn(self) -> list[UUID]:
        """Return the calls waited for, as many as one query may have; the others come first in the next one."""
        ids = list(islice(self.waiting, _READ_AT_ONCE))
        for call_id in ids:
            self.waiting[call_id] = self.waiting.pop(call_id)
        return ids

    def _taken(self, running: Iterable[Running], now: float) -> list[_Taken]:
        """Take from the calls what is to be written about them now."""
        taken: list[_Taken] = []
        for run in running:
            if (run.step is not None or run.lines) and now >= run.step_after and len(taken) < _STEPS_AT_ONCE:
                taken.append(_Taken(run, run.step, run.lines))
                run.last = run.step or run.last
                run.step, run.lines, run.step_after = None, [], now + PROGRESS_EVERY
        return taken


def _give_back(taken: Iterable[_Taken]) -> None:
    """Have written later what could not be written now."""
    for run, newest, lines in taken:
        run.step, run.lines = run.step or newest, [*lines, *run.lines][:_LINES_AT_ONCE]


def _notify_waiters(waiters: list[tuple[UUID, _Waiter]], rows: dict[UUID, Seen]) -> None:
    for call_id, waiter in waiters:
        seen = rows.get(call_id)
        if seen is not None and not waiter.seen.done() and waiter.enough(seen):
            waiter.seen.set_result(seen)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


async def until(call_id: UUID, enough: Enough, seconds: float, *, by: UUID | None = None) -> Seen | None:
    """Return what is known of the call as soon as `enough` accepts it, whichever process runs it; None after `seconds`.

    A caller, who has the token `by`, gets None as soon as this process is to end. Raises CallerGone when that token is
    no longer valid.
    """
    watch = _watch()
    if watch.closing and by is not None:
        return None
    watch.listen()
    if (ended := watch.ended.get(call_id)) is not None and enough(ended):
        return ended
    entry = _Waiter(enough, asyncio.get_running_loop().create_future(), by)
    watch.waiting[call_id].append(entry)
    watch.start()
    try:
        async with asyncio.timeout(seconds):
            return await entry.seen
    except (TimeoutError, ProcessStopped):
        return None
    finally:
        watch.waiting[call_id].remove(entry)
        if not watch.waiting[call_id]:
            del watch.waiting[call_id]
            if not watch.waiting:
                watch.soon.set()  # nobody waits any more: the coroutine may end


def answer_callers() -> None:
    """Let no caller wait in this event loop any more: the process ends, and others know as much."""
    watch = _watch()
    watch.closing = True
    for waiter in [waiter for waiters in watch.waiting.values() for waiter in waiters if waiter.by is not None]:
        if not waiter.seen.done():
            waiter.seen.set_exception(ProcessStopped())


def is_closing() -> bool:
    """Tell whether no caller waits in this event loop any more."""
    return _watch().closing


def cut_off() -> None:
    """Interrupt every call that runs in this event loop."""
    for run in list(_watch().running.values()):
        run.interrupt(ProcessStopped())


def notify(call_id: UUID) -> None:
    """Have a call's row read at once for those who wait for it in this process, where it has changed."""
    _watch().notify(call_id)


@contextmanager
def running(
    call_id: UUID,
    attempt: int,
    *,
    seal: Callable[[Any], str],
    slot: limits.Slot | None = None,
    caller: UUID | None = None,
    hang_up: asyncio.Future[bool] | None = None,
) -> Iterator[Running]:
    """Renew the lease of a call while it runs inside, and let others interrupt it.

    Raises CallCancelled when somebody no longer wants it or something has ended for it (the code says what), and
    LeaseLost when it is no longer ours. `hang_up` is set to False when the token `caller` is no longer valid.
    """
    watch, task = _watch(), asyncio.current_task()
    assert task is not None  # noqa: S101 - calls run in tasks
    if (older := watch.running.get(call_id)) is not None:  # its lease ran out, and the call has come here again
        older.interrupt(LeaseLost())
    run = Running(call_id, attempt, seal, task, slot, _next_heartbeat(), caller=caller, hang_up=hang_up)
    watch.running[call_id] = run
    watch.start()
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
    """Return when to renew a lease: within a third of it, at random, so that not all are renewed at once."""
    return asyncio.get_running_loop().time() + settings.CALL_LEASE / 3 * random.uniform(0.5, 1)  # noqa: S311 - spreads load, no secret


def _ends(running: list[UUID], callers: set[UUID]) -> tuple[dict[UUID, ending.End], set[UUID]]:
    """Return which of the calls have been ended, and which of the tokens are no longer valid."""
    now = timezone.now()
    gone = ending.invalid_tokens(callers, now) if callers else set()  # first: who gets a 401 now finds the call ended
    return ending.to_interrupt(running, now) if running else {}, gone
