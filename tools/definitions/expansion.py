"""How large a JSON Schema becomes when its references are followed, which may be exponentially larger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DEEPEST = 200  # levels; deeper JSON is not read
_MOST_REFERENCES = 30.0  # more are counted as so many
_MOST_TO_EXPLAIN = 1_000  # ways through a recursive schema; takes milliseconds


@dataclass(frozen=True, slots=True)
class Expansion:
    """A schema with every reference followed: its `size` in nodes, where a recursive reference is followed once."""

    size: float
    references: int
    recursive: bool

    def explainable(self, instance: Any) -> bool:
        """Tell whether it is cheap to name each fault of this instance."""
        return not self.recursive or self.ways(instance) <= _MOST_TO_EXPLAIN

    def ways(self, instance: Any) -> float:
        """Return in how many ways a recursive schema may be applied to a value, at most; None is one not parsed yet."""
        if not self.recursive or self.references <= 1:
            return 1.0
        return min(float(self.references), _MOST_REFERENCES) ** min(
            _depth(instance) if instance is not None else _DEEPEST, _DEEPEST
        )


def expand(schema: dict[str, Any]) -> Expansion:
    """Return how large a schema becomes when every reference is replaced by what it names."""
    measure = _Measure(schema)
    size = measure.size(schema)
    # References that are no JSON Pointers are not resolved; n of them multiply the size by at most 3 ** (n / 3).
    factor = 3.0 ** min(measure.by_name / 3, 200)
    return Expansion(size * factor, measure.references, measure.recursive or measure.by_name > 0)


class _Measure:
    def __init__(self, root: dict[str, Any]) -> None:
        self.references = self.by_name = 0
        self.recursive = False
        self._root = root
        self._sizes: dict[int, float] = {}

    def size(self, node: Any) -> float:
        if not isinstance(node, dict | list):
            return 1
        known = self._sizes.get(id(node))
        if known is not None:
            self.recursive = self.recursive or not known
            return known or 1
        self._sizes[id(node)] = 0  # being measured
        size = 1 + sum(self.size(child) for child in (node.values() if isinstance(node, dict) else node))
        if isinstance(node, dict):
            size += sum(self._size_behind(node[name]) for name in _REFERENCES if isinstance(node.get(name), str))
        self._sizes[id(node)] = size
        return size

    def _size_behind(self, reference: str) -> float:
        self.references += 1
        target: Any = self._root
        try:
            start, *steps = unquote(reference).split("/")
            for step in steps:
                name = step.replace("~1", "/").replace("~0", "~")
                target = target[int(name)] if isinstance(target, list) else target[name]
        except (KeyError, IndexError, ValueError, TypeError):
            start = ""
        if start != "#":
            self.by_name += 1
            return 1
        return self.size(target)


def _depth(instance: Any) -> int:
    depth, level = 0, [instance]
    while level := [child for node in level for child in _children(node)]:
        depth += 1
    return depth


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
