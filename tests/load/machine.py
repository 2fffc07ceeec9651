"""What processes take of the machine, and others meanwhile: latencies on a busy machine say little."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """The CPU that was not ours since this was made: of other processes, or given to other machines by the host."""

    def __init__(self) -> None:
        self._began, self._busy, self._ours = time.monotonic(), _busy(), _ours()

    @property
    def share(self) -> float:
        """Their share of all CPUs, in per cent."""
        spent = (_busy() - self._busy) - (_ours() - self._ours)
        return max(0.0, 100 * spent / (time.monotonic() - self._began) / (os.cpu_count() or 1))


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def cpu_seconds(pid: int) -> float:
    """Return the CPU that a process has used."""
    return _spent(Path(f"/proc/{pid}/stat"))[1]


def below(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    found: list[int] = []
    for path in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *below(child)]
    return found


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
            pid = int(path.parent.name)
            parents[pid], spent[pid] = _spent(path)
    return sum(seconds for pid, seconds in spent.items() if _is_below(pid, os.getpid(), parents))


def _spent(path: Path) -> tuple[int, float]:
    """Return the parent of a process and the CPU seconds that it has used."""
    fields = path.read_text().rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS


def _is_below(pid: int, top: int, parents: dict[int, int]) -> bool:
    while pid and pid != top:
        pid = parents.get(pid, 0)
    return pid == top
