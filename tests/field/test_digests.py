"""The digest of a definition's meaning: what is only spelt otherwise keeps it, every change of meaning changes it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connections.models import Connection
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.toolbox import Toolbox
from tools.definitions.difference import differences
from tools.definitions.drift import digest
from tools.definitions.meaning import of
from tools.models import Probe

Probed = Callable[[Connection], Probe]
SETS = {"required", "enum", "type"}
ORDERED = {"anyOf", "oneOf", "allOf", "prefixItems", "examples"}

NAMES = st.sampled_from(["a", "b", "required", "enum", "type", "properties", "anyOf", "items", "default"])
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def _schema(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "string"]) | st.lists(
                st.sampled_from(["string", "null", "integer"]), min_size=2, max_size=3, unique=True
            ),
            "required": st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True),
            "enum": st.lists(DATA, min_size=1, max_size=4),
            "description": st.text(max_size=5),
            "default": DATA,
            "const": DATA,
            "examples": st.lists(DATA, max_size=3),
            "minimum": st.integers(-5, 5) | st.floats(-5, 5),
            "x-own": st.none() | st.booleans() | st.integers() | st.text(max_size=3),  # a list might label an `enum`
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "patternProperties": st.dictionaries(NAMES, inner, max_size=2),
            "dependentRequired": st.dictionaries(
                st.sampled_from(["a", "b"]), st.lists(NAMES, unique=True, max_size=3).map(sorted), max_size=2
            ),
            "items": inner | some,
            "additionalProperties": inner | st.booleans(),
            "not": inner,
            "anyOf": some,
            "oneOf": some,
            "prefixItems": some,
        },
    )  # fmt: skip


SCHEMAS = st.recursive(st.just({}), _schema, max_leaves=5)


def tool(schema: Any, **more: Any) -> dict[str, Any]:
    return {"name": "t", "description": "Does.", "inputSchema": schema, **more}


def respelt(value: Any, shuffled: random.Random, keyword: str = "", *, data: bool = False) -> Any:
    """Write a schema as another run of its server does: keys and sets in another order, whole numbers as decimals."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return shuffled.choice([value, float(value)])
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        inner = [respelt(each, shuffled, data=data or keyword in {"enum", "examples", "required"}) for each in value]
        if keyword in SETS and not data:
            shuffled.shuffle(inner)
        return inner
    names = list(value)
    shuffled.shuffle(names)
    if data or keyword in {"default", "const", "x-own"}:
        return {name: respelt(value[name], shuffled, data=True) for name in names}
    if keyword in {"properties", "patternProperties", "dependentRequired"}:
        own = "required" if keyword == "dependentRequired" else ""
        return {name: respelt(value[name], shuffled, own) for name in names}
    return {name: respelt(value[name], shuffled, name, data=name in {"default", "const", "x-own"}) for name in names}


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS, seed=st.integers())
def test_a_definition_that_is_only_written_otherwise_keeps_its_digest(schema: dict[str, Any], seed: int) -> None:
    other = respelt(schema, random.Random(seed))
    assert digest(tool(schema)) == digest(tool(other)), other
    assert digest(tool({}, outputSchema=schema)) == digest(tool({}, outputSchema=other))
    assert differences(of(tool(schema)), of(tool(other))) == []


def changed(value: Any, at: int) -> tuple[Any, int]:
    """Return a value with the leaf number `at` changed, or the list of that number turned around where order counts."""
    if isinstance(value, dict):
        found = {}
        for name, member in value.items():
            if name in ORDERED and isinstance(member, list):
                at -= 1
            turned = member[::-1] if at == -1 and name in ORDERED and isinstance(member, list) else member
            found[name], at = changed(turned, at)
        return found, at
    if isinstance(value, list):
        listed = []
        for member in value:
            other, at = changed(member, at)
            listed.append(other)
        return listed, at
    return (["another"] if at == 0 else value), at - 1


