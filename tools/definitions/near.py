"""Which names are near one that is not known, as a person or a model may have got it slightly wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise

MOST = 3
# Comparing costs, and whoever sends an unknown name pays nothing for it.
_LONGEST = 256  # characters; to a longer one no name is near
_LOOKED_AT = 200  # names, of which those that share the most pairs of letters are compared
_COMPARED = 20


def near(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are nearest, at most 3, the nearest first.

    A tool's own name may stand without its prefix, or behind another one.
    """
    wanted, own, prefix = name.lower(), _own(name), name.partition("__")[0].lower()

    def distance(one: str) -> tuple[bool, bool, int, str]:
        return _own(one) != own, one.partition("__")[0] != prefix, abs(len(one) - len(name)), one

    if len(name) > _LONGEST:
        return []
    names = sorted(known, key=distance)[:_LOOKED_AT]
    same = [one for one in names if _own(one) == own][:MOST]
    pairs = _pairs(wanted)
    alike = sorted((one for one in names if one not in same), key=lambda one: -len(pairs & _pairs(one.lower())))
    folded = {one.lower(): one for one in alike[:_COMPARED]}
    others = get_close_matches(wanted, folded, n=MOST, cutoff=0.7)
    return [*same, *(folded[one] for one in others)][:MOST]


def _pairs(name: str) -> set[str]:
    return set(map("".join, pairwise(name)))


def _own(name: str) -> str:
    return name.rpartition("__")[2].lower().replace("-", "_")
