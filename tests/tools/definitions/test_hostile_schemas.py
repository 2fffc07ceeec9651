"""Schemas made to keep the process busy: the checks of arguments hold up every other call meanwhile."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from tools.definitions import patterns, schema_cost, schemas


def doubling(levels: int, reference: str = "#/$defs/a{}") -> dict[str, Any]:
    """Each level refers twice to the next: 2 ** levels checks of one value."""
    definitions: dict[str, Any] = {
        f"a{level}": {"$anchor": f"a{level}", "allOf": [{"$ref": reference.format(level + 1)}] * 2}
        for level in range(levels)
    }
    definitions[f"a{levels}"] = {"$anchor": f"a{levels}", "type": "object"}
    return {"type": "object", "$defs": definitions, "$ref": reference.format(0)}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"child": value}
    return value


@pytest.mark.parametrize("reference", ["#/$defs/a{}", "#/%24defs/a{}", "#a{}"])
def test_references_that_double_are_refused_and_few_of_them_are_not(reference: str) -> None:
    assert schemas.compile(doubling(4, reference)).faults({}) == []
    with pytest.raises(schemas.SchemaBroken, match="multiply"):
        schemas.compile(doubling(40, reference))


def test_a_chain_of_references_that_would_exhaust_the_stack_is_refused() -> None:
    definitions: dict[str, Any] = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(5_000)}
    with pytest.raises(schemas.SchemaBroken, match="chain"):
        schemas.compile({"type": "object", "$defs": definitions | {"a5000": {}}, "$ref": "#/$defs/a0"})


def test_a_schema_that_refers_to_itself_names_the_fault_of_a_shallow_value() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}, "size": {"type": "integer"}}}
    assert [fault.pointer for fault in schemas.compile(tree).faults({"child": {"size": "big"}})] == ["/child/size"]


def test_a_deep_value_in_a_schema_of_alternatives_that_refer_to_themselves_is_refused_at_once() -> None:
    branch = {"properties": {"child": {"$ref": "#/$defs/node"}}, "required": ["never"]}
    node = {"anyOf": [branch, branch, {"type": "integer"}]}
    validator = schemas.compile({"type": "object", "$defs": {"node": node}, "$ref": "#/$defs/node"})
    assert validator.faults(nested(1))
    started = time.monotonic()
    assert len(validator.faults(nested(40))) == 1
    assert time.monotonic() - started < 1


def test_a_large_value_full_of_faults_is_refused_at_once() -> None:
    items = {"type": "array", "items": {"type": "object", "required": ["never"]}}
    validator = schemas.compile({"type": "object", "properties": {"rows": items}})
    assert [fault.pointer for fault in validator.faults({"rows": [{}]})] == ["/rows/0"]
    started = time.monotonic()
    assert len(validator.faults({"rows": [{"a": 1}] * 400_000})) == 1
    assert time.monotonic() - started < 1


HOSTILE = [
    "[", "[a", "[\\]", "([", "(", "(?<", "(?<a", "(?P=", "(?P=a", "\\p{", "\\", "{1", "{1,", "a{", "[]", "[^]", "[:a:]",
    "[[:a:]", "*", "a|", "]", "(?=", "(?:", "-", "[a-",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_pattern_takes_long_to_be_looked_at(piece: str) -> None:
    """By CPU time of this thread: half a minute of it for what is a server's own to write."""
    for pattern in (piece * (30_000 // len(piece)), "a" + piece * (30_000 // len(piece)) + "]"):
        began = time.thread_time()
        schema_cost.weight_of(pattern)
        patterns.well_formed(pattern)
        with suppress(schemas.SchemaBroken):
            schemas.unchecked({"type": "string", "pattern": pattern})
        assert time.thread_time() - began < 2