def loosely(value: Any, keyword: str = "") -> Any:
    """Return a value so that those of one meaning are equal, and some others that look like them."""
    if isinstance(value, dict):
        return {name: loosely(member, name) for name, member in sorted(value.items())}
    if isinstance(value, list):
        listed = [loosely(member) for member in value]
        return sorted(listed, key=json.dumps) if keyword in SETS else listed
    return value if isinstance(value, bool) or not isinstance(value, int | float) else f"number {float(value) + 0.0}"


@settings(max_examples=300, deadline=None)
@given(schema=SCHEMAS, at=st.integers(0, 12))
def test_a_leaf_that_changes_or_an_order_that_counts_changes_the_digest(schema: dict[str, Any], at: int) -> None:
    other, _ = changed(schema, at)
    if loosely(schema) != loosely(other):
        assert digest(tool(schema)) != digest(tool(other)), other
        assert differences(of(tool(schema)), of(tool(other)))


@settings(max_examples=150, deadline=None)
@given(one=SCHEMAS, other=SCHEMAS)
def test_two_schemas_of_one_digest_say_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    if digest(tool(one)) == digest(tool(other)):
        assert of(tool(one)) == of(tool(other))


BASE = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["m", "km", 1, None], "default": "m", "examples": ["m", "km"]},
        "size": {"type": ["integer", "null"], "minimum": 1, "description": "How large."},
        "kind": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "required": {"type": "string"},
    },
    "required": ["unit", "size"],
    "dependentRequired": {"unit": ["size", "kind"]},
}


def based(**changes: Any) -> dict[str, Any]:
    """Return the base with changes by path, such as properties__size__minimum=2."""
    schema = orjson.loads(orjson.dumps(BASE))
    for path, value in changes.items():
        *steps, last = path.split("__")
        node = schema
        for step in steps:
            node = node[step]
        node[last] = value
    return tool(schema)


@pytest.mark.parametrize(
    "same",
    [
        based(required=["size", "unit"]),
        based(required=["size", "unit", "size"]),
        based(properties__unit__enum=[None, 1.0, "km", "m"]),
        based(properties__size__type=["null", "integer"]),
        based(properties__size__minimum=1.0),
        based(properties__required__type=["string"]),
        based(dependentRequired={"unit": ["kind", "size"]}),
        based(properties__kind__required=[]),
        orjson.loads(json.dumps(based()).replace("How large.", "\\u0048ow\\u0020large.")),
        {**based(), "_meta": {"served": "12:04"}, "x-unknown": 1},
        dict(reversed(based().items())),
    ],
)
def test_another_spelling_is_no_change(same: dict[str, Any]) -> None:
    assert digest(same) == digest(based())


@pytest.mark.parametrize(
    "different",
    [
        based(required=["unit"]),
        based(required=["unit", "kind"]),
        based(required=[]),
        based(properties__unit__enum=["m", "km", True, None]),
        based(properties__unit__enum=["m", "km", "1", None]),
        based(properties__unit__enum=["m", "km", 1]),
        based(properties__unit__enum=["m", "Km", 1, None]),
        based(properties__unit__default="km"),
        based(properties__unit__examples=["km", "m"]),
        based(properties__size__type="integer"),
        based(properties__size__minimum=1.5),
        based(properties__size__minimum=True),
        based(properties__size__minimum="1"),
        based(properties__size__description="How large. "),
        based(properties__size__description="How lar\u200bge."),
        based(properties__kind__anyOf=[{"type": "integer"}, {"type": "string"}]),
        based(properties__kind__default=["size", "unit"]),
        based(dependentRequired={"unit": ["size"]}),
        {**based(), "description": "Does more."},
        {**based(), "title": "Do"},
        {**based(), "annotations": {"readOnlyHint": True}},
        {**based(), "outputSchema": {}},
        {**based(), "name": "T"},
        {**based(), "annotations": {"destructiveHint": False}},
        {**based(), "annotations": {"openWorldHint": False}},
        {**based(), "annotations": {"title": "Do"}},
        {**based(), "annotations": {"readOnlyHint": 1}},
        {**based(), "execution": {"taskSupport": "optional"}},
        based(additionalProperties=False),
        based(additionalProperties={"type": "string"}),
        based(properties__size__minLength=1),
        based(properties__size__minLength=False),
        based(properties__size__uniqueItems=0),
        based(properties__size__minimum=0),
        based(properties__size__enum=[]),
        based(properties__size__default=None),
        based(properties__size__default={}),
        based(properties__new={}),
        based(properties__kind__properties={"a": {}}),
        based(properties__kind__items=False),
    ],
)
def test_every_change_of_meaning_is_one(different: dict[str, Any]) -> None:
    assert digest(different) != digest(based())
    assert differences(of(based()), of(different)), "and is shown"


