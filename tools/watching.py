"""What happens to calls in other processes, seen from this one: calls that end elsewhere, and wishes to cancel.

Everything is said in the call's row. One coroutine per event loop looks at the rows that matter here, four times a
second and only while there are any, so a thousand waiting callers cost one query and no thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from connections.threads import in_thread
from tools.errors import CallCancelled
from tools.models import Call

LOOK_EVERY = 0.25  # seconds

logger = logging.getLogger(__name__)


class _Watch:
    """What one event loop waits for and what it runs."""

    def __init__(self) -> None:
        self.waiting: defaultdict[UUID, set[asyncio.Future[None]]] = defaultdict(set)
        self.running: dict[UUID, asyncio.Task[object]] = {}
        self.cancelled: set[UUID] = set()
        self._looking: asyncio.Task[None] | None = None

    def look(self) -> None:
        """See to it that somebody looks."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())

    def ended(self, call_id: UUID) -> None:
        """Wake those who wait for this call."""
        for future in self.waiting.pop(call_id, ()):
            if not future.done():
                future.set_result(None)

    async def _look(self) -> None:
        while self.waiting or self.running:
            await asyncio.sleep(LOOK_EVERY)
            try:
                ended, unwanted = await in_thread(_news, list(self.waiting), bool(self.running))
            except DatabaseError:
                logger.warning("The rows of waiting calls could not be read; trying again.")
                continue
            for call_id in ended:
                self.ended(call_id)
            for call_id in unwanted & self.running.keys():
                self.cancelled.add(call_id)
                self.running[call_id].cancel()


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


async def until_ended(call_id: UUID, seconds: float) -> None:
    """Return when the call has ended, in whatever process, or when the time is up."""
    watch = _watch()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch.waiting[call_id].add(future)
    watch.look()
    try:
        await asyncio.wait_for(future, seconds)
    except TimeoutError:
        return
    finally:
        watch.waiting[call_id].discard(future)
        if not watch.waiting[call_id]:
            del watch.waiting[call_id]


def has_ended(call_id: UUID) -> None:
    """Wake at once those who wait in this process for a call that ended here."""
    _watch().ended(call_id)


@contextmanager
def cancellable(call_id: UUID) -> Iterator[None]:
    """Let a wish to cancel the call interrupt what runs inside; raises CallCancelled then."""
    watch, task = _watch(), asyncio.current_task()
    assert task is not None  # noqa: S101 - calls run in tasks
    watch.running[call_id] = task
    watch.look()
    try:
        yield
    except asyncio.CancelledError:
        if call_id not in watch.cancelled:
            raise
        task.uncancel()
        raise CallCancelled from None
    finally:
        del watch.running[call_id]
        watch.cancelled.discard(call_id)


def _watch() -> _Watch:
    return _watches.setdefault(asyncio.get_running_loop(), _Watch())


def _news(waiting: list[UUID], running: bool) -> tuple[set[UUID], set[UUID]]:
    """Return which of the waited-for calls have ended, and which open calls are wished to be cancelled."""
    ended = set(Call.objects.filter(pk__in=waiting).exclude(finished_at=None).values_list("pk", flat=True))
    return ended, set(Call.objects.unwanted().values_list("pk", flat=True)) if running else set()
