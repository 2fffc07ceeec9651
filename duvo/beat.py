"""Beat's schedule, kept in memory: no file, and a sign of life at each turn."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from celery.beat import ScheduleEntry
from celery.beat import Scheduler as InMemory

from connections import heartbeats

_LOOKS_EVERY = 5  # seconds, at the latest: a sign of life must not wait for the next task that is due


class Entry(ScheduleEntry):
    """A task that is due when beat starts: without a file nobody knows when it was last sent, and each may come twice.

    Else what is due every hour would never be sent by a beat that is started anew more often than that.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take the last time from who copies an entry, else one that is long past."""
        super().__init__(*args, **options)
        if options.get("last_run_at") is None:
            self.last_run_at = self.default_now() - timedelta(days=1)


class Scheduler(InMemory):
    """Celery's own scheduler, with the schedule of the settings and nothing else."""

    Entry = Entry
    max_interval = _LOOKS_EVERY

    def __init__(self, *args: Any, **options: Any) -> None:
        """Begin without a sign of life."""
        self._shown = 0.0
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        """Take the schedule from the settings."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *args: Any, **options: Any) -> Any:
        """Send what is due, and show that beat works; at most every few seconds."""
        wait = super().tick(*args, **options)
        if time.monotonic() - self._shown > heartbeats.EVERY / 2:
            heartbeats.note_quickly("beat")
            self._shown = time.monotonic()
        return wait
