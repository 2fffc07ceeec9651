"""What changed between two definitions of a tool, field by field, to be shown to a person. Pure.

A description is read by a model, so what a person cannot see is spelt out: invisible characters appear as ⟨U+200B⟩.
Definitions are untrusted, so the work is bounded: what is too much to compare is shown whole, before and after, and
what is too long to be shown ends with `CUT`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["added", "removed", "changed"]
PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]+")
MOST_CHANGES = 300  # fields on one page that are shown one by one
MOST_COMPARED = 2_000_000  # characters of paths and texts in one comparison; a deep field has a long path
MOST_STEPS = 300_000  # of matching words in one comparison: some 50 ms
MOST_SHOWN = 200_000  # characters of one value on a page
CUT = "\n⟨…⟩"  # no text can pretend to end so: its own ⟨ is spelt out
_PLAIN = re.compile(r"[^ -~]+")
_WORDS = re.compile(r"\S+\s*|\s+")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text that is in both definitions, or in one."""

    kind: Literal["same", "added", "removed"]
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs; with an empty path the whole definition, when too much differs to say where."""

    path: str
    kind: Kind
    parts: list[Part]


class _TooMuch(Exception):
    """There is more to compare than a page may cost."""


def differences(before: Any, after: Any) -> list[Change]:
    """Return every field that was added, removed or changed from one definition to the other, in reading order.

    Two definitions that differ in too much come back as one change without a path: the whole before and after.
    """
    try:
        old, new = _all_fields(before), _all_fields(after)
        return list(_changes(old, new))
    except _TooMuch:
        return [Change("", "changed", [Part("removed", f"{pretty(before)}\n"), Part("added", pretty(after))])]


def pretty(value: Any, most: int = MOST_SHOWN) -> str:
    """Return a JSON value with invisible characters spelt out: indented, or in one line where that would be too long.

    What has more than `most` characters even so ends with `CUT`; a tool's definition never does.
    """
    try:
        for indent in (2, None):
            text, whole = _written(value, indent, most)
            if whole:
                break
    except RecursionError:  # of a row that was written before there was a limit
        return "⟨nested too deeply to be shown⟩"
    return visible(text, keep="\n") + ("" if whole else CUT)


def visible(text: str, keep: str = "", most: int | None = None) -> str:
    """Return the text with every invisible character except those to keep as ⟨U+…⟩; cut after `most` of its own."""
    if most is not None and len(text) > most:
        return visible(text[:most], keep) + CUT

    def spell(character: str) -> str:
        hidden = not character.isprintable()  # in Unicode's words: other, or a separator that is no space
        ambiguous = character == "⟨"  # or a text could pretend to contain what it does not
        return f"⟨U+{ord(character):04X}⟩" if (hidden and character not in keep) or ambiguous else character

    def spelt(run: re.Match[str]) -> str:
        characters = run.group()
        plain = characters.isprintable() and "⟨" not in characters
        return characters if plain else "".join(map(spell, characters))

    return _PLAIN.sub(spelt, text)


def _written(value: Any, indent: int | None, most: int) -> tuple[str, bool]:
    """Return a value as JSON, at most so many characters of it, and whether that is all."""
    encoder = json.JSONEncoder(indent=indent, ensure_ascii=False)
    pieces: list[str] = []
    size = 0
    for piece in encoder.iterencode(value):
        size += len(piece)
        if size > most:
            pieces.append(piece[: len(piece) - size + most])
            return "".join(pieces), False
        pieces.append(piece)
    return "".join(pieces), True


def _all_fields(value: Any) -> dict[str, str]:
    fields: dict[str, str] = {}
    left = MOST_COMPARED
    for path, text in _fields(value):
        left -= len(path) + len(text)
        if left < 0:
            raise _TooMuch
        fields[path] = text
    return fields


def _changes(old: dict[str, str], new: dict[str, str]) -> Iterator[Change]:
    steps, found = MOST_STEPS, 0
    for path in [*new, *(path for path in old if path not in new)]:
        if old.get(path) == new.get(path):
            continue
        found += 1
        if found > MOST_CHANGES:
            raise _TooMuch
        if path not in old:
            yield Change(path, "added", [Part("added", new[path])])
        elif path not in new:
            yield Change(path, "removed", [Part("removed", old[path])])
        else:
            parts, taken = _compare(old[path], new[path], steps)
            steps -= taken
            yield Change(path, "changed", parts)


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of every leaf; different definitions never yield the same."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, f"{path}{_step(key, first=not path)}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value, start=1):
            yield from _fields(inner, f"{path}[{number}]")
    else:
        yield path, visible(_text(value), keep="\n")


def _step(key: str, *, first: bool) -> str:
    if PLAIN_KEY.fullmatch(key):
        return key if first else f".{key}"
    return f"[{visible(json.dumps(key, ensure_ascii=False))}]"


def _text(value: Any) -> str:
    """Return other values as JSON, and a string as it is, unless it could be taken for one: then as JSON too."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value or "null")
    except (ValueError, RecursionError):  # no leaf of a definition has so many brackets
        return value
    return json.dumps(value, ensure_ascii=False)


def _compare(old: str, new: str, steps: int) -> tuple[list[Part], int]:
    """Return what two texts share and what is only in one, and how many steps that took.

    They are compared by words; by lines if that takes more than `steps`; as a whole if that does, too.
    """
    for tokens in (_WORDS, _LINES):
        before, after = tokens.findall(old), tokens.findall(new)
        start = _same(before, after)
        end = _same(before[start:][::-1], after[start:][::-1])
        middle = before[start : len(before) - end], after[start : len(after) - end]
        cost = len(middle[0]) * len(middle[1])
        if cost <= steps:
            pairs = [(at, at) for at in range(start)]
            pairs += [(start + a, start + b) for a, b in _matches(*middle)]
            pairs += [(len(before) - back, len(after) - back) for back in range(end, 0, -1)]
            return list(_parts(before, after, pairs)), cost
    return [Part("removed", old), Part("added", new)], 0


def _same(before: list[str], after: list[str]) -> int:
    """Return how many tokens both begin with."""
    return next(
        (at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )


def _matches(before: list[str], after: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the positions of a longest common subsequence; time and memory are the product of both lengths."""
    row = [0] * (len(after) + 1)
    rows = [row]
    for a in reversed(before):
        above, row = row, [0] * (len(after) + 1)
        for at in range(len(after) - 1, -1, -1):
            row[at] = above[at + 1] + 1 if a == after[at] else max(above[at], row[at + 1])
        rows.append(row)
    rows.reverse()
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] == after[j]:
            yield i, j
            i, j = i + 1, j + 1
        elif rows[i + 1][j] >= rows[i][j + 1]:
            i += 1
        else:
            j += 1


def _parts(before: list[str], after: list[str], pairs: list[tuple[int, int]]) -> Iterator[Part]:
    i = j = 0
    same: list[str] = []
    for a, b in [*pairs, (len(before), len(after))]:
        if (i, j) != (a, b):
            if same:
                yield Part("same", "".join(same))
                same = []
            if i < a:
                yield Part("removed", "".join(before[i:a]))
            if j < b:
                yield Part("added", "".join(after[j:b]))
        same += before[a : a + 1]
        i, j = a + 1, b + 1
    if same:
        yield Part("same", "".join(same))
