"""How much work a JSON Schema is, estimated before it is compiled, to decide in which process that is done. Pure.

A unit of work is some 10 ns of a validator, which holds the GIL meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tools.definitions.expansion import Expansion

LIGHT_BYTES: Final = 64 * 1024  # of a schema that is compiled in the process that uses it
LIGHT_SIZE: Final = 10_000  # nodes with all references followed; 20 ms to compile
LIGHT_PATTERNS: Final = 10_000  # what `weight_of` says of all patterns together; 10 ms and a MB to compile
MOST_AT_ONCE: Final = 1_000_000  # units of work on the event loop
MOST: Final = 10**10  # units of work in a separate process; what takes more is refused

_MULTIPLE_OF_COST: Final = 300  # units for one `multipleOf`, which is exact whatever the numbers
_BACKTRACKING_COST: Final = 50_000  # units for a pattern that may backtrack: the engine gives up after as many steps
_STATES_AT_ONCE: Final = 10  # states of a pattern that one unit of work advances by one byte
_WIDE: Final = 50  # a class of characters that is spread over Unicode, in characters
_WIDEST: Final = 500
_MOST_WEIGHT: Final = 10**9
_MOST_LEVELS: Final = 10  # of `unevaluated...`: each checks again what those within it have checked
_BACKTRACKS: Final = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<|\(\?>")
_COUNT: Final = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SchemaCost:
    """The estimated cost of a schema; `per_node` is the units of work for each node of a value."""

    length: int  # bytes
    expansion: Expansion
    patterns: int  # how many there are
    pattern_weight: int
    per_node: float
    unique: bool  # whether items are compared with one another

    @property
    def light(self) -> bool:
        """Whether it is cheap enough to be compiled in the process that uses it."""
        small = self.length <= LIGHT_BYTES and self.expansion.size <= LIGHT_SIZE
        return small and self.pattern_weight <= LIGHT_PATTERNS

    def work(self, value: Any, written: bytes) -> float:
        """Return the units of work to check a value whose JSON is `written`; the value is None if it is not parsed."""
        per_byte = self.pattern_weight / _STATES_AT_ONCE
        most = len(written) * (self.per_node + per_byte)
        if most <= MOST_AT_ONCE and not self.expansion.recursive and not self.unique:
            return most
        nodes = 1 + sum(written.count(mark) for mark in (b",", b"[", b"{"))
        work = nodes * self.per_node + len(written) * per_byte
        if self.unique:
            work += nodes * nodes / 100
        return work * self.expansion.ways(value)


def cost_of(schema: dict[str, Any], written: bytes, expansion: Expansion) -> SchemaCost:
    """Return the cost of a schema from the schema itself, its JSON and its expansion."""
    per_node, weight, patterns, levels, unique = expansion.size, 0, 0, 0, False
    for name, member in _members(schema):
        if name == "multipleOf":
            per_node += _MULTIPLE_OF_COST
        elif name.startswith("unevaluated"):
            levels += 1
        elif name == "uniqueItems":
            unique = True
        found = [member] if name == "pattern" else list(member) if name == "patternProperties" else []
        for pattern in found:
            if isinstance(pattern, str):
                patterns += 1
                weight += weight_of(pattern)
                per_node += _BACKTRACKING_COST if _BACKTRACKS.search(pattern) else 0
    per_node *= 4.0 ** min(levels, _MOST_LEVELS)
    return SchemaCost(len(written), expansion, patterns, min(weight, _MOST_WEIGHT), per_node, unique)


def weight_of(pattern: str) -> int:
    """Return how many characters a pattern has once its counted repetitions are written out."""
    groups, last, position = [0], 0, 0
    while position < len(pattern):
        character, step = pattern[position], 1
        if character == "(":
            groups.append(0)
            last = 0
        elif character == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif character == "{" and (count := _COUNT.match(pattern, position)):
            times = max(int(count[1]), int(count[3] or 0)) if count[3] else int(count[1]) + (1 if count[2] else 0)
            groups[-1] += last * max(0, times - 1)
            last, step = last * max(1, times), len(count[0])
        else:
            last, step = _atom(pattern, position)
            groups[-1] += last
        position += step
        if max(groups[-1], last) > _MOST_WEIGHT:
            return _MOST_WEIGHT
    return sum(groups)


def _atom(pattern: str, position: int) -> tuple[int, int]:
    """Return the weight and the length of one character or class."""
    character = pattern[position]
    if character == "\\":
        escaped = pattern[position + 1 : position + 2]
        if escaped in {"p", "P"}:
            return _WIDEST, max(2, pattern.find("}", position, position + 60) + 1 - position)
        return (_WIDE if escaped in set("wWdDsSbB") else 1), 2
    if character == "[":
        found = _CLASS.match(pattern, position)
        if found is None:  # it is never closed, so no other one is: the pattern is broken
            return 1, len(pattern) - position
        text = found[0]
        wide = _WIDEST if "\\p" in text.lower() else _WIDE if "\\" in text or text[1] == "^" else 0
        return wide + len(text) // 4 + 1, len(text)
    return (_WIDE if character == "." else 1), 1


def _members(node: Any) -> Iterator[tuple[str, Any]]:
    """Walk through every member of every object, whatever it means."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield from node.items()
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
