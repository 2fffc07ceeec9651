"""Programs that write a byte order mark before their JSON, as some on Windows do: it means nothing, and is left out."""

from __future__ import annotations

import json
from codecs import BOM_UTF8, BOM_UTF16_LE
from typing import Any

import pytest

from tests.conftest import House
from tests.live import Api
from tests.tools.conftest import Shop

KIND = {"content-type": "application/json"}


def settings_of(**members: Any) -> bytes:
    return json.dumps({"server_url": "http://127.0.0.1:9/mcp", **members}).encode()


def test_settings_may_begin_with_the_mark(api: Api, acme: House) -> None:
    admin = api.as_(acme.member_token(acme.admin))
    body = BOM_UTF8 + settings_of(name="Orders")
    added = admin.request("POST", "/v1/connections", content=body, headers=KIND)
    assert (added.status_code, added.json()["name"]) == (201, "Orders"), added.text
    path = f"/v1/connections/{added.json()['id']}"
    changed = admin.request("PATCH", path, content=BOM_UTF8 + b'{"name":"Bills"}', headers=KIND)
    assert (changed.status_code, changed.json()["name"]) == (200, "Bills")
    added = admin.request("POST", "/v1/assignments", content=BOM_UTF8 + b'{"name":"Nightly"}', headers=KIND)
    assert added.status_code == 201, added.text


@pytest.mark.parametrize("words", ["few", "a," * 40_000], ids=["small", "large"])
def test_the_body_of_a_call_may_begin_with_the_mark(shop: Shop, words: str) -> None:
    answer = shop.post(BOM_UTF8 + json.dumps({"arguments": {"text": words}}).encode())
    assert (answer.status_code, words in answer.text) == (200, True), answer.text[:300]
    path = f"/v1/calls/{answer.json()['id']}/input"
    for mark in (b"", BOM_UTF8):  # it is read, and nothing is asked
        asked = shop.api.request("POST", path, content=mark + b'{"responses":{}}', headers=KIND)
        assert (asked.status_code, asked.json()["code"]) == (409, "not_asked"), asked.text


@pytest.mark.parametrize(
    "body",
    [BOM_UTF8 * 2 + b"{}", BOM_UTF16_LE + '{"name":"x"}'.encode("utf-16-le"), b" " + BOM_UTF8 + b"{}", b"{" + BOM_UTF8],
)
def test_other_marks_and_other_places_stay_refused(shop: Shop, acme: House, body: bytes) -> None:
    admin = shop.api.as_(acme.member_token(acme.admin))
    for answer in (shop.post(body), admin.request("POST", "/v1/connections", content=body, headers=KIND)):
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
