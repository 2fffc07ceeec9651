"""The table *noisy neighbour*: `make neighbours`, or `python -m tests.neighbours [--quick] [ATTACK ...]`.

For each attack acme's calls and checks are measured alone and then beside it, on the product's own processes with a
PostgreSQL and a Valkey of their own. Acme's server, rival's and the attackers are processes besides; attackers come
from another address of loopback, and step back where CPU is short. It ends with a status other than 0 when a promise is
not kept. A row in which only latencies were too long is measured again, once, if others took a part of the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.load.__main__ import allow_files
from tests.neighbours import names
from tests.neighbours.attacks import ATTACKS
from tests.neighbours.plan import Attack
from tests.neighbours.row import Figures, Pace, measure

PACE, QUICK = Pace(before=10, beside=26), Pace(before=5, beside=15)
BUSY = 10  # per cent of the machine that others may take before a latency says little
WIDTHS = (18, 24, 24, 24, 14, 7, 16, 10)
HEAD = ("attack", "2 callers", "8 callers", "queued", "last check", "failed", "MB", "others %")
UNITS = ("", *3 * ("median ms, p95",), "s", "", "web, worker", "")


def main() -> int:
    """Measure the rows that were asked for; return the status of this process."""
    arguments = argparse.ArgumentParser(prog="python -m tests.neighbours", description="The table noisy neighbour.")
    arguments.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of: {', '.join(ATTACKS)}; all without")
    arguments.add_argument("--quick", action="store_true", help="watch each row for half the time")
    asked = arguments.parse_args()
    if unknown := set(asked.attacks) - set(ATTACKS):
        arguments.error(f"there is no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    allow_files()
    print(_line(HEAD), _line(UNITS), sep="\n", flush=True)
    broken: list[str] = []
    for name in asked.attacks or ATTACKS:
        broken += _row(ATTACKS[name], QUICK if asked.quick else PACE)
    print(*(f"neighbours: {fault}" for fault in broken) if broken else ["neighbours: every promise is kept"], sep="\n")
    return 1 if broken else 0


def _row(attack: Attack, pace: Pace) -> list[str]:
    """Measure and print one row; return what was not kept."""
    with tempfile.TemporaryDirectory() as folder:
        if attack.by_name and (reason := names.why_not(Path(folder))):
            print(f"{attack.number} {attack.name}: skipped, {reason}", flush=True)
            return []
    figures = measure(attack, pace)
    if figures.only_slow and max(figures.others) > BUSY:
        figures = min(figures, measure(attack, pace), key=_disturbed)
    faults = figures.broken_promises()
    print(_line((f"{attack.number} {attack.name}", *figures.cells())), flush=True)
    print(f"   {attack.sentence}", f"   answered to them: {figures.told()}", sep="\n", flush=True)
    print(*(f"   BROKEN: {fault}" for fault in faults) if faults else ["   kept"], sep="\n", flush=True)
    return [f"{attack.name}: {fault}" for fault in faults]


def _disturbed(figures: Figures) -> tuple[bool, float]:
    """Tell how much a measurement was disturbed; one that kept every promise needs no excuse."""
    return bool(figures.broken_promises()), max(figures.others)


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
