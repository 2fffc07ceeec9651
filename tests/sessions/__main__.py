"""Prove sessions with the real Browser: `make sessions`, or `python -m tests.sessions [--quick] [SCENE ...]`.

It ends with a status other than 0 when a program saw the page of another, or lost its own without being told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.sessions import house as houses
from tests.sessions.job import Score
from tests.sessions.scenes import QUICK, SLOW_ONES, Scene, leave

ALL = QUICK | SLOW_ONES
_WIDTHS = (24, 7, 7, 13, 12, 6, 7, 8)
_HEAD = ("scene", "calls", "pages", "wrong titles", "lost pages", "told", "untold", "seconds")


def main() -> int:
    """Play the scenes that were asked for; return the status of this process."""
    arguments = argparse.ArgumentParser(prog="python -m tests.sessions", description="Sessions at the real Browser.")
    arguments.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of: {', '.join(ALL)}; all without")
    arguments.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    asked = arguments.parse_args()
    if unknown := set(asked.scenes) - set(ALL):
        arguments.error(f"there is no scene {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}")
    chosen = asked.scenes or list(QUICK if asked.quick else ALL)
    bad: list[str] = []
    with tempfile.TemporaryDirectory(prefix="duvo-sessions-") as folder, houses.running(Path(folder)) as house:
        _say(_HEAD)
        for name in chosen:
            bad += _play(house, name, ALL[name])
        if bad:
            print(house.log())
    print(*(f"sessions: {fault}" for fault in bad) if bad else ["sessions: every program saw its own page"], sep="\n")
    return 1 if bad else 0


def _play(house: houses.BrowserHouse, name: str, scene: Scene) -> list[str]:
    score, began = Score(), time.monotonic()
    try:
        scene(house, score)
        leave(house)
    except AssertionError as fault:
        score.failed.append(str(fault))
    cells = (score.calls, score.pages, len(score.wrong), score.lost, score.told, len(score.untold))
    _say((name, *map(str, cells), f"{time.monotonic() - began:.0f}"))
    return [f"{name}: {what}" for what in (*score.wrong, *score.untold, *score.failed)]


def _say(cells: tuple[str, ...]) -> None:
    print("".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
