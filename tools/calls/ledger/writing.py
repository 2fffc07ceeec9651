"""Hands rows to the database, many in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Final, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import InterfaceError, OperationalError, connection

from connections import deleting, outages, refused_writes, statement_timeouts
from connections.egress.loop import close_with_the_loop
from connections.threads import in_thread
from tools.calls.ledger import by_django
from tools.calls.ledger.postgresql import Line
from tools.calls.ledger.rows import Entry, LedgerUnavailable, Outcome, Row
from tools.calls.lines import NotConnected

_MOST_AT_ONCE: Final = 256
_IDLE_SECONDS: Final = 1.0
_PATIENCE: Final = 200  # milliseconds that the rows of all may wait for a lock that somebody holds
_TRIES: Final = 5
_SEAL_HERE: Final = 128 * 1024  # bytes; sealing more would hold the event loop for a millisecond

_Waiting = tuple[Entry, asyncio.Future[bool]]


class _Database(Protocol):
    async def commit(self, entries: Sequence[Entry]) -> set[UUID]: ...

    async def close(self) -> None: ...


class _Sqlite:
    """Writes in the one thread that a database with one writer at a time has use for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def commit(self, entries: Sequence[Entry]) -> set[UUID]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, by_django.commit, entries)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, _close_own)


def _close_own() -> None:
    connection.close()  # asked for in the thread: each has a connection of its own


class _OfOne:
    """Writes rows of one organization in a thread, where they may wait for a lock as long as any statement may."""

    def __init__(self, tenant: UUID) -> None:
        self._tenant = tenant

    async def commit(self, entries: Sequence[Entry]) -> set[UUID]:
        return await in_thread(by_django.commit, entries, of=self._tenant)

    async def close(self) -> None:
        """Do nothing: a thread gives its connection back by itself."""


class _Writer:
    """Writes what one event loop hands over; while one commit is on its way, the next rows gather."""

    def __init__(self, database: _Database, at_rest: Callable[[], object] = bool) -> None:
        """Take where to write, and what to do each time when nothing is left to be written."""
        self._database = database
        self._at_rest = at_rest
        self._gathered: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None

    def add(self, entry: Entry) -> asyncio.Future[bool]:
        """Return a future of whether the row was written."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.take((entry, written))
        return written

    def take(self, one: _Waiting) -> None:
        """Write a row for which somebody waits already."""
        self._gathered.append(one)
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), context=Context())

    async def _work(self) -> None:
        try:
            while self._gathered:
                await self._write(self._next_batch())
        finally:
            self._working = None
            self._at_rest()

    def _next_batch(self) -> list[_Waiting]:
        """Take the next rows, one of each call: which were written is told by the calls' ids."""
        batch: dict[UUID, _Waiting] = {}
        later = []
        for one in self._gathered:
            call_id = one[0].row.id
            if call_id in batch or len(batch) == _MOST_AT_ONCE:
                later.append(one)
            else:
                batch[call_id] = one
        self._gathered = later
        return list(batch.values())

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            written = await self._commit([entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it was, the waiting calls have to get the error
            await self._not_written(batch, error)
        else:
            for entry, future in batch:
                if not future.done():
                    future.set_result(entry.row.id in written)

    async def _not_written(self, batch: list[_Waiting], error: Exception) -> None:
        refused_writes.note(error)
        hopeless = statement_timeouts.expired(error) or outages.is_away(error) or outages.takes_no_writes(error)
        if len(batch) > 1 and not hopeless:  # one bad row must not take the others down
            for one in batch:
                await self._write([one])
            return
        for _, future in batch:
            if not future.done():
                unavailable = LedgerUnavailable()
                unavailable.__cause__ = error
                future.set_exception(unavailable)

    async def _commit(self, entries: Sequence[Entry]) -> set[UUID]:
        for left in reversed(range(_TRIES)):
            try:
                return await self._database.commit(entries)
            except (InterfaceError, OperationalError) as failure:
                hopeless = statement_timeouts.expired(failure) or outages.was_waited_for(failure)
                if hopeless or isinstance(failure, NotConnected) or not left:
                    raise
                if not deleting.waited_for_each_other(failure):
                    break  # the database was restarted, say: a new connection may do
        await self._database.close()
        written = await self._database.commit(entries)
        unwritten = [entry for entry in entries if entry.row.id not in written]
        # Only the confirmation of the commit was lost: without this, callers would be told that nothing was made.
        return written | (await in_thread(by_django.already_there, unwritten) if unwritten else set())


class _OfAll(_Writer):
    """Writes the rows of all organizations together, but has no row wait for a lock, nor for another one's contents.

    While a connection is deleted, say, calls of its organization wait for the locks of the deletion. Whoever meets a
    lock is written apart, and so is what that organization hands over until all of it is written.
    """

    def __init__(self, database: _Database) -> None:
        super().__init__(database, self._rest_in_a_while)
        self._apart: dict[UUID, _Writer] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._lifetime = close_with_the_loop(self._database.close)

    def take(self, one: _Waiting) -> None:
        row = one[0].row
        has_contents = isinstance(row, Outcome) and row.contents and not isinstance(self._database, _Sqlite)
        if has_contents or row.tenant_id in self._apart:
            self._take_apart(one)
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        super().take(one)

    def _take_apart(self, one: _Waiting) -> None:
        tenant = one[0].row.tenant_id
        if tenant not in self._apart:
            self._apart[tenant] = _Writer(_OfOne(tenant), partial(self._apart.pop, tenant))
        self._apart[tenant].take(one)

    async def _not_written(self, batch: list[_Waiting], error: Exception) -> None:
        if not statement_timeouts.waited_for_lock(error):
            await super()._not_written(batch, error)
            return
        for one in batch:
            self._take_apart(one)
        waiting, self._gathered = self._gathered, []
        for one in waiting:  # in their order: also those of the same organizations go apart
            self.take(one)

    def _rest_in_a_while(self) -> None:
        """Hold no database connection while nothing is written."""
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        self._idle = None
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._close(), context=Context())

    async def _close(self) -> None:
        try:
            await self._database.close()
        finally:  # whatever closing meets, the next rows are written
            self._working = None
            if self._gathered:
                self._working = asyncio.get_running_loop().create_task(self._work(), context=Context())


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Writer] = WeakKeyDictionary()


def _writer() -> _Writer:
    loop = asyncio.get_running_loop()
    writer = _writers.get(loop)
    if writer is None:
        database = Line(waits_for_locks=_PATIENCE) if connection.vendor == "postgresql" else _Sqlite()
        writer = _writers[loop] = _OfAll(database)
    return writer


async def write(row: Row) -> bool:
    """Return True once the row is committed, and False when it was not written.

    Of an opening that means that its version is another by now, or its idempotency key taken; of a claim that its
    version is another, or the call no longer queued; of a sending that the attempt is no longer under way; of an
    outcome that the call already had another one, which is kept. Raises LedgerUnavailable when it could not be written.
    """
    large = len(getattr(row, "arguments", b"") or getattr(row, "result", b"")) > _SEAL_HERE
    sealed = await asyncio.to_thread(row.sealed) if large else row.sealed()
    return await _writer().add(Entry(row, sealed))
