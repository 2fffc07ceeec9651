"""Definitions as servers of the field write them: one odd member does not take a tool away, a broken schema does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.definitions import patterns, reading, schemas
from tools.definitions.drift import digest
from tools.mcp_client.listing import sort_out

TEXT = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}


def tool(**members: Any) -> dict[str, Any]:
    return {"name": "t", "inputSchema": OBJECT, **members}


def takes(**members: Any) -> dict[str, Any]:
    return tool(inputSchema={"type": "object", **members})


def has(**properties: Any) -> dict[str, Any]:
    return takes(properties=properties)


def listed(definition: Any) -> tuple[dict[str, Any], str]:
    """Return a definition as it is kept, and why it cannot be used."""
    good, broken = sort_out([definition], modern=True)
    (found,) = good + broken
    return found.definition, found.reason


# What it is, the definition, and what is kept of it (the same where that is left out).
ODD: list[tuple[str, dict[str, Any], Any]] = [
    # what we do not use
    ("an output schema that leads elsewhere", tool(outputSchema={"$ref": "https://attacker.example/s"}), tool()),
    ("an output schema that leads to a file", tool(outputSchema={"items": {"$ref": "other.json"}}), tool()),
    ("an output schema that is broken", tool(outputSchema={"type": "strin"}), None),
    ("an output schema that is a list", tool(outputSchema=["object"]), tool()),
    ("an output schema that is true", tool(outputSchema=True), tool()),
    ("an output schema of another dialect", tool(outputSchema={"$schema": "https://x.example/d"}), None),
    ("a hint in words", tool(annotations={"readOnlyHint": "yes", "destructiveHint": True}),
     tool(annotations={"destructiveHint": True})),
    ("a hint as a number", tool(annotations={"idempotentHint": 1}), tool(annotations={})),
    ("a hint as null", tool(annotations={"idempotentHint": None}), tool(annotations={})),
    ("a title in annotations that is none", tool(annotations={"title": 5}), tool(annotations={})),
    ("annotations as an empty list", tool(annotations=[]), tool()),
    ("annotations as text", tool(annotations="read only"), tool()),
    ("icons as an object", tool(icons={"src": "https://x.example/i.png"}), tool()),
    ("icons as addresses", tool(icons=["https://x.example/i.png"]), tool(icons=[])),
    ("an icon without a source", tool(icons=[{"sizes": "48x48"}]), None),
    ("execution as a list", tool(execution=[]), tool()),
    ("an execution of no known kind", tool(execution={"taskSupport": "sometimes"}), None),
    ("task support that is no word", tool(execution={"taskSupport": True}), tool(execution={})),
    ("_meta as a list", tool(_meta=[]), tool()),
    ("_meta as text", tool(_meta="1.2"), tool()),
    ("a title that is no text", tool(title=7), tool()),
    ("a NUL in an icon", tool(icons=[{"src": "\0"}]), tool(icons=[{"src": "\ufffd"}])),
    ("an icon as long as a definition may be", tool(icons=[{"src": "data:," + "x" * 70_000}]), tool()),
    # null, [] and {} for what is left out
    ("null for everything", tool(title=None, description=None, annotations=None, icons=None, execution=None,
                                 outputSchema=None, _meta=None), tool()),
    ("null for the input schema", tool(inputSchema=None), tool(inputSchema={})),
    ("a list for the input schema", tool(inputSchema=[]), tool(inputSchema={})),
    ("a list of no properties", takes(properties=[]), takes()),
    ("null for properties, required and additional ones", takes(properties=None, required=None,
                                                               additionalProperties=None), takes()),
    ("an object for required", takes(required={}), takes()),
    ("required with numbers", has(a=TEXT, b=TEXT) | takes(required={"2": "b", "0": "a"}), takes(required=["a", "b"])),
    ("required twice", takes(required=["a", "b", "a"]), takes(required=["a", "b"])),
    ("a list for a schema", has(a=[]), has(a={})),
    ("null for a schema", has(a=None), has(a={})),
    ("a list for additional properties", takes(additionalProperties=[]), takes(additionalProperties={})),
    ("a list of no definitions", takes(**{"$defs": [], "definitions": [], "patternProperties": []}), takes()),
    ("null for what bounds", has(a={"minLength": None, "pattern": None, "enum": None, "items": None}), has(a={})),
    ("null for alternatives", has(a={"anyOf": None, "allOf": [], "oneOf": {}}), has(a={})),
    ("a list in alternatives", has(a={"anyOf": [[], TEXT]}), has(a={"anyOf": [{}, TEXT]})),
    ("null for texts", has(a={"title": None, "description": None, "format": None}), has(a={})),
    ("null for values, which it is", has(a={"default": None, "const": None, "enum": [None], "x-own": None}), None),
    ("an empty list for types", has(a={"type": []}), has(a={})),
    ("one example", has(a={"examples": "Graz"}), has(a={"examples": ["Graz"]})),
    ("types in capitals", has(a={"type": "STRING"}, b={"type": ["Integer", "NULL"]}),
     has(a={"type": "string"}, b={"type": ["integer", "null"]})),
    ("an object that may be null", tool(inputSchema={"type": ["object", "null"]}), None),
    ("properties that say that they are required", has(a={"type": "string", "required": True},
                                                       b={"type": "string", "required": False}),
     takes(properties={"a": TEXT, "b": TEXT}, required=["a"])),
    ("a property that is called properties", has(properties={"properties": []}), has(properties={})),
    ("a flag that is none", has(a={"deprecated": "since May", "readOnly": 1}), has(a={})),
    # drafts
    *[(f"$schema {spelling}", takes(**{"$schema": spelling}), None) for spelling in (
        "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft-07/schema#", "https://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema", "https://json-schema.org/draft-06/schema#",
        "https://json-schema.org/draft-04/schema", "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft/2019-09/schema#", "https://json-schema.org/draft/2019-09/schema#",
        "http://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#",
        "json-schema.org/draft-07/schema#", "http://www.json-schema.org/draft-07/schema#",
        "http://json-schema.org/schema#", "https://json-schema.org/schema", "http://json-schema.org/schema",
        "https://json-schema.org/draft/2020-12", "http://json-schema.org/draft-07#", "https://json-schema.org/draft-04/",
        "https://json-schema.org/draft/07/schema", "HTTPS://JSON-Schema.org/draft-2020-12/schema/",
    )],
    ("no $schema", takes(**{"$schema": None}), takes()),
    ("an empty $schema", takes(**{"$schema": ""}), takes()),
    ("draft-04's exclusive bound", has(a={"minimum": 1, "exclusiveMinimum": True}), None),
    *[(f"draft-04's exclusive bounds in {draft}",
       takes(**{"$schema": draft}, properties={"a": {"items": {"minimum": 1, "exclusiveMinimum": True}},
                                               "b": {"maximum": 9, "exclusiveMaximum": False}}),
       takes(**{"$schema": draft}, properties={"a": {"items": {"exclusiveMinimum": 1}}, "b": {"maximum": 9}}))
      for draft in ("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema")],
    ("draft-04's exclusive bounds beside const", has(a={"exclusiveMinimum": False, "const": 5}), has(a={"const": 5})),
    ("a property that is called exclusiveMinimum", takes(**{"$schema": "http://json-schema.org/draft-07/schema#"},
                                                         properties={"exclusiveMinimum": True}), None),
    ("draft-03's type for everything", has(a={"type": "any"}, b={"type": ["Any", "null"]}), has(a={}, b={})),
    ("a type for everything for the arguments", tool(inputSchema={"type": "any"}), tool(inputSchema={})),
    ("OpenAPI's dialect", takes(**{"$schema": "https://spec.openapis.org/oas/3.1/dialect/base"}), None),
    ("OpenAPI's dialect of a date", takes(**{"$schema": "https://spec.openapis.org/oas/3.2/dialect/2025-09-17"}), None),
    ("a description of false", tool(description=False), tool()),
    ("a list for a description", tool(description=[]), tool()),
    *[("a reference with marks", takes(**{"$defs": {name: TEXT}}, properties={"a": {"$ref": f"#/$defs/{name}"}}),
       takes(**{"$defs": {name: TEXT}}, properties={"a": {"$ref": f"#/$defs/{written}"}}))
      for name, written in (("List<String>", "List%3CString%3E"), ("a b|{c}", "a%20b%7C%7Bc%7D"),
                            ("Größe", "Gr%C3%B6%C3%9Fe"), ("城市", "%E5%9F%8E%E5%B8%82"), ("100%", "100%25"))],
    ("an $id that is a fragment", has(a={"$id": "#/properties/a", "type": "string"}), None),
    ("an $id that is a name", has(a={"$id": "#a", "const": 5}, b={"$ref": "#a"}), None),
    ("an $id that is a fragment, within", has(a={"items": {"$id": "#/properties/a/items", "type": "string"}}), None),
    ("a list of items", has(a={"items": [TEXT, {"type": "null"}], "additionalItems": False}), None),
    ("2019-09's reference", takes(**{"$recursiveAnchor": True}, properties={"a": {"$recursiveRef": "#"}}), None),
    ("draft-07's dependencies", takes(dependencies={"a": ["b"]}), None),
    # patterns
    *[(f"the pattern {pattern}", has(a={"pattern": pattern}), None) for pattern in (
        "[^]", "[]", r"\p{RGI_Emoji}", r"[\p{L}--[a-z]]", "(?<$n>a)", "a{", r"[a-\d]", r"[\w-.]", r"\0", r"[\b]",
        r"(?<n>a)|(?<n>b)", "(?=a)*", r"^a\Z", r"(?P<n>a)(?P=n)", r"\x4", r"\k<n>(?<n>a)",
    )],
    ("a name's pattern", takes(patternProperties={"[^]": {"type": "integer"}}, additionalProperties=False), None),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "kept"), [pytest.param(d, k, id=what[:60]) for what, d, k in ODD])
def test_an_odd_member_does_not_take_a_tool_away(definition: dict[str, Any], kept: Any) -> None:
    found, reason = listed(orjson.loads(orjson.dumps(definition)))
    assert reason == ""
    assert found == (definition if kept is None else kept)
    schemas.compile(found["inputSchema"])
    assert reading.read(found) == found, "what was read is read as itself"


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("a reference with marks that leads nowhere", has(a={"$ref": "#/$defs/List<String>"}), "invalid"),
    ("an exclusive bound in words", has(a={"minimum": 1, "exclusiveMinimum": "yes"}), "invalid"),
    ("a dialect that looks like OpenAPI's", takes(**{"$schema": "https://spec.openapis.org.x.example/oas/3.1/dialect/base"}),
     "dialect"),
    ("a description of true", tool(description=True), "description is not text"),
    ("no input schema at all", {"name": "t"}, "no `inputSchema`"),
    ("an input schema under another name", {"name": "t", "parameters": OBJECT}, "no `inputSchema`"),
    ("an input schema as text", tool(inputSchema="object"), "not a JSON object"),
    ("a full list for an input schema", tool(inputSchema=[OBJECT]), "not a JSON object"),
    ("a schema of text", tool(inputSchema=TEXT), "does not describe an object"),
    ("a schema of anything but an object", tool(inputSchema={"type": ["string", "null"]}), "not describe an object"),
    ("a description that is no text", tool(description=["a"]), "description is not text"),
    ("no name", tool(name=None), "no name"),
    ("an unknown type", has(a={"type": "strin"}), "invalid"),
    ("text for properties", takes(properties="none"), "invalid"),
    ("text for required", takes(required="a"), "invalid"),
    ("an object for required that is no list", takes(required={"a": True}), "invalid"),
    ("null among names", takes(required=[None]), "invalid"),
    ("null among alternatives", has(a={"anyOf": [None, TEXT]}), "invalid"),
    ("no alternatives", has(a={"anyOf": []}), "invalid"),
    ("a bound in words", has(a={"minLength": "5"}), "invalid"),
    ("a negative length", has(a={"minLength": -1}), "invalid"),
    ("a reference to nothing", has(a={"$ref": "#/$defs/none"}), "invalid"),
    ("a reference that leads elsewhere", has(a={"$ref": "https://attacker.example/s"}), "attacker.example"),
    ("an unknown dialect", takes(**{"$schema": "https://attacker.example/d"}), "https://attacker.example/d"),
    ("a dialect on another host", takes(**{"$schema": "http://json-schema.org.attacker.example/draft-07/schema"}),
     "not known here"),
    ("draft-03", takes(**{"$schema": "http://json-schema.org/draft-03/schema#"}), "draft-03"),
    ("a dialect that is a number", takes(**{"$schema": 7}), "not known here: 7"),
    ("keywords of two drafts", has(a={"items": [TEXT], "prefixItems": [TEXT]}), "invalid"),
    ("a bound of draft-04 beside a newer keyword", has(a={"exclusiveMinimum": True, "const": 1}), "invalid"),
    ("a bound of draft-04 in draft-07", takes(**{"$schema": "http://json-schema.org/draft-07/schema#"},
                                             properties={"a": {"exclusiveMinimum": True}}), "invalid"),
    *[(f"the pattern {pattern}", has(a={"pattern": pattern}), "invalid") for pattern in (
        "(", ")", "a)", "(a", "[", "[a", "*a", "+", "\\", "(?a", "(?<n", "[z-a]", "x{2,1}", "a|*", "(*)",
        "((a{1,500}){1,500}){1,500}",
    )],
    ("a NUL in the description", tool(description="\0"), "NUL"),
    ("a description that is too long", tool(description="x" * 70_000), "larger than 64 KB"),
    ("an input schema that is too large", takes(**{"x-a": "x" * 70_000}), "larger than 64 KB"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "words"), [pytest.param(d, w, id=what[:60]) for what, d, w in BROKEN])
def test_what_is_truly_broken_is_set_aside_with_its_reason(definition: dict[str, Any], words: str) -> None:
    reason = listed(orjson.loads(orjson.dumps(definition)))[1]
    assert words in reason
    good, broken = sort_out([definition, tool(name="good")], modern=True)
    assert ([one.name for one in good], len(broken)) == (["good"], 1)


@pytest.mark.parametrize(
    ("schema", "fits", "refused"),
    [
        ({"minimum": 1, "exclusiveMinimum": True}, 2, 1),
        ({"items": [TEXT], "additionalItems": False}, ["a"], ["a", "b"]),
        ({"$schema": "https://json-schema.org/draft-07/schema", "items": [TEXT]}, ["a", 1], [1]),
        ({"$schema": "http://json-schema.org/draft/2019-09/schema#", "dependentRequired": {"a": ["b"]}}, {}, {"a": 1}),
        ({"dependencies": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1}),
        ({"$schema": "https://json-schema.org/draft-04/schema", "const": 1, "type": "integer"}, 2, "a"),
    ],
)
def test_a_schema_is_checked_by_the_rules_of_its_draft(schema: dict[str, Any], fits: Any, refused: Any) -> None:
    validator = schemas.compile(schema)
    assert validator.faults(fits) == []
    assert validator.faults(refused) != []


def test_what_a_schema_says_beside_a_pattern_that_the_engine_lacks_is_checked() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "[^]", "maxLength": 3}}}
    assert schemas.unchecked(schema) == {"[^]"}
    validator = schemas.compile(schema)
    assert validator.faults({"a": "abc"}) == []
    assert [fault.pointer for fault in validator.faults({"a": "abcd"})] == ["/a"]
    assert schemas.unchecked({"pattern": "^a+$"}) == set()


PATTERNS = st.sampled_from(["^a", "b$", "c"])
TEXTS = st.sampled_from(["", "a", "ab", "b", "cc", "d"])
VALUES = st.recursive(
    TEXTS | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(["not", "if", "then", "else", "contains", "items", "additionalProperties",
                           "unevaluatedProperties", "unevaluatedItems", "propertyNames"])  # fmt: skip
    many = st.sampled_from(["anyOf", "allOf", "oneOf", "prefixItems"])
    return st.one_of(
        st.dictionaries(one, inner, min_size=1, max_size=3),
        st.dictionaries(many, st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2),
        st.fixed_dictionaries(
            {"patternProperties": st.dictionaries(PATTERNS, inner, min_size=1, max_size=2)},
            optional={"additionalProperties": inner, "properties": st.dictionaries(TEXTS, inner, max_size=2)},
        ),
    )


LEAVES = st.one_of(
    st.builds(lambda pattern: {"pattern": pattern}, PATTERNS),
    st.sampled_from([{"type": "string"}, {"type": "object"}, {"maxLength": 1}, {}, {"$ref": "#/$defs/d"}]),
)
SCHEMAS = st.recursive(LEAVES, _wider, max_leaves=6)


@settings(max_examples=400, deadline=None)
@given(
    schema=SCHEMAS, named=st.builds(lambda pattern: {"pattern": pattern}, PATTERNS), value=VALUES,
    lacking=st.frozensets(PATTERNS, min_size=1),
)  # fmt: skip
def test_a_value_that_fits_a_schema_fits_it_without_its_patterns(
    schema: dict[str, Any], named: dict[str, Any], value: Any, lacking: frozenset[str]
) -> None:
    whole = {**schema, "$defs": {"d": named}}
    if schemas.compile(whole).faults(value) == []:
        assert schemas.compile(patterns.without(whole, lacking)).faults(value) == []
    assert not lacking & set(patterns.of(patterns.without(whole, lacking)))


def test_what_is_turned_around_is_left_as_it_is() -> None:
    """To drop `unevaluatedProperties`, which is not looked into, would turn what is accepted here into a refusal."""
    schema = {"not": {"unevaluatedProperties": {"type": "string"}}, "pattern": "^a"}
    assert schemas.compile(schema).faults({"a": 1}) == []
    assert schemas.compile(patterns.without(schema, frozenset({"^a"}))).faults({"a": 1}) == []


@settings(max_examples=300, deadline=None)
@given(pattern=st.text(max_size=12) | st.text("()[]{}?*+|^$\\\\<>=!:-,12abP", max_size=12))
def test_whatever_is_given_as_a_pattern_is_checked_or_not_checked_or_broken(pattern: str) -> None:
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}):
        with suppress(schemas.SchemaBroken):
            schemas.compile(schema)


def test_a_count_of_many_digits_is_not_checked() -> None:
    for pattern in ("a{%s}" % ("9" * 5_000), "a{1,%s}" % ("9" * 5_000)):
        assert schemas.compile({"pattern": pattern}).faults("b") == []


@pytest.mark.parametrize("keyword", ["not", "anyOf", "properties", "default"])
def test_a_schema_that_is_too_deep_is_set_aside_and_has_a_digest(keyword: str) -> None:
    schema: Any = {}
    while len(orjson.dumps(schema)) < 64_000 and _levels(schema) < 190:
        schema = {keyword: [schema] if keyword == "anyOf" else {"a": schema} if keyword == "properties" else schema}

    def within(frames: int) -> str:
        return within(frames - 1) if frames else digest(takes(**schema))

    assert "nested" in listed(takes(**schema))[1]
    assert within(200) == digest(takes(**schema))


def _levels(value: Any) -> int:
    level, depth = [value], 0
    while level := [each for node in level for each in (node.values() if isinstance(node, dict) else node)]:
        depth += 1
    return depth


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "properties", "required", "items", "enum", "anyOf", "0", "1", "a", "dependencies"]),
        inner, max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(schema=JSON)
def test_reading_takes_whatever_json_there_is_and_reads_its_own_result_as_it_is(schema: Any) -> None:
    once = reading.read({"name": "t", "inputSchema": schema, "outputSchema": schema, "annotations": schema})
    assert reading.read(once) == once
    sort_out([once], modern=True)
