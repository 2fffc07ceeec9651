"""Deletes something before the n-th statement that a story sends to the database, for every n."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

from django.db import connection, connections
from django.db.backends.signals import connection_created

from tools.calls.ledger.postgresql import Line
from tools.calls.ledger.rows import Entry

BLOCKED = 0.15  # seconds after which a deletion is taken to wait for the story's own transaction


class Deleter:
    """Runs `delete` once, before the statement with this number, whichever thread sends it."""

    def __init__(self, number: int, delete: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self.done = self.reached = False
        self._left = number
        self._delete = delete
        self._one = threading.Lock()
        self._waiting: threading.Thread | None = None

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        self.count(in_transaction=statement[-1]["connection"].in_atomic_block)
        return execute(*statement)

    def count(self, *, in_transaction: bool) -> None:
        """Note that a statement is about to be sent, and delete if it is the one."""
        with self._one:
            self._left -= 1
            mine = self._left == 0
        if mine:
            self.reached = True
            self._act(in_transaction=in_transaction)

    def _act(self, *, in_transaction: bool) -> None:
        if in_transaction and connection.vendor == "sqlite":  # which has one writer: nothing can come between
            return
        self.done = True
        self._waiting = threading.Thread(target=self._run)
        self._waiting.start()
        self._waiting.join(BLOCKED if in_transaction else None)

    def _run(self) -> None:
        try:
            self.outcome = self._delete()
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.outcome = error
        finally:
            connections.close_all()

    def join(self) -> None:
        if self._waiting is not None:
            self._waiting.join(20)


@contextmanager
def deleting_before(number: int, delete: Callable[[], Any]) -> Iterator[Deleter]:
    """Watch the statements of every thread whose connection is opened inside, of this one, and of the ledger."""
    deleter = Deleter(number, delete)
    watched = []
    write = Line.commit  # on an asynchronous connection, of which Django knows nothing

    async def commit(line: Line, entries: Sequence[Entry]) -> set[UUID]:
        await asyncio.to_thread(deleter.count, in_transaction=False)
        return await write(line, entries)

    def watch(connection: Any, **_: Any) -> None:
        own = threading.current_thread() is deleter._waiting  # the deletion's own statements
        if not own and deleter not in connection.execute_wrappers:
            connection.execute_wrappers.append(deleter)
            watched.append(connection)

    connection_created.connect(watch, weak=False)
    watch(connection)
    try:
        with patch.object(Line, "commit", commit):
            yield deleter
    finally:
        connection_created.disconnect(watch)
        for one in watched:
            one.execute_wrappers.remove(deleter)
        deleter.join()
