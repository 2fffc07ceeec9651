"""What is printed of each phase, and what counts as a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.deployed.callers import Callers, Phase

FINAL = "('succeeded', 'failed', 'cancelled', 'timed_out', 'outcome_unknown')"
_WIDTHS = (26, 9, 7, 6, 5, 9, 8, 9)
_HEAD = ("phase", "answered", "503", "cut", "?", "failed", "seconds", "")


class Judge:
    """Prints lines and gathers faults."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.faults: list[str] = []

    def head(self) -> None:
        self._row(_HEAD)

    @contextmanager
    def phase(self, callers: Callers, name: str, *, unknown_allowed: bool = False) -> Iterator[None]:
        """Count what callers are told meanwhile; only in some phases may a call end as unknown."""
        callers.enter(name)
        phase = callers.phase
        yield
        time.sleep(1)
        self._judge(phase, unknown_allowed=unknown_allowed)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.faults.append(otherwise)

    def count(self, executions: Mapping[str, int], callers: Callers, open_calls: object) -> None:
        """Compare what callers were told with what the server was made to do and what the rows say."""
        doubled = [marker for marker, times in executions.items() if times > 1]
        self.expect(not doubled, f"executed more than once: {doubled}")
        lost = [marker for marker, what in callers.made.items() if what == "succeeded" and not executions.get(marker)]
        self.expect(not lost, f"answered and never executed: {lost}")
        late = [marker for marker, what in callers.made.items() if what == "refused" and executions.get(marker)]
        self.expect(not late, f"refused and executed all the same: {late}")
        self.expect(not open_calls, f"calls without an end: {open_calls}")
        made, done = len(callers.made), sum(executions.values())
        self.say(f"{made} calls, {done} executions: {len(doubled)} doubled, {len(lost)} lost")

    def _judge(self, phase: Phase, *, unknown_allowed: bool) -> None:
        refused = sum(phase.refused.values())
        seconds = time.monotonic() - phase.began
        why = " ".join(f"{code}:{count}" for code, count in phase.refused.items())
        cells = (phase.succeeded, refused, phase.cut, len(phase.unknown), len(phase.failed), f"{seconds:.0f}", why)
        self._row((phase.name, *map(str, cells)))
        self.faults += [f"{phase.name}: {what}" for what in phase.failed]
        if not unknown_allowed:
            self.faults += [f"{phase.name}: {marker} ended as unknown" for marker in phase.unknown]
        self.expect(phase.succeeded > 0, f"{phase.name}: no call was answered")

    def _row(self, cells: tuple[str, ...]) -> None:
        self.say("".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip())
