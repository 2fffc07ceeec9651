"""What a server may ask a person is read strictly, and the person's response is checked against it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import asking
from tools import mcp_client
from tools.definitions import schemas
from tools.mcp_client import Question, Questions, forms, questions

WHO = Question("form", "Who?", schema=asking.FORM)
GO = Question("url", "Go", url=asking.VISIT)


def a_form(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def pointers(question: Question, content: Any) -> list[str]:
    return [fault.pointer for fault in mcp_client.faults(question, {"action": "accept", "content": content})]


# --- forms ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_field_is_kept_as_it_came() -> None:
    assert forms.read(asking.FORM) == asking.FORM


@pytest.mark.parametrize(
    "field",
    [
        "text",
        {},
        {"type": "object", "properties": {}},
        {"type": "null"},
        {"type": ["string", "null"]},
        {"type": "array"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer", "enum": ["a"]}},
        {"type": "array", "items": {"anyOf": [{"type": "object"}]}},
        {"type": "array", "items": [{"const": "a"}]},
        {"type": "string", "enum": []},
        {"type": "string", "enum": [1, 2]},
        {"type": "string", "enum": "ab"},
        {"type": "string", "oneOf": [{"type": "object"}]},
        {"type": "string", "oneOf": []},
        {"type": "string", "anyOf": [{"const": "a"}]},
        {"type": "string", "$ref": "https://attacker.example/schema"},
        {"type": "string", "allOf": []},
        {"type": "string", "not": {}},
        {"type": "integer", "enum": ["1"]},
        {"type": "string", "minLength": "2"},
        {"type": "string", "pattern": "("},
        {"type": "number", "minimum": "0"},
    ],
)
def test_a_field_that_no_form_shows_is_refused(field: Any) -> None:
    with pytest.raises(mcp_client.BadQuestion):
        forms.read(a_form(a=field))


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {},
        {"type": "array"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {"": {"type": "string"}}},
        {"type": "object", "properties": {"a" * 201: {"type": "string"}}},
        {"type": "object", "properties": {"a\0": {"type": "string"}}},
        {"type": "object", "properties": {str(number): {"type": "string"} for number in range(101)}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": "a"},
        {"type": "object", "properties": {"a": {"type": "string", "enum": ["x" * 70_000]}}},
    ],
)
def test_a_schema_that_is_no_flat_form_is_refused(schema: Any) -> None:
    with pytest.raises(mcp_client.BadQuestion):
        forms.read(schema)


def test_what_a_form_cannot_show_or_check_is_left_out() -> None:
    field = {"type": "string", "format": "password", "x-vendor": {"a": 1}, "title": 7, "default": 3, "examples": []}
    assert forms.read({**a_form(a=field), "$schema": "https://elsewhere.example", "title": "T"}) == a_form(
        a={"type": "string"}
    )


def test_a_default_that_the_field_refuses_is_left_out() -> None:
    read = forms.read(
        a_form(a={"type": "integer", "maximum": 3, "default": 9}, b={"type": "boolean", "default": False})
    )
    assert read["properties"] == {"a": {"type": "integer", "maximum": 3}, "b": {"type": "boolean", "default": False}}


def test_long_words_are_visibly_cut() -> None:
    read = forms.read(a_form(a={"type": "string", "title": "t" * 999, "description": "d" * 9999}))
    field = read["properties"]["a"]
    assert (len(field["title"]), len(field["description"])) == (200, 2000)
    assert field["title"].endswith("…")
    question = questions.of_params({"message": "m\0" * 5000, "requestedSchema": a_form()})
    assert (len(question.message), question.message[:2], question.message[-1]) == (2000, "m\ufffd", "…")


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://a.example/x?y=%20#z", "http://127.0.0.1:8080/", "https://[::1]/", "HTTPS://a"]
)
def test_an_address_is_kept_letter_for_letter(url: str) -> None:
    assert questions.of_params({"mode": "url", "message": "Go", "url": url}).url == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "/relative",
        "https://",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://a.example/",
        "https://user:secret@a.example/",
        "https://bank.example@a.example/",
        "https://a.example\\.bank.example/",
        "https://a.example/ x",
        "https://a.example/\n",
        "\thttps://a.example/",
        "https://bänk.example/",
        "https://a.example:99999/",
        "https://a.example:x/",
        "https://[::1/",
        "https://a.example/" + "x" * 2048,
    ],
)
def test_an_address_that_hides_where_it_leads_is_refused(url: Any) -> None:
    with pytest.raises(mcp_client.BadQuestion):
        questions.of_params({"mode": "url", "message": "Go", "url": url})


# --- responses ------------------------------------------------------------------------------------------------------


def test_a_full_response_fits() -> None:
    content = {
        "name": "Ann",
        "email": "ann@acme.example",
        "site": "https://acme.example/",
        "day": "2026-11-23",
        "at": "2026-11-23T10:00:00Z",
        "count": 2,
        "weight": 1.5,
        "gift": True,
        "color": "green",
        "grade": "a",
        "size": "l",
        "extras": ["red", "blue"],
        "sizes": [],
    }
    assert mcp_client.faults(WHO, {"action": "accept", "content": content}) == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", "A"),
        ("name", 7),
        ("email", "not an address"),
        ("site", "not a uri"),
        ("day", "23.11.2026"),
        ("at", "yesterday"),
        ("count", 10),
        ("count", 1.5),
        ("weight", -1),
        ("gift", "yes"),
        ("color", "pink"),
        ("grade", "Best"),
        ("size", "Large"),
        ("extras", []),
        ("extras", ["red", "green", "blue"]),
        ("sizes", "s"),
    ],
)
def test_a_fault_in_a_form_has_a_pointer_to_its_field(member: str, value: Any) -> None:
    found = pointers(WHO, {"name": "Ann", "color": "red", member: value})
    assert found
    assert all(pointer.startswith(f"/content/{member}") for pointer in found)


def test_what_is_missing_or_was_not_asked_for_is_a_fault() -> None:
    assert pointers(WHO, {"color": "red"}) == ["/content"]
    assert pointers(WHO, {"name": "Ann", "color": "red", "admin": True}) == ["/content"]
    assert pointers(WHO, ["Ann"]) == ["/content"]
    assert [fault.pointer for fault in mcp_client.faults(WHO, {"action": "accept"})] == ["/content"] * 2


@pytest.mark.parametrize(
    ("question", "response", "found"),
    [
        (WHO, None, [""]),
        (WHO, [], [""]),
        (WHO, {}, ["/action"]),
        (WHO, {"action": "maybe"}, ["/action"]),
        (WHO, {"action": ["accept"]}, ["/action"]),
        (WHO, {"action": "decline"}, []),
        (WHO, {"action": "cancel"}, []),
        (WHO, {"action": "decline", "content": {"name": "Ann"}}, ["/content"]),
        (WHO, {"action": "cancel", "a/b": 1}, ["/a~1b"]),
        (GO, {"action": "accept"}, []),
        (GO, {"action": "decline"}, []),
        (GO, {"action": "accept", "content": {}}, ["/content"]),
    ],
)
def test_an_action_has_content_only_where_a_form_is_accepted(
    question: Question, response: Any, found: list[str]
) -> None:
    assert [fault.pointer for fault in mcp_client.faults(question, response)] == found


async def test_the_responses_of_a_call_are_checked_by_key() -> None:
    both = Questions({"a/b": WHO, "go": GO})
    assert await mcp_client.answer_faults(both, {"a/b": {"action": "cancel"}, "go": {"action": "accept"}}) == []
    faults = await mcp_client.answer_faults(both, {"a/b": {"action": "maybe"}, "more": {"action": "accept"}})
    assert [fault.pointer for fault in faults] == ["/more", "/a~1b/action", "/go"]
    assert [fault.pointer for fault in await mcp_client.answer_faults(both, ["x"])] == [""]


# --- hostile shapes -------------------------------------------------------------------------------------------------

_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_keywords = st.sampled_from(sorted({*chain(*asking.EVERY_FIELD.values()), "anyOf", "pattern", "uniqueItems", "$ref"}))
_kinds = st.sampled_from(["string", "number", "integer", "boolean", "array", "object"])
_fields = st.builds(lambda kind, more: {"type": kind, **more}, _kinds, st.dictionaries(_keywords, _json, max_size=4))
_forms = st.builds(
    lambda fields, more: {"type": "object", "properties": fields, **more},
    st.dictionaries(st.text(max_size=5), _fields, max_size=3),
    st.dictionaries(st.sampled_from(["required", "additionalProperties", "$defs", "allOf"]), _json, max_size=2),
)


@given(_forms | _json, _json)
def test_any_form_is_read_or_refused_and_any_response_is_checked(schema: Any, content: Any) -> None:
    try:
        read = forms.read(schema)
    except mcp_client.BadQuestion:
        return
    assert forms.read(orjson.loads(orjson.dumps(read))) == read
    schemas.compile(read)
    found = mcp_client.faults(Question("form", "?", schema=read), {"action": "accept", "content": content})
    assert all(fault.pointer.startswith("/content") and fault.message for fault in found)


@given(_json | st.fixed_dictionaries({"method": st.just("elicitation/create"), "params": _json}))
def test_any_request_is_read_or_refused(request_: Any) -> None:
    for read in (
        lambda: questions.of_result({"inputRequests": {"a": request_}, "requestState": "s"}),
        lambda: questions.of_result({"inputRequests": request_}),
        lambda: questions.of_refusal({"elicitations": [request_]}),
        lambda: questions.of_refusal(request_),
    ):
        try:
            asked = read()
        except (mcp_client.BadQuestion, mcp_client.NeedsMore):
            continue
        assert Questions.restored(orjson.loads(orjson.dumps(asked))) == asked
