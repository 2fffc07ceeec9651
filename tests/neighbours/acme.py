"""What acme notices: the time of its calls, of its queued calls and of its checks, and whatever did not go well."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import psycopg

from tests.faults.house import HOST
from tests.load.callers import Caller, Seen
from tests.neighbours.plan import Keys
from tests.neighbours.visitor import Visitor

FEW, FEW_PAUSE = 2, 0.1  # callers, and the seconds between two calls of one of them
MANY, MANY_PAUSE = 8, 0.25
QUEUED_PAUSE = 0.3
CHECK_PAUSE = 2.0
LATEST = 30.0  # seconds that a check may take from being asked for to its end
PATIENCE = 60.0  # seconds for an answer
TOOL = "orders__echo"
LOOK_EVERY = 0.1
UNFINISHED = 1.0  # seconds; a call that is given up when the time is over counts with its age from here on


@dataclass
class Life:
    """What was measured in some seconds; `failed` is whatever was not a success."""

    few: Seen = field(default_factory=Seen)
    many: Seen = field(default_factory=Seen)
    queued: Seen = field(default_factory=Seen)
    checks: list[float] = field(default_factory=list)
    failed_checks: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> dict[str, Seen]:
        """The calls by who made them."""
        return {f"calls of {FEW}": self.few, f"calls of {MANY}": self.many, "queued calls": self.queued}

    @property
    def failed(self) -> Counter[str]:
        """What failed, by status and code."""
        return self.few.refused + self.many.refused + self.queued.refused + self.failed_checks


@dataclass(frozen=True)
class Acme:
    """Acme's callers and its admin, at one web process."""

    port: int
    keys: Keys
    database_url: str

    async def live(self, seconds: float) -> Life:
        """Make calls and checks for some seconds; a check that is under way then is given as long as it may take."""
        life, over = Life(), asyncio.Event()
        checks = [
            asyncio.create_task(self._checks(life, connection, over))
            for connection in self.keys.acme_connections.values()
        ]
        calls = [asyncio.create_task(self._calls(life.few, FEW_PAUSE)) for _ in range(FEW)]
        calls += [asyncio.create_task(self._calls(life.many, MANY_PAUSE)) for _ in range(MANY)]
        calls.append(asyncio.create_task(self._queued(life.queued)))
        try:
            await asyncio.wait([*calls, *checks], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            over.set()
            for task in calls:
                task.cancel()
        await asyncio.gather(*checks)
        await asyncio.wait(calls)
        for task in calls:
            if not task.cancelled():
                task.result()  # raises: such a task ends only by an error that nobody expects
        return life

    async def warm_up(self) -> None:
        """Wait until workers make calls and checks; AssertionError when they do not, or when one fails."""
        life, over = Life(), asyncio.Event()
        over.set()
        for one in self.keys.acme_connections.values():  # the first waits until the worker is up
            await self._checks(life, one, over)
        assert life.checks[-1] < LATEST, "no worker makes checks"
        queued = asyncio.create_task(self._queued(life.queued))
        while not life.queued.latencies and not queued.done():  # noqa: ASYNC110 - a figure has no event
            await asyncio.sleep(LOOK_EVERY)
        queued.cancel()
        await asyncio.wait([queued])
        assert not life.failed, dict(life.failed)

    async def _calls(self, seen: Seen, pause: float) -> None:
        async def calls(caller: Caller) -> None:
            while True:
                with _timed(seen):
                    await caller.call(TOOL, {"text": "hello"})
                await asyncio.sleep(pause)

        await self._again_and_again(calls, seen)

    async def _queued(self, seen: Seen) -> None:
        """Make calls by the workers; the time is that until the caller knows the end."""
        parts = Seen(refused=seen.refused)

        async def calls(caller: Caller) -> None:
            while True:
                began = time.perf_counter()
                with _timed(seen):
                    answer = await caller.call(TOOL, {"text": "hello"}, Prefer="respond-async")
                    while "id" in answer and answer.get("finished_at") is None:
                        answer = await caller.follow(answer["id"], seconds=int(PATIENCE))
                seen.latencies.append(time.perf_counter() - began)
                await asyncio.sleep(QUEUED_PAUSE)

        await self._again_and_again(calls, parts)

    async def _again_and_again(self, calls: Callable[[Caller], Awaitable[None]], seen: Seen) -> None:
        """Go on with a new connection where one broke or nothing came."""
        while True:
            try:
                async with Caller(self.port, self.keys.acme_token, seen) as caller:
                    await calls(caller)
            except (OSError, EOFError):
                seen.refused["no answer"] += 1
                await asyncio.sleep(LOOK_EVERY)

    async def _checks(self, life: Life, connection: str, over: asyncio.Event) -> None:
        """Ask for one check after the other, at least one."""
        database = await psycopg.AsyncConnection.connect(self.database_url, autocommit=True)
        async with database, Visitor(self.port, self.keys.acme_admin, lambda _: None, source=HOST) as admin:
            for number in count():
                if number and over.is_set():
                    break
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(LATEST + 1):
                        outcome = await _check(admin, connection, database)
                except TimeoutError:
                    outcome = "passed"  # perhaps, and too late
                    admin.hang_up()
                life.checks.append(time.perf_counter() - began)
                if outcome != "passed":
                    life.failed_checks[f"check {outcome}"] += 1
                await asyncio.wait([asyncio.ensure_future(over.wait())], timeout=CHECK_PAUSE)


async def _check(admin: Visitor, connection: str, database: psycopg.AsyncConnection[tuple[str]]) -> str:
    asked_at = datetime.now(UTC)
    answer = await admin.ask("POST", f"/v1/connections/{connection}/probe")
    if answer.status != 202:
        return f"not asked for: {answer.status}"
    ended = (
        "SELECT outcome FROM tools_probe WHERE connection_id = %s AND started_at >= %s AND finished_at IS NOT NULL"
        " ORDER BY started_at LIMIT 1"
    )
    while (row := await (await database.execute(ended, [connection, asked_at])).fetchone()) is None:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY)
    return row[0]


@contextmanager
def _timed(seen: Seen) -> Iterator[None]:
    """Count what is given up with its age; what is answered is counted by the caller."""
    began = time.perf_counter()
    try:
        yield
    except (OSError, EOFError, asyncio.CancelledError):
        if time.perf_counter() - began > UNFINISHED:
            seen.latencies.append(time.perf_counter() - began)
        raise
