"""What a definition means, without what only its spelling or its server's mood decides. Pure.

Servers write `required` in another order after each restart, or 1 as 1.0. What a model or a person reads (every text,
the order of alternatives and examples) is part of the meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tools.definitions import dialects
from tools.definitions.keywords import rebuilt

_SCHEMAS: Final = frozenset({"inputSchema", "outputSchema"})
_DEEPEST: Final = 64  # levels; what is deeper cannot be used, and would exhaust the stack
_AS_THEY_ARE: Final = frozenset({str, int, bool})
_SETS: Final = frozenset({"required", "enum", "type", "dependencies"})  # their lists are read as sets


def of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition in normal form: two that mean the same are equal as JSON with sorted keys."""
    return {name: _of_schema(member) if name in _SCHEMAS else _of_data(member) for name, member in definition.items()}


def written(value: Any) -> str:
    """Return a value in normal form as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _of_schema(schema: Any, level: int = 0) -> Any:
    if not isinstance(schema, dict) or level > _DEEPEST:
        return _of_data(schema)
    # None required is what nothing at all says.
    said = {name: each for name, each in schema.items() if (name, each) != ("required", [])}
    return rebuilt(said, lambda each: _of_schema(each, level + 1), _of)


def _of(keyword: str, member: Any) -> Any:
    if keyword in _SETS and isinstance(member, list):
        if len(member) > 1 and all(type(each) is str for each in member):
            member = sorted(set(member))
            return member if len(member) > 1 or keyword != "type" else member[0]
        each = {written(found): found for found in map(_of_data, member)}
        one = keyword == "type" and len(each) == 1
        return next(iter(each.values())) if one else [each[text] for text in sorted(each)]
    if keyword == "dependentRequired" and isinstance(member, dict):
        return {name: _of("required", names) for name, names in member.items()}
    if keyword == "$schema":
        return dialects.named(member) or _of_data(member)
    return _of_data(member)


def _of_data(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE or not value:
        return 0 if type(value) is float else value  # zero has two decimal spellings
    if isinstance(value, dict):
        return {name: _of_data(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_of_data(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
