"""What a tool's schema accepts, and which schemas are refused."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.definitions import schemas

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=12,
)

ORDER = {
    "type": "object",
    "properties": {"a~/b": {"type": "string"}, "lines": {"items": {"type": "integer"}}},
    "required": ["a~/b"],
}


def test_arguments_that_fit_have_no_faults() -> None:
    assert schemas.compile(ORDER).faults({"a~/b": "x", "lines": [1, 2]}) == []


def test_every_fault_is_named_with_an_escaped_pointer() -> None:
    faults = schemas.compile(ORDER).faults({"a~/b": 1, "lines": [1, "two"]})
    assert {fault.pointer for fault in faults} == {"/a~0~1b", "/lines/1"}


def test_a_missing_member_is_named_at_its_parent() -> None:
    (fault,) = schemas.compile(ORDER).faults({})
    assert fault.pointer == ""
    assert "a~/b" in fault.message


def test_a_long_value_is_cut_in_the_message() -> None:
    (fault,) = schemas.compile({"type": "integer"}).faults("x" * 10_000)
    assert len(fault.message) <= schemas.MAX_MESSAGE


def test_no_more_than_fifty_faults_are_listed() -> None:
    assert len(schemas.compile({"items": {"type": "null"}}).faults([1] * 500)) == schemas.MAX_FAULTS


def test_format_is_not_asserted() -> None:
    assert schemas.compile({"format": "email"}).faults("not an address") == []


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        True,
        {"type": "strin"},
        {"$ref": "https://attacker.example/schema"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$dynamicRef": "https://attacker.example/x"}}},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"$schema": "https://attacker.example/dialect"},
        {"$schema": 7},
        {"pattern": "("},
        {"required": "a"},
        {"description": "x" * schemas.MAX_SCHEMA_BYTES},
        deep(100),
        deep(10_000),
    ],
)
def test_a_broken_schema_is_refused_with_a_short_reason(schema: Any) -> None:
    with pytest.raises(schemas.SchemaBroken) as refusal:
        schemas.compile(schema)
    assert 10 < len(str(refusal.value)) < 400


def test_older_drafts_keep_their_own_rules() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}, {"type": "null"}]}
    assert [fault.pointer for fault in schemas.compile(schema).faults(["a", 1])] == ["/1"]


def test_references_inside_the_schema_work_also_when_recursive() -> None:
    schema = {"properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}}
    assert [f.pointer for f in schemas.compile(schema).faults({"child": {"child": {"name": 1}}})] == [
        "/child/child/name"
    ]


def test_look_ahead_patterns_are_understood() -> None:
    validator = schemas.compile({"pattern": "^(?=.*[0-9]).+$"})
    assert validator.faults("a1") == []
    assert validator.faults("ab") != []


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?=x?)(a+)+\\1$"])
def test_a_catastrophic_pattern_costs_no_time(pattern: str) -> None:
    validator = schemas.compile({"pattern": pattern})
    started = time.process_time()
    validator.faults("a" * 5_000 + "!")
    assert time.process_time() - started < 1


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_any_value_as_a_schema_compiles_or_is_refused(value: Any) -> None:
    with suppress(schemas.SchemaBroken):
        assert schemas.compile({"properties": value} if not isinstance(value, dict) else value)


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_there_are_faults_exactly_when_the_value_does_not_fit(value: Any) -> None:
    schema = {"type": ["object", "string"], "maxLength": 3, "additionalProperties": {"type": "integer"}}
    assert (schemas.compile(schema).faults(value) == []) == jsonschema_rs.Draft202012Validator(schema).is_valid(value)


@given(st.lists(st.text() | st.integers(0, 99)))
def test_a_pointer_leads_back_to_its_path(path: list[str | int]) -> None:
    steps = schemas.pointer(path).split("/")[1:]
    assert [step.replace("~1", "/").replace("~0", "~") for step in steps] == [str(step) for step in path]
