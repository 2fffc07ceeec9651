"""How long the database may work on one statement, and how long a statement waits for a lock.

Web processes and workers begin each connection with the settings DATABASE_STATEMENT_TIMEOUT and DATABASE_LOCK_TIMEOUT;
pages get less (`at_most`), housekeeping takes its time (`suspended`), and commands of `manage.py` begin without both.
What takes longer fails as OperationalError, and `expired` tells it from a database that is gone. All of this is for
PostgreSQL: SQLite has no such timeouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection, transaction
from psycopg import errors

PAGE_SECONDS = 10
_RAN_OUT = (errors.QueryCanceled, errors.LockNotAvailable)


def expired(error: BaseException) -> bool:
    """Whether the error is a timeout of a statement or a lock, and not a database that is gone."""
    return isinstance(error, _RAN_OUT) or isinstance(error.__cause__, _RAN_OUT)


def waited_for_lock(error: BaseException) -> bool:
    """Whether the error says that somebody else had a row locked for longer than the statement could wait."""
    return isinstance(error, errors.LockNotAvailable) or isinstance(error.__cause__, errors.LockNotAvailable)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Limit each statement inside to so many seconds; in one transaction, so that it works behind PgBouncer, too."""
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
        yield


@contextmanager
def suspended() -> Iterator[None]:
    """Let statements inside take as long as they need; does nothing where the settings name no timeouts."""
    if connection.vendor != "postgresql" or not (settings.DATABASE_STATEMENT_TIMEOUT or settings.DATABASE_LOCK_TIMEOUT):
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout; RESET lock_timeout")
