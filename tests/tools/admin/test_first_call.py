"""The page of a new token: shown once, with a call that runs as it is printed, and what has come of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from connections.models import User
from tests.conftest import House
from tests.tools.conftest import OpenShop, Shop
from tools.admin import first_call
from tools.definitions import examples, schemas
from tools.models import AccessToken, Call, Tool

SignedIn = Callable[[User | None], Client]


def once_of(client: Client, shop: Shop) -> str:
    """The mark of the form on the assignment's page."""
    page = client.get(f"/admin/tools/assignment/{shop.assignment.pk}/change/").content.decode()
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found
    return unescape(found[1])


def make(client: Client, shop: Shop, **data: str) -> str:
    return client.post(f"/admin/tools/assignment/{shop.assignment.pk}/tokens/", data).content.decode()


def snippet(page: str, name: str) -> str:
    found = re.search(rf'<textarea id="snippet-{name}"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    assert found
    return unescape(found[1])


def text_of(page: str, part: str = "first-call") -> str:
    found = re.search(rf'<div id="{part}".*?</div>', page, re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def test_a_reload_makes_no_second_token_and_shows_none(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    AccessToken.objects.all().delete()
    form = {"once": once_of(client, shop), "label": "x"}
    first, again = make(client, shop, **form), make(client, shop, **form)
    token = re.search(r"duvo_[\w-]{43}", first)
    assert token
    assert AccessToken.objects.count() == 1
    assert token[0] not in again
    assert "A token is shown once" in again
    assert "$DUVO_TOKEN" in again
    assert "duvo_" in make(client, shop, **form | {"once": once_of(client, shop)})
    assert AccessToken.objects.count() == 2


def test_a_reload_of_ones_own_token_makes_no_second_one_either(acme: House, signed_in: SignedIn, db: None) -> None:
    client = signed_in(acme.admin)
    page = client.get("/admin/tools/accesstoken/add/").content.decode()
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found
    form = {"once": unescape(found[1]), "membership": str(acme.membership(acme.admin).pk)}
    first, again = (client.post("/admin/tools/accesstoken/add/", form).content.decode() for _ in range(2))
    assert re.search(r"duvo_[\w-]{43}", first)
    assert not re.search(r"duvo_[\w-]{43}", again)
    assert AccessToken.objects.count() == 1
    assert "/v1/me" in snippet(first, "curl")


def test_another_mark_is_of_no_use(shop: Shop, acme: House, rival: House, signed_in: SignedIn) -> None:
    theirs = AccessToken.issue(assignment=rival.assignment())[0]
    before = AccessToken.objects.count()
    page = make(signed_in(acme.admin), shop, once=str(theirs.pk))
    assert re.search(r"duvo_[\w-]{43}", page), "what is not ours is no mark: a program sends none"
    assert AccessToken.objects.count() == before + 1


def test_curl_and_python_run_as_they_are_printed(shop: Shop, acme: House, signed_in: SignedIn, settings: Any) -> None:
    settings.PUBLIC_URL = shop.api.base
    client = signed_in(acme.admin)
    page = make(client, shop, once=once_of(client, shop))
    alone = {"PATH": "/usr/bin:/bin", "no_proxy": "*"}
    for command in (["bash", "-c", snippet(page, "curl")], [sys.executable, "-c", snippet(page, "python")]):
        run = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=60, check=True)
        answer = json.loads(run.stdout)
        assert (answer["state"], answer["tool"], answer["is_error"]) == ("succeeded", "orders__echo", False)
    assert "which only reads" in page


def test_the_page_waits_and_turns_into_the_call(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    page = make(client, shop, once=once_of(client, shop))
    token = re.search(r"duvo_[\w-]{43}", page)
    assert token
    row = AccessToken.objects.order_by("-created_at")[0]
    address = f"/admin/tools/assignment/{shop.assignment.pk}/tokens/{row.pk}/"
    assert f'data-poll="{address}"' in page
    assert "Waiting for your first call…" in text_of(page)
    program = shop.api.as_(token[0])
    program.get("/v1/tools")
    assert "The token was used at" in text_of(client.get(address).content.decode())
    shop.call("echo", {"text": "of another token"})
    assert "Waiting" in text_of(client.get(address).content.decode())
    program.call("orders__echo", {"text": "x"})
    seen = client.get(address).content.decode()
    call = Call.objects.get(token=row)
    assert re.search(r"Your first call: orders__echo , succeeded after \d+ ms\.", text_of(seen))
    assert f"/admin/tools/call/{call.pk}/change/" in seen
    assert "data-poll" not in seen
    assert token[0] not in seen


def test_a_tool_that_only_reads_is_shown_and_none_whose_call_waits(shop: Shop) -> None:
    found = first_call.sample(shop.assignment)
    assert found is not None
    assert (found.tool, found.only_reads) == ("orders__echo", True)
    shop.set_tool("echo", policy="ask")
    another = first_call.sample(shop.assignment)
    assert another is not None
    assert not another.only_reads
    Tool.objects.update(policy="deny")
    assert first_call.sample(shop.assignment) is None
    assert "/v1/tools " in first_call.snippets(None)["curl"]


def test_what_a_server_says_breaks_out_of_no_quotes(open_shop: OpenShop, acme: House) -> None:
    evil = "'; touch /tmp/pwned; echo '\u202e\n$(id)`id`\\"
    found = first_call.Sample("orders__x", {evil: evil}, only_reads=False)
    lines = first_call.snippets(found, "duvo_x")
    words = subprocess.run(
        ["bash", "-c", f"set -- {lines['curl'].partition('-d ')[2]}; printf %s \"$1\""],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert json.loads(words) == {"arguments": {evil: evil}}
    scope: dict[str, Any] = {}
    exec(f"a = {lines['python'].partition('arguments = ')[2].partition(chr(10) + 'request')[0]}", scope)  # noqa: S102
    assert scope["a"] == {evil: evil}
    assert "\u202e" not in str(lines)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
    {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 5, "multipleOf": 4}}},
    {"type": "object", "required": ["n"], "properties": {"n": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}},
    {"type": "object", "required": ["day"], "properties": {"day": {"type": "string", "format": "date"}}},
    {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "array", "minItems": 2, "items": {"type": "boolean"}}},
    },
    {"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string"}]}}},
    {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"enum": ["x", "y"]}},
    },
    {"type": "object", "allOf": [{"properties": {"a": {"type": "string", "minLength": 3}}, "required": ["a"]}]},
    {"type": "object", "required": ["a"], "properties": {"a": {"type": ["integer", "null"], "default": 7}}},
    {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "object", "required": ["b"], "properties": {"b": {"const": 1}}}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_an_example_fits_its_schema(schema: dict[str, Any]) -> None:
    assert schemas.compile(schema).faults(examples.arguments(schema)) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "https://elsewhere.example/x"}}},
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "minLength": 10**9}}},
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "array", "minItems": 10**9}}},
        {"type": "object", "required": ["a"], "properties": {"a": False}},
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/A"}},
         "$defs": {"A": {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/A"}}}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_guessed_is_given_up(schema: dict[str, Any]) -> None:
    with pytest.raises(examples.NoExample):
        examples.arguments(schema)
