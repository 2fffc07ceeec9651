"""The worker's side of the queue `calls`: it takes queued calls off their rows and makes many in one event loop.

Only the rows count. Whoever queues a call wakes the workers through Redis, and a query every second finds what was not
announced, also while Redis is down. `turns.py` decides whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailed
from django.db import connection
from django.utils import timezone

from connections import egress, heartbeats
from connections.context import acting_for
from connections.threads import in_thread
from tools.calls import closing, pubsub, queued
from tools.calls.lines import Line
from tools.calls.sessions import keeping
from tools.calls.turns import Turns
from tools.models import Call

POLL_EVERY = 1.0  # seconds
_PUT_OFF = 10.0  # seconds in which it looks again at the end of each call, after one found no slot
_ASK_AGAIN = 0.2  # seconds between two questions whether a stopping worker is to wait no longer

logger = logging.getLogger(__name__)


class Claimer:
    """Makes queued calls, at most `slots` at a time, in this process's background loop."""

    def __init__(self, slots: int) -> None:
        """Start nothing yet."""
        self._turns = Turns(slots)
        self._line = Line()
        self._held: Counter[UUID] = Counter()  # calls under way by tenant; a call that waits for an answer is one
        self._running: set[asyncio.Task[None]] = set()
        self._some_wait = True  # for a slot of this worker, or of their limits
        self._put_off_at = -_PUT_OFF  # by the monotonic clock
        self._stopping = False
        self._soon = asyncio.Event()
        self._work: Future[None] | None = None
        self._shown = 0.0

    def start(self) -> None:
        """Begin to take calls."""
        self._work = egress.submit(self._claim_until_stopped())

    def stop(self, enough: Callable[[], bool]) -> None:
        """Take no more calls; return when those under way have ended, or as soon as `enough()` is true.

        After SHUTDOWN_GRACE_CALLS seconds those that are left are cut off.
        """
        if self._work is None:
            return
        egress.run(self._stop_claiming())
        while not self._work.done() and not enough():
            with suppress(TimeoutError):
                self._work.result(_ASK_AGAIN)

    async def _stop_claiming(self) -> None:
        self._stopping = True
        self._soon.set()
        closing.begin(settings.SHUTDOWN_GRACE_CALLS)

    async def _claim_until_stopped(self) -> None:
        listening = asyncio.ensure_future(pubsub.listen_for_queued(self._soon.set))
        keeping.here().stay()  # there is always a worker, whatever becomes of the web processes
        while not self._stopping:
            self._soon.clear()
            await self._claim()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY):
                    await self._soon.wait()
        listening.cancel()
        while self._running:
            await asyncio.wait(self._running)
        await self._line.close()

    async def _claim(self) -> None:
        """Start the calls whose turn it is."""
        if self._held.total() >= self._turns.slots:
            self._some_wait = True
            await self._show()
            return
        try:
            taken = await self._take()
        except DatabaseFailed:
            logger.warning("Queued calls could not be looked for; trying again.")
            return
        except Exception:  # else the worker would go on without ever taking a call again
            logger.exception("Queued calls could not be looked for; trying again.")
            return
        self._some_wait = self._turns.some_wait
        for call in taken:
            self._held[call.tenant_id] += 1
            task = asyncio.create_task(self._make(call))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await self._show()

    async def _take(self) -> list[Call]:
        now, keep = timezone.now(), timedelta(seconds=settings.CALL_LEASE)
        if connection.vendor == "postgresql":
            return await self._turns.take_on(self._line, self._held.copy(), now, keep)
        return await in_thread(self._turns.take, self._held.copy(), now, keep)

    async def _show(self) -> None:
        """Show every few seconds that this worker looks for calls."""
        if time.monotonic() - self._shown < heartbeats.EVERY / 2:
            return
        self._shown = time.monotonic()
        await asyncio.to_thread(heartbeats.note_quickly, "calls")  # Redis must not hold up the threads for queries
        await in_thread(heartbeats.note_in_database, {"calls": timezone.now()})

    async def _make(self, call: Call) -> None:
        tenant = call.tenant_id
        try:
            with acting_for(tenant):
                if await queued.run(call) is None:
                    self._put_off_at = time.monotonic()
        except Exception:  # the row says how far it got: it is taken again, or swept
            logger.exception("The queued call %s could not be made", call.pk)
        finally:
            self._held[tenant] -= 1
            self._held += Counter()  # forgets those who hold nothing
            if self._some_wait or time.monotonic() < self._put_off_at + _PUT_OFF:
                self._soon.set()  # else a free slot is of no use to anybody who is known
