"""The worker's side of the checks that are due: each process of the queue `probes` takes them off their rows.

Only the rows count. A message wakes one process that sleeps; as long as checks are due it goes on by itself, with as
many at a time as it has places, and wakes another process when all of these are taken. So nothing is counted per tick,
and whatever else is in the queue waits for no check.

The longest waiting is next. An organization has no more under way than its share (see `connections.shares`), however
many are due: the rest of them is passed over, and whoever stands behind them is next.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final
from uuid import UUID

from celery import current_app
from django.db import Error as DatabaseFailed
from django.db import close_old_connections
from django.db import connection as database
from django.utils import timezone
from kombu.exceptions import OperationalError

from connections import shares
from connections.checking import CHECKS
from connections.context import acting_for
from connections.egress.loop import release_database
from connections.models import Connection
from tools.catalog import probing

PLACES: Final = 16  # checks of one process at a time; most of the time they wait for their servers
WAKE: Final = "tools.check_due"  # the name of the task that wakes a process
WAKES: Final = 5  # seconds for which its message is of use
_LOOKED_AT: Final = 64  # rows at a time
_AGAIN: Final = 1.0  # seconds until the next look while checks are under way, at the latest
_GATHER: Final = 0.1  # seconds in which places that fall free are gathered, so that one look fills several
_PASSED_OVER: Final = 1.0  # seconds without a question about an organization whose share is taken elsewhere

logger = logging.getLogger(__name__)


class Checker:
    """Makes the checks that are due, each in a thread of this process."""

    def __init__(self, places: int = PLACES) -> None:
        """Start nothing yet."""
        self._places = places
        self._threads = ThreadPoolExecutor(places, thread_name_prefix="check")
        self._changed = threading.Condition()
        self._held: Counter[UUID] = Counter()  # checks under way by tenant
        self._full: dict[UUID, float] = {}  # tenants whose share is taken elsewhere, and until when not to ask again
        self._news = False  # whether a check has ended, or somebody has called, since the last look
        self._behind = False  # whether the last look filled all places, so that more is due
        self._awake = False
        self._stopping = False
        self._called_another = 0.0

    def wake(self) -> None:
        """Have the checks made that are due, in the background."""
        with self._changed:
            self._note_news()
            if self._awake or self._stopping:
                return
            self._awake = True
        threading.Thread(target=self._work, name="checks", daemon=True).start()

    def run(self) -> None:
        """Make the checks that are due; return when there is none left that may begin, and all have ended."""
        while self._go_on(self._begin_checks()):
            pass

    def stop(self, patience: float) -> None:
        """Begin no more checks; return when those under way have ended, after so many seconds at the latest."""
        until = time.monotonic() + patience
        with self._changed:
            self._stopping = True
            self._note_news()
            while self._held.total() and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _work(self) -> None:
        try:
            self.run()
        except DatabaseFailed:
            logger.warning("Checks that are due could not be looked for; the next message tries again.")
        except Exception:
            logger.exception("Checks that are due could not be looked for; the next message tries again.")
        finally:
            self._awake = False
            database.close()

    def _go_on(self, begun: int) -> bool:
        """Wait until it is worth to look again; False if there is nothing to wait for."""
        looked = time.monotonic()
        with self._changed:
            if self._stopping or not (begun or self._held.total() or self._news):
                self._awake = False
                return False
            if not self._news:
                self._changed.wait(_AGAIN)
            while (left := looked + _GATHER - time.monotonic()) > 0 and not self._stopping:
                if self._behind and self._held.total() <= self._places // 2:
                    break
                self._changed.wait(left)
        return True

    def _begin_checks(self) -> int:
        """Begin as many checks as there are free places, and return how many that were."""
        with self._changed:
            self._news, free = False, self._places - self._held.total()
            if free <= 0 or self._stopping:
                return 0
            under_way = self._held.copy()
        close_old_connections()
        wanted: list[UUID] = []
        try:
            self._admit(wanted, free, under_way)
            self._behind = len(wanted) == free
            claimed = probing.claim(wanted, patient=False) if wanted else []
        except BaseException:
            _release(wanted)
            raise
        finally:
            release_database()
        if self._behind:
            self._call_another()
        _release([pk for pk in wanted if pk not in {row.pk for row in claimed}])  # somebody else was quicker
        for row in claimed:
            with self._changed:
                self._held[row.tenant_id] += 1
            self._threads.submit(self._check, row)
        return len(claimed)

    def _admit(self, wanted: list[UUID], most: int, under_way: Counter[UUID]) -> None:
        """Add the due connections whose turn it is, so many at most; each has a slot of its organization's share."""
        now, moment = timezone.now(), time.monotonic()
        self._full = {tenant: until for tenant, until in self._full.items() if until > moment}
        full = self._full.keys() | {tenant for tenant, held in under_way.items() if held >= shares.MOST}
        refusals: Counter[UUID] = Counter()
        seen: set[UUID] = set()
        while True:
            others = probing.due(now).exclude(tenant__in=full).exclude(pk__in=seen)
            rows = list(others.values_list("pk", "tenant")[:_LOOKED_AT])
            for pk, tenant in rows:
                if len(wanted) == most:
                    return
                if tenant in full:
                    continue
                seen.add(pk)
                if CHECKS.admits(tenant, pk):
                    wanted.append(pk)
                    under_way[tenant] += 1
                    if under_way[tenant] >= shares.MOST:
                        full.add(tenant)
                else:
                    refusals[tenant] += 1
                if refusals[tenant] > shares.MOST:  # not because just these are under way: all its slots are taken
                    self._full[tenant] = moment + _PASSED_OVER  # when one falls free, the dispatcher is called
                    full.add(tenant)
            if len(rows) < _LOOKED_AT:
                return

    def _check(self, row: Connection) -> None:
        try:
            with acting_for(row.tenant_id):
                probing.check(row)
        except Exception:
            logger.exception("The check of connection %s could not be made", row.pk)
        finally:
            database.close()
            CHECKS.release(row.pk)
            with self._changed:
                self._held[row.tenant_id] -= 1
                self._held += Counter()  # forgets those who hold nothing
                self._note_news()

    def _call_another(self) -> None:
        """Wake another process, as all places of this one are taken; once a second at most."""
        if time.monotonic() - self._called_another > _AGAIN:
            self._called_another = time.monotonic()
            with suppress(OperationalError, OSError):  # beat's dispatcher calls it as well
                current_app.send_task(WAKE, expires=WAKES, retry=False)

    def _note_news(self) -> None:
        self._news = True
        self._changed.notify_all()


def _release(rows: list[UUID]) -> None:
    for pk in rows:
        CHECKS.release(pk)


def here() -> Checker:
    """Return this process's own."""
    return _of_processes[-1]


_of_processes = [Checker()]
os.register_at_fork(after_in_child=lambda: _of_processes.append(Checker()))
