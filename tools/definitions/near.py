"""Which names are near one that is not known, as a person or a model may have got it slightly wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 3
_COMPARED = 200  # names; comparing costs, and whoever sends an unknown one pays nothing for it


def near(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are nearest, at most 3, the nearest first.

    A tool's own name may stand without its prefix, or behind another one.
    """
    wanted, own, prefix = name.lower(), _own(name), name.partition("__")[0].lower()

    def distance(one: str) -> tuple[bool, bool, int, str]:
        return _own(one) != own, one.partition("__")[0] != prefix, abs(len(one) - len(name)), one

    names = sorted(known, key=distance)[:_COMPARED]
    same = [one for one in names if _own(one) == own][:MOST]
    folded = {one.lower(): one for one in names if one not in same}
    others = get_close_matches(wanted, folded, n=MOST, cutoff=0.7)
    return [*same, *(folded[one] for one in others)][:MOST]


def _own(name: str) -> str:
    return name.rpartition("__")[2].lower().replace("-", "_")
