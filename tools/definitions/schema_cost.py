"""How much work a JSON Schema is, before it is compiled: what is little is done at once, the rest elsewhere. Pure.

A unit of work is some 10 ns of a validator, which holds the interpreter meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tools.definitions.expansion import Expansion

LIGHT_BYTES: Final = 64 * 1024  # of a schema that is compiled where it is used
LIGHT_SIZE: Final = 10_000  # nodes with all references followed; 20 ms to compile
LIGHT_PATTERNS: Final = 10_000  # what `weight_of` says of all patterns together; 10 ms and a MB to compile
MOST_AT_ONCE: Final = 1_000_000  # units of work where everybody waits
MOST: Final = 10**10  # units of work that are tried at all; what is above is not worth a process

_DEAR_NUMBERS: Final = 300  # units for one `multipleOf`, which is exact whatever the numbers
_DEAR_PATTERN: Final = 50_000  # units for one that may track back: it gives up after as many steps
_STATES_AT_ONCE: Final = 10  # of a pattern's states that one unit of work follows through one byte
_WIDE: Final = 50  # a class of characters that is spread over Unicode, in characters
_WIDEST: Final = 500
_MOST_WEIGHT: Final = 10**9
_MOST_LEVELS: Final = 10  # of `unevaluated...`: each looks at what those within it have looked at
_TRACKS_BACK: Final = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<|\(\?>")
_COUNT: Final = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SchemaCost:
    """The weight of a schema; `per_node` is the units of work for each node of a value."""

    length: int  # bytes
    expansion: Expansion
    patterns: int  # how many there are
    pattern_weight: int
    per_node: float
    unique: bool  # whether items are compared with one another

    @property
    def light(self) -> bool:
        """Whether it may be compiled anywhere."""
        small = self.length <= LIGHT_BYTES and self.expansion.size <= LIGHT_SIZE
        return small and self.pattern_weight <= LIGHT_PATTERNS

    def work(self, value: Any, written: bytes) -> float:
        """Return the units of work of checking a value, of which `written` is the JSON; None stands for one unread."""
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
    """Weigh a schema whose size and references are known."""
    per_node, weight, patterns, levels, unique = expansion.size, 0, 0, 0, False
    for name, member in _members(schema):
        if name == "multipleOf":
            per_node += _DEAR_NUMBERS
        elif name.startswith("unevaluated"):
            levels += 1
        elif name == "uniqueItems":
            unique = True
        found = [member] if name == "pattern" else list(member) if name == "patternProperties" else []
        for pattern in found:
            if isinstance(pattern, str):
                patterns += 1
                weight += weight_of(pattern)
                per_node += _DEAR_PATTERN if _TRACKS_BACK.search(pattern) else 0
    per_node *= 4.0 ** min(levels, _MOST_LEVELS)
    return SchemaCost(len(written), expansion, patterns, min(weight, _MOST_WEIGHT), per_node, unique)


def weight_of(pattern: str) -> int:
    """Return how large a pattern is once its counted repetitions are written out, in characters."""
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
    if character == "[" and (found := _CLASS.match(pattern, position)):
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
