"""`manage.py migrate`: Django's own, that keeps nobody waiting for long while the product runs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as StockCommand
from django.db import OperationalError, connections
from psycopg.errors import DeadlockDetected, LockNotAvailable

PATIENCE = 2  # seconds that a statement waits for a lock: everybody who wants the table waits behind it
TRIES = 60
_PAUSE = 3.0  # seconds, in which those who waited get their turn


class Command(StockCommand):
    """Give up a lock that is not free at once, let the others go on, and try again."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate; raises CommandError when a lock was never free. What was migrated until then stays."""
        with _short_waits(options["database"]):
            for number in range(1, TRIES + 1):
                try:
                    super().handle(*args, **options)
                except OperationalError as failure:
                    if not isinstance(failure.__cause__, LockNotAvailable | DeadlockDetected):
                        raise
                    self.stdout.write(f"\nThe product uses a table at this moment; try {number} of {TRIES}.")
                    time.sleep(random.uniform(0.3, 1) * _PAUSE)  # noqa: S311 - spreads load, no secret
                else:
                    return
        message = "A table was never free. Find out with pg_stat_activity who holds it, and run this again: it goes on."
        raise CommandError(message)


@contextmanager
def _short_waits(alias: str) -> Iterator[None]:
    connection = connections[alias]
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{PATIENCE}s'")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
