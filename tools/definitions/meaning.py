"""What a definition means, without what only its spelling or its server's mood decides. Pure.

Servers write `required` in another order after each restart, or 1 as 1.0. What a model or a person reads (every text,
the order of alternatives and examples) is part of the meaning. So is the order of an `enum` beside a list that may
label its members one by one (`enumNames`): turned around alone, “delete” would be called “Keep it”. What says only
what holds anyhow (`"additionalProperties": true`, `"annotations": {}`) comes and goes with a server's library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tools.definitions import dialects
from tools.definitions.keywords import LIST_OF_SCHEMAS, NAMED_SCHEMAS, ONE_SCHEMA, rebuilt

_SCHEMAS: Final = frozenset({"inputSchema", "outputSchema"})
_DEEPEST: Final = 64  # levels; what is deeper cannot be used, and would exhaust the stack
_AS_THEY_ARE: Final = frozenset({str, int, bool})
_SETS: Final = frozenset({"required", "enum", "type", "dependencies"})  # their lists are read as sets
_NO_LABELS: Final = (
    _SETS | ONE_SCHEMA | LIST_OF_SCHEMAS | NAMED_SCHEMAS
    | {"const", "default", "dependentRequired", "example", "examples"}
)  # fmt: skip

_Defaults = Mapping[str, tuple[Any, ...]]
_ABSENT: Final[tuple[Any, ...]] = (None, "", {})
# What a member means that is not there, in a definition (MCP, ToolAnnotations and ToolExecution) and in a schema.
_OF_A_DEFINITION: Final[_Defaults] = {
    "title": _ABSENT, "description": _ABSENT, "annotations": _ABSENT, "execution": _ABSENT, "outputSchema": (None,),
}  # fmt: skip
_OF_MEMBERS: Final[Mapping[str, _Defaults]] = {
    "annotations": {
        "title": _ABSENT, "readOnlyHint": (None, False), "destructiveHint": (None, True),
        "idempotentHint": (None, False), "openWorldHint": (None, True),
    },
    "execution": {"taskSupport": (None, "forbidden")},
}  # fmt: skip
_OF_A_CLOSED_SCHEMA: Final[_Defaults] = {
    "required": ([],), "properties": ({},), "patternProperties": ({},), "$defs": ({},), "definitions": ({},),
    "dependentRequired": ({},), "dependentSchemas": ({},), "title": ("",), "description": ("",), "examples": ([],),
    "minLength": (0,), "minItems": (0,), "minProperties": (0,), "uniqueItems": (False,), "deprecated": (False,),
    "readOnly": (False,), "writeOnly": (False,),
}  # fmt: skip
# Beside `unevaluatedProperties` and `unevaluatedItems` these say which members are taken care of.
_OF_A_SCHEMA: Final[_Defaults] = {**_OF_A_CLOSED_SCHEMA, "additionalProperties": (True, {}), "items": (True, {})}


def of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition in normal form: two that mean the same are equal as JSON with sorted keys."""
    found: dict[str, Any] = {}
    for name, member in definition.items():
        if name in _SCHEMAS:
            closed = isinstance(member, dict) and '"unevaluated' in written(member)
            found[name] = _of_schema(member, _OF_A_CLOSED_SCHEMA if closed else _OF_A_SCHEMA)
        else:
            data, defaults = _of_data(member), _OF_MEMBERS.get(name)
            found[name] = _telling(data, defaults) if defaults and isinstance(data, dict) else data
    return _telling(found, _OF_A_DEFINITION)


def _telling(members: dict[str, Any], defaults: _Defaults) -> dict[str, Any]:
    """Return an object without the members that say what holds without them, too."""
    return {name: member for name, member in members.items() if not _is_default(member, defaults.get(name, ()))}


def _is_default(member: Any, defaults: tuple[Any, ...]) -> bool:
    kind = int if type(member) is float else type(member)  # 0.0 is 0, and False is not
    return any(kind is type(default) and member == default for default in defaults)


def written(value: Any) -> str:
    """Return a value in normal form as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _of_schema(schema: Any, defaults: _Defaults, level: int = 0, around: frozenset[int] = frozenset()) -> Any:
    if not isinstance(schema, dict) or level > _DEEPEST:
        return _of_data(schema)
    said = _telling(schema, defaults)
    labels = around | frozenset(_labels(said))

    def other(keyword: str, member: Any) -> Any:
        ordered = keyword == "enum" and isinstance(member, list) and 1 < len(member) in labels
        return _of(keyword, member, ordered=ordered)

    return rebuilt(said, lambda each: _of_schema(each, defaults, level + 1, labels), other)


def _labels(schema: dict[str, Any]) -> Iterator[int]:
    """Yield how long each list is that may label an `enum`: any but JSON Schema's own and names of fields."""
    fields = schema.get("properties")
    names = fields if isinstance(fields, dict) else {}
    waiting = [member for name, member in schema.items() if name not in _NO_LABELS]
    for each in waiting:
        if isinstance(each, dict):
            waiting.extend(each.values())
            if all(name.isdigit() for name in each):  # as PHP and YAML write a list
                yield len(each)
        elif isinstance(each, list):
            waiting.extend(each)
            if not all(isinstance(name, str) and name in names for name in each):
                yield len(each)


def _of(keyword: str, member: Any, *, ordered: bool = False) -> Any:
    if keyword in _SETS and isinstance(member, list) and not ordered:
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
