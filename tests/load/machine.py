"""What else the machine was busy with while something was measured: latencies on a busy machine say little."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """The CPU that processes of others took since this was made."""

    def __init__(self) -> None:
        self._began, self._busy, self._ours = time.monotonic(), _busy(), _ours()

    @property
    def share(self) -> float:
        """Their share of all CPUs, in per cent."""
        spent = (_busy() - self._busy) - (_ours() - self._ours)
        return max(0.0, 100 * spent / (time.monotonic() - self._began) / (os.cpu_count() or 1))


def _busy() -> float:
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts_and_stolen)) / TICKS


def _ours() -> float:
    """Return the CPU seconds of this process and of everything below it that lives."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            spent[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return sum(seconds for pid, seconds in spent.items() if _is_below(pid, os.getpid(), parents))


def _is_below(pid: int, top: int, parents: dict[int, int]) -> bool:
    while pid and pid != top:
        pid = parents.get(pid, 0)
    return pid == top
