"""How far a long step is: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_WIDTH = 40  # characters


def through(steps: Sequence[T], what: str) -> Iterator[T]:
    """Yield the steps, and say on stderr how many are done."""
    said = -1
    for number, step in enumerate(steps):
        said = _say(what, number, len(steps), said)
        yield step
    _say(what, len(steps), len(steps), said)


def _say(what: str, done: int, total: int, said: int) -> int:
    """Say it, if it is more than what was `said` before; return the tenths that are said now."""
    tenths = 10 * done // max(total, 1)
    if sys.stderr.isatty():
        bar = "#" * (_WIDTH * done // max(total, 1))
        sys.stderr.write(f"\r{what:<12} [{bar:<{_WIDTH}}] {done:,} of {total:,}{chr(10) if done == total else ''}")
        sys.stderr.flush()
    elif tenths > said:
        sys.stderr.write(f"{what}: {10 * tenths} %\n")
    return tenths
