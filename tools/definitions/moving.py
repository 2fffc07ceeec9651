"""The part of a description that may change by itself, as an admin has said: none, all of it, or certain lines. Pure.

It is written as "" for none, "all", or the numbers of lines from 1 on: "2,5". What else the description says, and how
many lines it has, is reviewed as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

ALL = "all"
MOST_LINES = 40  # that may be named; as many fit into a row
_NAME = "description"


def written(numbers: Iterable[int]) -> str:
    """Return the part that these lines are; raises ValueError for none, for too many and for what is no line."""
    lines = sorted(set(numbers))
    if not lines or len(lines) > MOST_LINES or lines[0] < 1:
        raise ValueError(lines)
    return ",".join(map(str, lines))


def numbers(moving: str) -> list[int]:
    """Return the numbers of the lines that may change, none if it is all or nothing."""
    return [int(number) for number in moving.split(",")] if moving not in {"", ALL} else []


def lines(definition: Mapping[str, Any]) -> list[str]:
    """Return the lines of a definition's description."""
    return str(definition.get(_NAME) or "").split("\n")


def held(definition: Mapping[str, Any], moving: str) -> Mapping[str, Any]:
    """Return the definition without the part that may change: what a review is about."""
    if moving == ALL:
        return {name: member for name, member in definition.items() if name != _NAME}
    free = set(numbers(moving))
    if not free or not isinstance(definition.get(_NAME), str):
        return definition
    kept = ["" if number in free else line for number, line in enumerate(lines(definition), 1)]
    return {**definition, _NAME: "\n".join(kept)}


def followed(known: Mapping[str, Any], listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition that we know with the description that a listing has now."""
    rest = {name: member for name, member in known.items() if name != _NAME}
    return {**rest, _NAME: listed[_NAME]} if _NAME in listed else rest


def changed_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the lines that differ; none where that are all of them, too many, or lines were added."""
    old, new = lines(before), lines(after)
    found = [number for number, (a, b) in enumerate(zip_longest(old, new), 1) if a != b]
    told_apart = len(old) == len(new) > len(found) and len(found) <= MOST_LINES
    return found if told_apart else []


def in_words(moving: str) -> str:
    """Return the part in words."""
    if moving == ALL:
        return "the whole description"
    each = [str(number) for number in numbers(moving)]
    return (
        f"line {each[0]}" if len(each) == 1 else f"lines {', '.join(each[:-1])} and {each[-1]}" if each else "nothing"
    )
