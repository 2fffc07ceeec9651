"""The rows of the call path: written by one thread per process, many calls in one transaction.

A coroutine hands over a row and waits until it is committed, so a call is on disk before its first byte leaves. While
one transaction is on its way the next rows gather; at 32 callers a thread hop and a commit are shared by many calls.
Plain SQL, because the ORM costs four times as much here; `tools.models.Call` describes the same table. PostgreSQL gets
all statements of a transaction in one go and parses them once: each round trip of this thread costs a wait for the GIL,
which a busy event loop holds for milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from django.db import InterfaceError, OperationalError, connection, transaction

from connections import deleting, outages, sealing, statement_timeouts
from connections.errors import DuvoError
from tools.models import Call, StoredContent
from tools.models.call_states import OPEN_STATES
from tools.models.calls import seal_context

_MOST_AT_ONCE = 256
_IDLE_SECONDS = 1.0
_GATHER_SECONDS = 0.002

_OPEN = """
    INSERT INTO tools_call (id, tenant_id, assignment_id, token_id, connection_id, tool_id, tool_name, state,
        sealed_arguments, sealed_result, error_code, error_sentence, request_id, created_at, started_at, sent_at,
        lease_until, waits_until, traceparent, tool_digest, server_url, session_name, attempts, idempotency_key,
        body_digest)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, '', '', '', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, '', '')
"""
# If only the confirmation of a commit was lost, the row exists: without this, the caller would be told that the call is
# not made, and a worker would make it.
_OPEN_AGAIN = f"{_OPEN} ON CONFLICT (id) DO NOTHING"
# Not `finished_at IS NULL`: PostgreSQL would rather walk through its index of open calls than look up the one.
_FINISH = f"""
    UPDATE tools_call SET state = %s, sealed_result = %s, error_code = %s, error_sentence = %s, finished_at = %s,
        lease_until = NULL, waits_until = NULL, poll_at = NULL
    WHERE id = %s AND attempts = %s AND state IN ({", ".join(f"'{state}'" for state in OPEN_STATES)})
"""  # noqa: S608 - the states are ours


class LedgerUnavailable(DuvoError):
    """The call could not be written down, so it was not made. Try again in a moment."""

    code = "ledger_unavailable"


@dataclass(frozen=True, slots=True)
class Opening:
    """A call about to be made (then `started_at` is set, and bytes may leave), queued, or awaiting approval."""

    id: UUID
    tenant_id: UUID
    assignment_id: UUID
    token_id: UUID
    connection_id: UUID
    tool_id: UUID
    tool_name: str
    tool_digest: str
    server_url: str
    state: str
    arguments: bytes  # JSON, not sealed yet
    request_id: str
    created_at: datetime
    started_at: datetime | None
    lease_until: datetime | None
    waits_until: datetime | None = None
    traceparent: str = ""
    session_name: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt of a call ended; it is not written when the call has ended, or a later attempt is under way."""

    id: UUID
    attempt: int
    state: str
    tenant_id: UUID
    result: bytes  # JSON, not sealed yet; empty when there is none
    error_code: str
    error_sentence: str
    finished_at: datetime
    contents: Sequence[StoredContent] = ()  # contents that are too large for the result, as rows to be written


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Opening | Outcome
    loop: asyncio.AbstractEventLoop
    written: asyncio.Future[bool]


class _Writer:
    def __init__(self) -> None:
        self._entries: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def add(self, entry: _Entry) -> None:
        self._entries.put(entry)
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        busy = False
        while True:
            try:
                entries = [self._entries.get(timeout=_IDLE_SECONDS)]
            except queue.Empty:
                connection.close()  # an idle process holds no database connection
                entries = [self._entries.get()]
            if busy:  # calls run in parallel: a short wait makes one transaction of several
                time.sleep(_GATHER_SECONDS)
            while len(entries) < _MOST_AT_ONCE and not self._entries.empty():
                entries.append(self._entries.get_nowait())
            busy = len(entries) > 1
            self._write(entries)

    def _write(self, entries: list[_Entry]) -> None:
        rows = [entry.row for entry in entries]
        try:
            try:
                overtaken = _commit(rows)
            except (InterfaceError, OperationalError) as failure:
                if statement_timeouts.expired(failure) or outages.was_waited_for(
                    failure
                ):  # it would wait as long again
                    raise
                if deleting.waited_for_each_other(failure):
                    overtaken = deleting.carry_out_beside(lambda: _commit(rows, again=True))
                else:
                    connection.close()  # the database was restarted, say: a new connection may do
                    overtaken = _commit(rows, again=True)
        except Exception as error:  # noqa: BLE001 - whatever it was, the waiting calls have to get the error
            hopeless = statement_timeouts.expired(error) or outages.is_away(error)
            if len(entries) > 1 and not hopeless:  # one bad row must not take the others down
                for entry in entries:
                    self._write([entry])
            else:
                _notify(entries, set(), error)
        else:
            _notify(entries, overtaken, None)


