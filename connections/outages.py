"""Telling a database that does not answer, or stores nothing, from one that answers with an error."""

from __future__ import annotations

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

# SQLSTATE: the server ends or does not let in yet (57P01 to 57P03), its connections are all taken (53300).
_TURNED_AWAY = frozenset({"57P01", "57P02", "57P03", "53300"})
_BROKEN = "08"  # class 08: the connection
_NOTHING_STORED = frozenset({"53100", "25006"})  # the disk is full; the transaction may only read


def is_away(error: BaseException) -> bool:
    """Whether the error, or what Django made of it, says that the database cannot be reached."""
    if isinstance(error, InterfaceError | psycopg.InterfaceError):
        return True
    cause = error.__cause__ if isinstance(error, OperationalError) else error
    if not isinstance(cause, psycopg.OperationalError):
        return False
    return cause.sqlstate is None or cause.sqlstate in _TURNED_AWAY or cause.sqlstate.startswith(_BROKEN)


def takes_no_writes(error: BaseException) -> bool:
    """Whether the error, or what Django made of it, says that the database stores nothing though it answers."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _NOTHING_STORED


def was_waited_for(error: BaseException) -> bool:
    """Whether it has been tried for a while to reach the database, so that trying again at once is of no use."""
    return isinstance(error.__cause__, PoolTimeout)
