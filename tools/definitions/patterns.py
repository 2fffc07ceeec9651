"""Patterns of ECMA-262 that the engine lacks: a value is not checked against them, and nothing else is given up. Pure.

A schema without such a pattern accepts whatever the whole one accepts: what would turn a missing check into a refusal,
such as `not`, is left out with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from tools.definitions.keywords import REFERENCES, all_schemas, rebuilt

_TOKEN: Final = re.compile(
    r"""(?P<escape>\\.)
      | (?P<class>\[\^?(?:\\.|[^\]\\])*\])
      | (?P<open>\((?:\?(?:[:=!>]|<[=!]|P?<[^<>()]+>|P=[^()]+(?=\))|[a-z-]+[:)]))?)
      | (?P<close>\))
      | (?P<count>[*+?]|\{[0-9]{1,9}(?:,[0-9]{0,9})?\})
      | (?P<plain>[^\\\[(*+?])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"-?\\.-?", re.DOTALL)
_RANGE: Final = re.compile(r"([^\[\]^-])-([^\[\]-])", re.DOTALL)
# What turns around, or counts, what the schemas in it say; and what says nothing without it.
_TURNED: Final = {
    "not": ("not",),
    "oneOf": ("oneOf",),
    "if": ("if", "then", "else"),
    "contains": ("contains", "minContains", "maxContains"),
}
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})


def of(schema: Any) -> Iterator[str]:
    """Yield every pattern of a schema."""
    for each in all_schemas(schema):
        pattern, names = each.get("pattern"), each.get("patternProperties")
        if isinstance(pattern, str):
            yield pattern
        if isinstance(names, dict):
            yield from names


def well_formed(pattern: str) -> bool:
    """Tell whether groups and classes are closed, and whatever is repeated is there to be repeated."""
    depth = position = 0
    operand = False
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            return False
        kind, position = token.lastgroup, token.end()
        if kind == "count":
            if not operand or _backwards(token.group()):
                return False
            position += pattern[position : position + 1] in {"?", "+"}  # lazy, or possessive
            operand = False
            continue
        if kind == "class" and any(low > high for low, high in _RANGE.findall(_ESCAPED.sub("", token.group()))):
            return False
        if kind == "open":
            depth += not token.group().endswith(")")
        elif kind == "close":
            depth -= 1
            if depth < 0:
                return False
        operand = kind in {"escape", "class", "close", "plain"} and token.group() not in {"^", "|"}
    return depth == 0


def without(schema: dict[str, Any], lacking: frozenset[str]) -> dict[str, Any]:
    """Return a schema that does not use these patterns, and accepts whatever the given one accepts."""

    def inner(found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        left = _left(found, lacking)
        # To accept more in what is turned around would be to accept less in all.
        return rebuilt(left, inner) | {keyword: left[keyword] for keyword in _TURNED if keyword in left}

    left: dict[str, Any] = inner(schema)
    return left


def _backwards(count: str) -> bool:
    least, comma, most = count.strip("{}").partition(",")
    return bool(comma and most) and int(least) > int(most)


def _left(schema: dict[str, Any], lacking: frozenset[str]) -> dict[str, Any]:
    """Return the members of one schema that can be checked."""
    dropped = set(_UNEVALUATED)
    if isinstance(pattern := schema.get("pattern"), str) and pattern in lacking:
        dropped.add("pattern")
    for keyword, with_it in _TURNED.items():
        if keyword in schema and _depends(schema[keyword], lacking):
            dropped.update(with_it)
    left = {keyword: member for keyword, member in schema.items() if keyword not in dropped}
    names = left.get("patternProperties")
    if isinstance(names, dict) and lacking & names.keys():
        left["patternProperties"] = {name: each for name, each in names.items() if name not in lacking}
        left.pop("additionalProperties", None)  # which names are additional is not known
    return left


def _depends(schema: Any, lacking: frozenset[str]) -> bool:
    """Tell whether one of the patterns is in a schema, or may be where it refers to."""
    refers = any(REFERENCES & each.keys() for each in all_schemas(schema))
    return refers or any(pattern in lacking for pattern in of(schema))