def _commit(rows: Sequence[Opening | Outcome], *, again: bool = False) -> set[UUID]:
    """Write the rows in one transaction; return the calls that had another outcome by then."""
    adapt = _adapt()
    openings = [
        (
            adapt(row.id), adapt(row.tenant_id), adapt(row.assignment_id), adapt(row.token_id),
            adapt(row.connection_id), adapt(row.tool_id), row.tool_name, row.state, _sealed(row, row.arguments),
            row.request_id, row.created_at, row.started_at, row.started_at, row.lease_until, row.waits_until,
            row.traceparent, row.tool_digest, row.server_url, row.session_name,
        )
        for row in rows
        if isinstance(row, Opening)
    ]  # fmt: skip
    outcomes = [row for row in rows if isinstance(row, Outcome)]
    with transaction.atomic(), _cursor() as opening, _cursor() as finishing:
        with _pipelined():
            if openings:
                opening.executemany(_OPEN_AGAIN if again else _OPEN, openings)
            if outcomes:
                finishing.executemany(_FINISH, [_finish(row, adapt) for row in outcomes])
        overtaken = _overtaken(outcomes) if outcomes and finishing.rowcount < len(outcomes) else set()
        if stored := [content for row in outcomes if row.id not in overtaken for content in row.contents]:
            StoredContent.objects.bulk_create(stored)
    return overtaken


def _overtaken(outcomes: Sequence[Outcome]) -> set[UUID]:
    ends = dict(Call.objects.filter(pk__in=[row.id for row in outcomes]).values_list("pk", "finished_at"))
    return {row.id for row in outcomes if ends.get(row.id) != row.finished_at}


def _cursor() -> Any:
    """Return a cursor inside a transaction; on PostgreSQL one that binds at the server, where Django's own does not."""
    return psycopg.Cursor(connection.connection) if connection.vendor == "postgresql" else connection.cursor()


@contextmanager
def _pipelined() -> Iterator[None]:
    """Send the statements that are executed inside in one pipeline, where the database can."""
    if connection.vendor == "postgresql":
        with connection.wrap_database_errors, connection.connection.pipeline():
            yield
    else:
        yield


def _finish(row: Outcome, adapt: Callable[[UUID], UUID | str]) -> tuple[Any, ...]:
    sealed = _sealed(row, row.result)
    return (row.state, sealed, row.error_code, row.error_sentence, row.finished_at, adapt(row.id), row.attempt)


def _sealed(row: Opening | Outcome, data: bytes) -> str:
    # Here and not on the event loop: sealing 10 MB takes a while, and each seal releases the GIL several times.
    return sealing.seal_bytes(data, context=seal_context(row.tenant_id, row.id)) if data else ""


def _adapt() -> Callable[[UUID], UUID | str]:
    return (lambda value: value) if connection.features.has_native_uuid_field else (lambda value: value.hex)


def _notify(entries: list[_Entry], overtaken: set[UUID], error: Exception | None) -> None:
    for loop in {entry.loop for entry in entries}:
        waiting = [(entry.written, entry.row.id not in overtaken) for entry in entries if entry.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, waiting, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _resolve(waiting: list[tuple[asyncio.Future[bool], bool]], error: Exception | None) -> None:
    for future, written in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(written)
        else:
            unavailable = LedgerUnavailable()
            unavailable.__cause__ = error
            future.set_exception(unavailable)


_writer = _Writer()


def _after_fork() -> None:
    global _writer  # noqa: PLW0603 - a thread does not survive a fork
    _writer = _Writer()


os.register_at_fork(after_in_child=_after_fork)


async def write(row: Opening | Outcome) -> bool:
    """Return True once the row is committed, or False when the call already had another outcome, which is kept.

    Raises LedgerUnavailable when it could not be written.
    """
    loop = asyncio.get_running_loop()
    entry = _Entry(row, loop, loop.create_future())
    _writer.add(entry)
    return await entry.written
