"""1,000 callers that wait for queued calls in one web process, quick calls beside them, and then the calls' end.

No worker runs until all are waiting. What a waiter costs meanwhile is the CPU and the threads of the web process; how
soon it hears is the time between the end in the row and its answer.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults.house import House, eventually
from tests.load.callers import Caller, Seen, quick_calls
from tests.load.machine import cpu_seconds, peak_memory, threads

WAITERS = 1_000
SECONDS = 10.0  # that all of them wait for calls that nobody makes
WORKERS, WORKER_THREADS = 2, 8
MOST_MEMORY = 400  # MB
MOST_THREADS = 30  # of the web process, however many wait
LATEST = 2.0  # seconds between a call's end and the answer to who waits for it, at the 95th percentile


@dataclass
class Figures:
    """What was measured; memory in MB, CPU in per cent of one core, delays in seconds."""

    waited: Seen
    idle: Seen
    meanwhile: Seen
    threads: int
    cpu: float
    memory: int
    delays: list[float] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say it."""
        cost = f"{self.cpu:.0f} % of a core, {self.threads} threads, peak memory {self.memory} MB"
        quick = f"{self.meanwhile.percentile(95):.0f} ms meanwhile, {self.idle.percentile(95):.0f} idle"
        return [
            f"waiting: {self.waited.succeeded} of {WAITERS} heard of their call's end; while all waited: {cost}",
            f"waiting: quick calls' p95 {quick}",
            f"waiting: {1000 * self._delay(50):.0f}/{1000 * self._delay(95):.0f} ms p50/p95 from the end to the answer",
        ]

    def broken_promises(self) -> list[str]:
        """Return what was promised and not kept."""
        every = (self.waited, self.idle, self.meanwhile)
        faults = [f"calls failed: {dict(seen.refused)}" for seen in every if seen.refused]
        if self.waited.succeeded != WAITERS:
            faults.append(f"only {self.waited.succeeded} waiters heard of the end")
        if self.threads > MOST_THREADS:
            faults.append(f"the web process had {self.threads} threads")
        if self.memory >= MOST_MEMORY:
            faults.append(f"the web process took {self.memory} MB")
        if self._delay(95) > LATEST:
            faults.append(f"the end was heard after {self._delay(95):.1f} s")
        return faults

    def _delay(self, percent: float) -> float:
        return sorted(self.delays)[int(len(self.delays) * percent / 100)]


def measure(house: House) -> Figures:
    """Measure it all in one run."""
    return asyncio.run(_measure(house))


async def _measure(house: House) -> Figures:
    pid = house.web.process.pid
    await quick_calls(house, "other__again", Seen(), asyncio.Event(), 3.0)
    idle, meanwhile, waited, over = Seen(), Seen(), Seen(), asyncio.Event()
    await quick_calls(house, "other__again", idle, asyncio.Event(), SECONDS)
    delays: list[float] = []
    waiting = [asyncio.create_task(_wait_for_a_call(house, number, waited, delays)) for number in range(WAITERS)]
    queued = "SELECT count(*) FROM tools_call WHERE state = 'queued'"
    await asyncio.to_thread(eventually, lambda: house.rows(queued)[0][0] == WAITERS, "the last queued call")
    await asyncio.sleep(SECONDS)  # the last callers come to wait
    spent, began = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(SECONDS)
    cpu = 100 * (cpu_seconds(pid) - spent) / (time.monotonic() - began)
    held = threads(pid)
    await quick_calls(house, "other__again", meanwhile, over, SECONDS)
    for _ in range(WORKERS):
        house.start_worker(threads=WORKER_THREADS)
    await asyncio.gather(*waiting)
    return Figures(waited, idle, meanwhile, held, cpu, peak_memory(pid), delays)


async def _wait_for_a_call(house: House, number: int, seen: Seen, delays: list[float]) -> None:
    token = house.tokens[number % len(house.tokens)]  # one assignment waits for no more than 200 calls at a time
    async with Caller(house.web.port, token, Seen()) as queueing:
        call = (await queueing.call("patient__again", {"marker": "waited for"}, Prefer="respond-async"))["id"]
    async with Caller(house.web.port, token, seen) as caller:
        report = await caller.follow(call, seconds=300)
    delays.append(time.time() - datetime.fromisoformat(report["finished_at"]).timestamp())
