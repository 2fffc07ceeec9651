"""What a page or a task costs: its time, its bytes and its queries.

On a machine that others use, the time says how busy they were. Then the budget is held against what was computed, here
and in the database's process for this connection: it is what the page takes when the machine is its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from tests.load.machine import Others, cpu_seconds
from tests.scale.size import PAGE_KB, PAGE_MS, TASK_MS

TIMES = 4  # each is asked for so often, after once to be warm; the quickest says what it costs
BUSY = 10  # per cent of the machine that others may take before a time says little


@dataclass
class Database:
    """What was asked of the database."""

    queries: int = 0
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def __call__(self, execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        """Count one query (a wrapper of `connection.execute_wrapper`)."""
        began = time.perf_counter()
        try:
            return execute(sql, parameters, many, context)
        finally:
            took = time.perf_counter() - began
            self.queries, self.seconds = self.queries + 1, self.seconds + took
            self.slowest = max(self.slowest, (took, sql))


@dataclass(frozen=True)
class Cost:
    """What one page or task costs, and what it may."""

    who: str
    what: str
    milliseconds: float
    database: float  # milliseconds of them
    queries: int
    cpu: float = 0.0  # milliseconds that were computed, here and in the database
    kilobytes: float = 0.0
    status: int = 200
    most: float = PAGE_MS
    others: float = 0.0  # per cent of the machine
    slowest: str = field(default="", repr=False)

    @property
    def faults(self) -> list[str]:
        """What is over the budget."""
        counted = self.cpu if self.others > BUSY else self.milliseconds
        found = [f"{counted:.0f} ms"] if counted > self.most else []
        if self.kilobytes > PAGE_KB:
            found.append(f"{self.kilobytes:.0f} KB")
        return found + ([f"status {self.status}"] if self.status != 200 else [])

    def line(self) -> str:
        """Return the row of the table."""
        over = f"  OVER: {', '.join(self.faults)}" if self.faults else ""
        return (
            f"{self.who:<10} {self.milliseconds:7.1f} {self.database:7.1f} {self.cpu:7.1f} {self.kilobytes:6.1f} "
            f"{self.queries:7}  "
            f"{self.what}{over}"
        )


def page(who: str, address: str, get: Callable[[str], Any]) -> Cost | None:
    """Ask for a page several times and return what the quickest cost; None for a page of a list that is shorter."""
    answer = get(address)
    if answer.status_code == 302 and "?p=" in address:
        return None
    if answer.status_code != 200:
        return Cost(who, address, 0.0, 0.0, 0, status=answer.status_code)
    size = len(b"".join(answer.streaming_content) if answer.streaming else answer.content) / 1024
    return _quickest(who, address, lambda: get(address), PAGE_MS, kilobytes=size)


def task(name: str, run: Callable[[], object], before: Callable[[], object]) -> Cost:
    """Run a task several times, each after `before`, and return what the quickest cost."""
    before()
    run()
    return _quickest("task", name, run, TASK_MS, before)


def _quickest(
    who: str, what: str, run: Callable[[], object], most: float, before: Callable[[], object] = bool, *,
    kilobytes: float = 0.0,
) -> Cost:  # fmt: skip
    best, computed, others = None, 0.0, Others()
    for _ in range(TIMES):
        before()
        spent = _computed()
        with asked() as database:
            began = time.perf_counter()
            run()
            took = time.perf_counter() - began
        computed += _computed() - spent
        best = min(best or (took, database), (took, database), key=itemgetter(0))
    assert best is not None
    took, database = best
    return Cost(
        who, what, 1000 * took, 1000 * database.seconds, database.queries, 1000 * computed / TIMES, kilobytes,
        most=most, others=others.share, slowest=f"{1000 * database.slowest[0]:.1f} ms: {database.slowest[1]}",
    )  # fmt: skip


def _computed() -> float:
    """Return the seconds that this thread and the database's process for its connection have computed."""
    from django.db import connection

    connection.ensure_connection()
    return time.thread_time() + cpu_seconds(connection.connection.info.backend_pid)


@contextmanager
def asked() -> Iterator[Database]:
    """Note what is asked of the database meanwhile."""
    from django.db import connection

    database = Database()
    with connection.execute_wrapper(database):
        yield database
