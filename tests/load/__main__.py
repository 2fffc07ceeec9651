"""Load on the real processes, PostgreSQL that waits for the disk, and Valkey: `make load`, or one of its parts by name.

It prints what it measured, and ends with a status other than 0 when a promise is not kept.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.faults import house
from tests.load import in_flight, queued, waiting

FILES = 4096  # the callers, the server and the web process hold a connection per call
LEASE = 10  # seconds


class Measured(Protocol):
    """What a part has measured."""

    def lines(self) -> list[str]:
        """Return what to print."""

    def broken_promises(self) -> list[str]:
        """Return a sentence for each promise that was not kept."""


PARTS: dict[str, Callable[[house.House], Measured]] = {
    "in_flight": in_flight.measure,
    "waiting": waiting.measure,
    "queued": queued.measure,
}


def allow_files() -> None:
    """Raise the number of open files of this process and its children; SystemExit where that is not allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < FILES:
        raise SystemExit(f"load: {FILES} open files are needed, and only {most} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, most))


def main(names: list[str]) -> int:
    """Measure the parts, each in a house of its own; return the status of this process."""
    allow_files()
    broken: list[str] = []
    for name in names or list(PARTS):
        with (
            tempfile.TemporaryDirectory(prefix="duvo-load-") as folder,
            house.running(Path(folder), lease=LEASE, durable=True) as stack,
        ):
            figures = PARTS[name](stack)
        print(*figures.lines(), sep="\n", flush=True)
        broken += [f"{name}: {fault}" for fault in figures.broken_promises()]
    print(*(f"load: {fault}" for fault in broken) if broken else ["load: every promise is kept"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
