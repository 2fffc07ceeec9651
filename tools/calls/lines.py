"""Connections to PostgreSQL that belong to an event loop: nothing waits for a thread, nothing is checked before.

Plain SQL, because the ORM costs four times as much on the way of a call; on SQLite there are none.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from connections import outages, statement_timeouts
from connections.egress.loop import close_with_the_loop

Rows = list[tuple[Any, ...]]

# In the FROM of a statement: what it commits may be taken back by a crash of the database within half a second.
QUICKLY: Final = "(SELECT set_config('synchronous_commit', 'off', true)) AS quickly"

_LONGEST: Final = 60.0  # seconds of a statement where the settings set no limit
_LONGER: Final = 5.0
_IDLE_SECONDS: Final = 1.0
# A statement is planned once. PostgreSQL would plan it for tables as large as they are at that moment; whatever they
# become, each row is looked up by its key.
_PLAN: Final = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off",
        "enable_mergejoin": "off", "enable_material": "off", "enable_bitmapscan": "off", "jit": "off",
    }.items()
)  # fmt: skip


class NotConnected(OperationalError):
    """The database could not be reached; it was tried just now."""


class Line:
    """One connection to PostgreSQL, made when it is needed."""

    def __init__(self, *, waits_for_locks: int = 0) -> None:
        """Connect to nothing yet.

        A statement waits for the locks of others for so many milliseconds; for 0, as long as the settings say.
        """
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._options = f"{_PLAN} -c lock_timeout={waits_for_locks}" if waits_for_locks else _PLAN

    async def ask(self, statement: str, values: Sequence[Any]) -> Rows:
        """Execute a statement in a transaction of its own; raises Django's errors, NotConnected among them."""
        line = await self._connected()
        patience = asyncio.get_running_loop().call_later(_patience(), _cut, line)
        try:
            with connection.wrap_database_errors:
                found = await line.execute(statement, values)
                return await found.fetchall()
        finally:
            patience.cancel()

    async def ask_again(self, statement: str, values: Sequence[Any]) -> Rows:
        """Do the same for a statement that may be executed twice: once more if the database was restarted, say."""
        fresh = self._connection is None
        try:
            return await self.ask(statement, values)
        except (InterfaceError, OperationalError) as failure:
            if fresh or statement_timeouts.expired(failure) or not outages.is_away(failure):
                raise
        await self.close()
        return await self.ask(statement, values)

    async def close(self) -> None:
        """Give the connection back to the database."""
        line, self._connection = self._connection, None
        if line is not None:
            with suppress(psycopg.Error):
                await line.close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            parameters = connection.get_connection_params()
            del parameters["cursor_factory"]
            parameters["options"] = f"{parameters.get('options', '')} {self._options}"
            if parameters["prepare_threshold"] is not None:  # which says that something between us cannot do it
                parameters["prepare_threshold"] = 0
            try:
                self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            except psycopg.OperationalError as failure:
                raise NotConnected(str(failure)) from failure
        return self._connection


class Reader:
    """Asks what may be asked twice, in each event loop on a line of its own; an idle one is given back."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()

    async def ask(self, statement: str, values: Sequence[Any]) -> Rows:
        """Execute a statement, one at a time; raises as `Line.ask` does."""
        loop = asyncio.get_running_loop()
        kept = self._loops.get(loop)
        if kept is None:
            kept = self._loops[loop] = _Kept()
        return await kept.ask(statement, values)


class _Kept:
    def __init__(self) -> None:
        self._line = Line()
        self._one_at_a_time = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lifetime = close_with_the_loop(self._line.close)

    async def ask(self, statement: str, values: Sequence[Any]) -> Rows:
        if self._idle is not None:
            self._idle.cancel()
        async with self._one_at_a_time:
            try:
                return await self._line.ask_again(statement, values)
            finally:
                if self._idle is not None:
                    self._idle.cancel()
                self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        self._idle = None
        self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        async with self._one_at_a_time:
            if self._idle is None:
                await self._line.close()


def _patience() -> float:
    """Return after how many seconds a server that ends long statements by itself must have died."""
    return (settings.DATABASE_STATEMENT_TIMEOUT or _LONGEST) + _LONGER


def _cut(line: psycopg.AsyncConnection[Any]) -> None:
    """Cut the connection: who waits for an answer gets an error, where cancelling would ask the server, and wait."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(line.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
