"""Schemas and values made to keep a process busy cost the process that serves everybody next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from connections.offload import TooMuchWork
from tests.servers.toolbox import furnished, schema
from tests.tools.conftest import OpenShop
from tools import mcp_client
from tools.definitions import checks, schemas
from tools.mcp_client import forms, listing
from tools.mcp_client.listing import MOST_FAILURES, sort_out
from tools.models import Tool
from tools.payloads.raw_json import RawJson

Case = tuple[dict[str, Any], Any]


def object_of(member: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"rows": member}, **more}


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"child": value}
    return value


def wide_alternatives() -> Case:
    """89 KB of alternatives, none of which fits any of 450 KB of rows."""
    branch = {"properties": {f"p{number}": {"type": "string", "minLength": 3} for number in range(50)}}
    branches = [{**branch, "required": [f"q{number}"]} for number in range(40)]
    return object_of({"type": "array", "items": {"anyOf": [*branches, {}]}}), {"rows": [{"p1": "abcd"}] * 35_000}


def exact_multiples() -> Case:
    return object_of({"items": {"multipleOf": 1e-300}}), {"rows": [1.5] * 100_000}


def both_ways() -> Case:
    """Each level is looked at twice for each time that the level above is."""
    child = {"properties": {"child": {"$ref": "#/$defs/node"}}}
    return object_of({"$ref": "#/$defs/node"}, **{"$defs": {"node": {"allOf": [child, child]}}}), {"rows": deep(40)}


def evaluated_again() -> Case:
    node: dict[str, Any] = {}
    for _ in range(9):
        node = {"unevaluatedProperties": node, "anyOf": [node, node]}
    return object_of(node), {"rows": deep(9)}


def long_patterns() -> Case:
    """A pattern whose every state is alive at every byte."""
    return object_of({"items": {"pattern": "(?:a?){800}(?:[ab]?){800}c"}}), {"rows": ["ab" * 40_000] * 4}


def backtracking() -> Case:
    return object_of({"items": {"pattern": "^(?=a)(a|aa)+$"}}), {"rows": ["a" * 60 + "!"] * 5_000}


def compared() -> Case:
    return object_of({"uniqueItems": True}), {"rows": [[number] for number in range(200_000)]}


def named_again_and_again() -> Case:
    names = {"propertyNames": {"anyOf": [{"const": f"n{number}"} for number in range(3_000)]}}
    return object_of(names), {"rows": {f"n{number}": 1 for number in range(20_000)}}


HOSTILE: list[Callable[[], Case]] = [
    wide_alternatives, exact_multiples, both_ways, evaluated_again, long_patterns, backtracking, compared,
    named_again_and_again,
]  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("unread", [False, True])
def test_what_takes_long_to_check_does_not_take_it_from_everybody(case: Callable[[], Case], unread: bool) -> None:
    """It is checked elsewhere or refused; here it costs less than a parse and a few looks at its bytes."""
    its_schema, value = case()
    text = orjson.dumps(value)
    before = time.process_time()  # of this process, all threads, without its children
    try:
        checker = checks.checker(its_schema, tenant="acme")
        checker.faults_sync(RawJson(text) if unread else value, tenant="acme")
    except (TooMuchWork, schemas.SchemaBroken):
        pass
    assert time.process_time() - before < 0.5, "seconds to minutes before"


PATTERN = r"\p{L}{20}"  # 7 ms each


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        ({"patternProperties": {f"{PATTERN}{number}": {} for number in range(1_500)}}, "more than 500 patterns"),
        ({"allOf": [{"pattern": f"{PATTERN}{number}"} for number in range(450)]}, "takes too long"),
        ({"pattern": "((a{1,500}){1,500}){1,500}"}, "is not a"),
    ],
)
def test_patterns_that_take_long_to_compile_set_their_tool_aside(hostile: dict[str, Any], reason: str) -> None:
    tool = {"name": "orders", "inputSchema": {"type": "object", **hostile}}
    before = time.process_time()
    good, broken = sort_out([tool, {"name": "fine", "inputSchema": {"type": "object"}}], modern=True)
    assert time.process_time() - before < 1, "17 s and 1.3 GB before"
    assert [one.name for one in good] == ["fine"]
    assert broken[0].reason.startswith("inputSchema: ")
    assert reason in broken[0].reason


def test_a_server_with_nothing_but_such_tools_is_soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "COMPILE_SECONDS", 0.2)
    dear = {"type": "object", "allOf": [{"pattern": f"{PATTERN}{number}"} for number in range(450)]}
    good, broken = sort_out([{"name": f"t{n}", "inputSchema": dear} for n in range(200)], modern=True)
    assert (len(good), len(broken)) == (0, 200)
    assert {one.reason for one in broken[MOST_FAILURES:]} == {
        "inputSchema: The schemas of this server take too long to compile."
    }


def test_many_schemas_that_each_take_a_while_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_SECONDS", 0.1)
    tools = [
        {
            "name": f"t{number}",
            "inputSchema": {"type": "object", "allOf": [{"pattern": f"{PATTERN}{number}-{each}"} for each in range(5)]},
        }
        for number in range(30)
    ]
    good, broken = listing.sort_out(tools, modern=True)
    assert 0 < len(good) < 30
    assert {one.reason for one in broken} == {"inputSchema: The schemas of this server take too long to compile."}


def test_a_call_whose_arguments_are_too_much_work_is_refused_and_not_made(open_shop: OpenShop) -> None:
    box = furnished()
    its_schema, value = both_ways()
    box.add("order", box.handlers["echo"], input_schema=its_schema)
    shop = open_shop(box)
    answer = shop.call("order", value)
    assert (answer.status_code, answer.json()["code"]) == (422, "arguments_too_complex")
    assert shop.server.executions("order") == 0
    assert shop.call("order", {"rows": deep(2)}).status_code == 200


def test_large_arguments_are_checked_elsewhere_with_the_same_result(open_shop: OpenShop) -> None:
    box = furnished()
    rows = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    box.add("order", box.handlers["echo"], input_schema=schema(rows=rows))
    shop = open_shop(box)
    good, bad = [{"n": 1}] * 30_000, [{"n": 1}] * 10 + [{"n": "one"}] + [{"n": 2}] * 5_000
    assert shop.call("order", {"rows": good}).status_code == 200
    assert shop.server.executions("order") == 1
    refusal = shop.call("order", {"rows": bad})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "arguments_invalid")
    assert [fault["pointer"] for fault in refusal.json()["errors"]] == ["/arguments/rows/10/n"]


def test_a_tool_that_was_approved_before_a_bound_became_narrower_is_set_aside(open_shop: OpenShop) -> None:
    shop = open_shop()
    tool = Tool.objects.get(name="echo")
    patterns = {f"a{number}": {} for number in range(600)}
    tool.approved_definition["inputSchema"]["patternProperties"] = patterns
    shop.set_tool("echo", approved_definition=tool.approved_definition)
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "tool_broken")
    assert "patterns" in answer.json()["detail"]


def test_what_acme_has_compiled_does_not_push_out_what_rival_has() -> None:
    rivals = checks.checker(schema(a={"type": "string"}), tenant="rival")
    first = checks.checker(schema(a={"type": "integer"}), tenant="acme")
    for number in range(300):
        many = {f"p{number}-{member}": {"type": "string"} for member in range(200)}
        assert checks.checker({"properties": many}, tenant="acme").compiled is not None
    assert checks.checker(schema(a={"type": "string"}), tenant="rival") is rivals
    assert checks.checker(schema(a={"type": "integer"}), tenant="acme") is not first, "acme's own share is bounded"


@pytest.mark.parametrize(
    "usual",
    [
        schema(text={"type": "string"}),
        schema(email={"type": "string", "pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}),
        schema(id={"type": "string", "pattern": r"^\w{1,64}$"}, day={"pattern": r"^\d{4}-\d{2}-\d{2}$"}),
        schema(price={"type": "number", "multipleOf": 0.01}, tags={"type": "array", "uniqueItems": True}),
        {"$defs": {"f": {"properties": {"and": {"items": {"$ref": "#/$defs/f"}}}}}, "$ref": "#/$defs/f"},
        {"properties": {f"p{number}": {"enum": [str(value) for value in range(30)]} for number in range(100)}},
    ],
)
def test_usual_schemas_are_checked_at_once(usual: dict[str, Any]) -> None:
    checker = checks.checker(usual, tenant="acme")
    value = {"text": "x" * 500, "id": "abc", "day": "2026-01-01", "price": 9.99, "tags": ["a", "b"], "and": [{}]}
    assert checker.compiled is not None
    assert checker._at_once(value, orjson.dumps(value)) is not None


def form(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


@pytest.mark.parametrize(
    "asked",
    [
        form(**{f"f{number}": {"type": "string", "pattern": f"{PATTERN}{number}"} for number in range(90)}),
        form(name={"type": "string", "pattern": "((a{1,500}){1,500}){1,500}"}),
    ],
)
def test_a_form_that_takes_long_to_compile_is_put_before_nobody(asked: dict[str, Any]) -> None:
    before = time.process_time()
    with pytest.raises(mcp_client.BadQuestion):
        forms.read(asked)
    assert time.process_time() - before < 1


def test_a_default_that_takes_long_to_check_is_left_out() -> None:
    before = time.process_time()
    field = {"type": "string", "pattern": "^(?:[ab]?){900}c$", "default": "ab" * 25_000}
    read = forms.read(form(name=field))
    assert "default" not in read["properties"]["name"]
    assert time.process_time() - before < 1


async def test_the_answer_to_a_form_is_checked_elsewhere_where_it_is_much_work() -> None:
    read = forms.read(form(name={"type": "string", "pattern": "^(?:[ab]?){900}c$"}))
    asked = mcp_client.Questions({"q": mcp_client.Question("form", "?", schema=read)})
    before = time.process_time()
    try:
        faults = await mcp_client.answer_faults(
            asked, {"q": {"action": "accept", "content": {"name": "ab" * 50_000}}}, tenant="acme"
        )
        assert [fault.pointer for fault in faults] in (["/q/content/name"], ["/q/content"])
    except TooMuchWork:
        pass
    assert time.process_time() - before < 0.5