@pytest.mark.parametrize(
    "more",
    [
        {"annotations": {}},
        {"annotations": None},
        {"annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": None, "title": ""}},
        {"execution": {}},
        {"execution": {"taskSupport": "forbidden"}},
        {"title": ""},
        {"title": None, "outputSchema": None},
        {"icons": []},
        {"icons": [{"src": "https://cdn.example/a.png?signature=1"}]},
        based(additionalProperties=True),
        based(additionalProperties={}),
        based(properties__kind__additionalProperties=True),
        based(title="", description=""),
        based(patternProperties={}),
        based(**{"$defs": {}, "definitions": {}}),
        based(properties__size__minLength=0),
        based(properties__size__minItems=0.0),
        based(properties__size__uniqueItems=False, properties__size__deprecated=False),
        based(properties__unit__readOnly=False),
        based(properties__kind__items=True),
        based(properties__kind__properties={}),
        based(dependentSchemas={}),
    ],
)
def test_to_say_what_holds_anyhow_is_no_change(more: dict[str, Any]) -> None:
    assert digest({**based(), **more}) == digest(based())
    assert differences(of({**based(), **more, "icons": []}), of({**based(), "icons": []})) == []


@pytest.mark.parametrize(
    ("keyword", "said"),
    [("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")],
)
def test_what_takes_care_of_members_is_said_beside_a_keyword_that_asks_for_it(keyword: str, said: str) -> None:
    """With `additionalProperties: true` nothing is unevaluated, wherever around it that is asked."""
    around = {"anyOf": [{"properties": {"a": {}}}], keyword: False}
    assert digest(tool({**around, said: True})) != digest(tool(around))
    inner = {**around, "anyOf": [{"properties": {"a": {}}, said: True}]}
    assert digest(tool(inner)) != digest(tool(around))


@pytest.mark.parametrize("name", ["required", "items", "minLength", "title", "additionalProperties"])
def test_a_field_with_the_name_of_a_keyword_is_a_field(name: str) -> None:
    assert digest(tool({"properties": {name: True}})) != digest(tool({"properties": {}}))
    assert digest(tool({"properties": {name: {}}})) != digest(tool({"properties": {}}))


@pytest.mark.parametrize("keyword", ["default", "const", "x-own"])
def test_the_order_in_data_that_looks_like_a_schema_counts(keyword: str) -> None:
    one, other = ({keyword: {"required": order, "enum": order}} for order in (["a", "b"], ["b", "a"]))
    assert digest(tool(one)) != digest(tool(other))
    property_of_that_name = ({"properties": {"required": {keyword: order}}} for order in (["a", "b"], ["b", "a"]))
    assert len({digest(tool(schema)) for schema in property_of_that_name}) == 2
    assert digest(tool({"enum": [["a", "b"]]})) != digest(tool({"enum": [["b", "a"]]}))


LABELLED: list[tuple[str, dict[str, Any]]] = [
    ("enum", {"enumNames": ["Keep it", "Delete it"]}),
    ("enum", {"x-enum-varnames": ["KEEP", "DELETE"]}),
    ("enum", {"x-enumNames": ["keep", "delete"]}),  # what it labels may be called alike
    ("enum", {"x-enum-descriptions": [{"en": "Keeps."}, {"en": "Deletes."}]}),
    ("enum", {"x-form": {"options": {"labels": ["Keep it", "Delete it"]}}}),
    ("enum", {"x-labels": {"0": "Keep it", "1": "Delete it"}}),
    ("enum", {"x-order": [2, 1]}),
]


