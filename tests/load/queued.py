"""10,000 queued calls through two workers, of which one after the other is killed on the way.

Half of the calls have an Idempotency-Key and an idempotent tool: each of these has to succeed. The other half has
neither: of these the calls that a killed worker had in hand end as unknown, and none is executed twice. Callers send
both in turn, so that a kill meets as many of the one as of the other.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from tests.faults.house import House, eventually, kill
from tests.faults.scene import FINAL
from tests.load.callers import Caller, Seen

CALLS = int(os.environ.get("LOAD_CALLS", "10000"))
CALLERS = 8
WORKERS = 2
THREADS = 32  # of a worker: half as many calls of one organization are under way at once
KILLS = 2
PATIENCE = 900.0  # seconds


@dataclass
class Figures:
    """What became of the calls; a lost one has no row, or no execution behind its success."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    keyed_failures: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Say it."""
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.states.items()))
        how = f"{WORKERS} workers, of which {KILLS} were killed, in {self.seconds:.0f} s"
        return [
            f"queued: {self.accepted} calls through {how}: {states}; {self.repeated} were made again",
            f"queued: {self.lost} lost, {self.doubled} doubled, {self.stuck} stuck",
        ]

    def broken_promises(self) -> list[str]:
        """Return what was promised and not kept."""
        faults = []
        if self.refused or self.accepted != CALLS:
            faults.append(f"{self.accepted} of {CALLS} calls were accepted: {self.refused}")
        if self.lost or self.doubled or self.stuck:
            faults.append("calls were lost, doubled or stuck")
        if self.keyed_failures:
            faults.append(f"{self.keyed_failures} calls with a key did not succeed")
        if self.states["outcome_unknown"] > KILLS * THREADS:
            faults.append("more outcomes are unknown than calls were under way in killed workers")
        if set(self.states) - {"succeeded", "outcome_unknown"}:
            faults.append(f"calls ended as {sorted(self.states)}")
        return faults


def measure(house: House) -> Figures:
    """Queue the calls while workers take them, kill, wait for the end, and count."""
    began = time.monotonic()
    seen = Seen()
    accepted: dict[str, int] = {}
    queueing = threading.Thread(target=lambda: asyncio.run(_queue(house, seen, accepted)), name="callers")
    queueing.start()
    workers = [house.start_worker(threads=THREADS) for _ in range(WORKERS)]
    for number in range(KILLS):
        _reach(house, CALLS * (number + 1) // (KILLS + 1))
        print(f"queued: a worker is killed {time.monotonic() - began:.0f} s after the beginning", flush=True)
        kill(workers[number % WORKERS])
        workers[number % WORKERS] = house.start_worker(threads=THREADS)
    queueing.join()
    with suppress(AssertionError):  # what has not ended by then is counted as stuck
        _reach(house, len(accepted))
    return _count(house, Figures(refused=dict(seen.refused), seconds=time.monotonic() - began), accepted)


def _reach(house: House, calls: int) -> None:
    finished = "SELECT count(*) FROM tools_call WHERE finished_at IS NOT NULL"
    eventually(lambda: house.rows(finished)[0][0] >= calls, f"the end of {calls} calls", PATIENCE)


async def _queue(house: House, seen: Seen, accepted: dict[str, int]) -> None:
    """Have all calls queued; note the ids that were answered, with the numbers of the calls."""
    numbers = count()

    async def one() -> None:
        async with Caller(house.web.port, house.token, seen) as caller:
            while (number := next(numbers)) < CALLS:
                key = {"Idempotency_Key": f"q{number}"} if _keyed(number) else {}
                tool = "patient__again" if _keyed(number) else "patient__once"
                answer = await caller.call(tool, {"marker": f"q{number}"}, Prefer="respond-async", **key)
                if "id" in answer:
                    accepted[answer["id"]] = number

    await asyncio.gather(*(one() for _ in range(CALLERS)))


def _keyed(number: int) -> bool:
    return number % 2 == 1


def _count(house: House, figures: Figures, accepted: dict[str, int]) -> Figures:
    executions = house.server.executions()
    rows = {
        str(pk): (state, attempts) for pk, state, attempts in house.rows("SELECT id, state, attempts FROM tools_call")
    }
    figures.accepted = len(accepted)
    for call, number in accepted.items():
        state, attempts = rows.get(call, ("lost", 0))
        times = executions.get(f"q{number}", 0)
        figures.states[state] += 1
        figures.repeated += attempts > 1
        figures.lost += state == "lost" or (state == "succeeded" and not times)
        figures.doubled += times > (attempts if _keyed(number) else 1)
        figures.stuck += state not in FINAL
        figures.keyed_failures += _keyed(number) and state != "succeeded"
    return figures