@pytest.mark.parametrize(("keyword", "labels"), LABELLED)
def test_the_order_counts_beside_a_list_that_may_label_it(keyword: str, labels: dict[str, Any]) -> None:
    order = ["string", "null"]
    one, other = ({**BASE, "properties": {"a": {keyword: each, **labels}}} for each in (order, order[::-1]))
    assert digest(tool(one)) != digest(tool(other))
    assert differences(of(tool(one)), of(tool(other))), "and is shown"


def test_labels_may_stand_in_a_schema_around_the_alternatives() -> None:
    def labelled(order: list[str]) -> dict[str, Any]:
        return tool({"properties": {"a": {"items": {"enum": order}, "enumNames": ["Keep it", "Delete it"]}}})

    assert digest(labelled(["keep", "delete"])) != digest(labelled(["delete", "keep"]))


def test_one_type_in_a_list_is_that_type_whatever_stands_beside_it() -> None:
    assert digest(tool({"type": ["object"], "x-tags": [1]})) == digest(tool({"type": "object", "x-tags": [1]}))


@pytest.mark.parametrize(
    "beside",
    [
        {"enumNames": ["Keep it"]},
        {"enumNames": ["Keep it", "Delete it", "Both"]},
        {"x-labels": {"keep": "Keep it", "delete": "Delete it"}},
        {"x-labels": {"1": "Keep it", "2": "Delete it", "3": "Both"}},
        {"examples": ["keep", "delete"]},
        {"default": ["keep", "delete"]},
        {"anyOf": [{"type": "string"}, {"minLength": 2}]},
        {"type": ["string", "null"]},
        {"propertyOrdering": ["a", "b"], "properties": {"a": {}, "b": {}}},
    ],
)
@pytest.mark.parametrize("keyword", ["enum", "required"])
def test_a_list_that_labels_nothing_leaves_the_order_alone(beside: dict[str, Any], keyword: str) -> None:
    one, other = (tool({"properties": {"a": {keyword: each, **beside}}}) for each in (["a", "b"], ["b", "a"]))
    assert digest(one) == digest(other)


def test_a_server_that_writes_its_lists_in_another_order_after_a_restart_keeps_its_tools(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    box = Toolbox()
    box.add("ship", input_schema=BASE)
    server = mcp_server("modern", box)
    connection = acme.connection(url=server.url)
    probed(connection)
    box.change("ship", inputSchema=respelt(BASE, random.Random(1)))
    probed(connection)
    ship = connection.tools.get()
    assert (ship.availability.code, ship.versions.count()) == ("usable", 1)
    box.change("ship", inputSchema=based(properties__size__description="How small.")["inputSchema"])
    probed(connection)
    ship.refresh_from_db()
    assert ship.availability.code == "tool_changed"
    assert connection.tools_state == "changes_to_review"


def test_an_upgrade_that_digests_otherwise_sets_no_tool_aside(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    """What is stored was digested by an earlier release; each kind of tool keeps what was decided about it."""
    box = Toolbox()
    for name in ("used", "waits", "moves", "changes"):
        box.add(name, description="Does.", input_schema=BASE)
    connection = acme.connection(url=mcp_server("modern", box).url)
    probed(connection)
    box.change("waits", description="Does more.")
    probed(connection)
    moves = connection.tools.get(name="moves")
    moves.let_change("all", by="ada@acme.example")
    for stored in connection.tools.all():
        was = {"digest": f"old {stored.digest[:50]}", "approved_digest": f"old {stored.approved_digest[:50]}"}
        connection.tools.filter(pk=stored.pk).update(**was)
    box.change("changes", description="Does another thing.")
    probed(connection)
    codes = {each.name: each.availability.code for each in connection.tools.all()}
    assert codes == {"used": "usable", "waits": "tool_changed", "moves": "usable", "changes": "tool_changed"}
    box.change("changes", description="Does.")
    box.change("waits", description="Does.")
    probed(connection)
    assert {each.availability.code for each in connection.tools.all()} == {"usable"}
    connection.refresh_from_db()
    assert connection.tools_state == "in_sync"
