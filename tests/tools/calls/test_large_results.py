"""A result that is too large stands beside its call: linked, whole, and for its own assignment alone."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from tests.conftest import House
from tests.servers.toolbox import furnished, schema, text
from tests.tools.conftest import OpenShop, Shop
from tools.models import StoredContent

LONG = "wörter " * 40_000
IMAGE = bytes(range(256)) * 100


async def long(_: dict[str, Any], __: Any) -> Any:
    return {
        "content": [
            {"type": "text", "text": "First."},
            {"type": "text", "text": LONG},
            {"type": "image", "data": base64.b64encode(IMAGE).decode(), "mimeType": "image/png"},
        ]
    }


async def figures(_: dict[str, Any], __: Any) -> Any:
    return text("Many.", structuredContent={"figures": list(range(50_000))})


def library(open_shop: OpenShop) -> Shop:
    box = furnished()
    box.add("long", long, input_schema=schema())
    box.add("figures", figures, input_schema=schema())
    return open_shop(box)


def path(shop: Shop, uri: str) -> str:
    """An address as the live server of the tests has it."""
    return "/v1/" + uri.partition("/v1/")[2]


def test_what_is_large_is_linked_with_its_size_and_digest_and_fetched_whole(open_shop: OpenShop) -> None:
    shop = library(open_shop)
    answer = shop.call("long")
    assert answer.status_code == 200
    first, words, image = answer.json()["content"]
    assert first == {"type": "text", "text": "First."}
    assert (words["type"], words["size"]) == ("resource_link", len(LONG.encode()))
    fetched = shop.api.get(path(shop, words["uri"]))
    assert fetched.content.decode() == LONG
    assert words["_meta"]["duvo/sha256"] == hashlib.sha256(fetched.content).hexdigest()
    assert image["mimeType"] == "image/png"
    assert shop.api.get(path(shop, image["uri"])).content == IMAGE
    assert shop.api.get(f"/v1/calls/{answer.json()['id']}").json()["content"] == answer.json()["content"]


def test_large_structured_content_is_linked_too(open_shop: OpenShop) -> None:
    shop = library(open_shop)
    answer = shop.call("figures").json()
    assert answer["structured_content"] is None
    link = answer["structured_content_link"]
    assert shop.api.get(path(shop, link["uri"])).json() == {"figures": list(range(50_000))}


def test_a_stranger_gets_nothing(open_shop: OpenShop, acme: House, rival: House) -> None:
    shop = library(open_shop)
    link = path(shop, shop.call("long").json()["content"][1]["uri"])
    for token in (acme.token(acme.assignment("Other")), rival.token()):
        assert shop.api.as_(token).get(link).status_code == 404


def test_what_is_stored_is_sealed(open_shop: OpenShop) -> None:
    shop = library(open_shop)
    shop.call("long")
    stored = StoredContent.objects.all()
    assert len(stored) == 2
    plain = [base64.b64encode(LONG.encode()).decode()[:40], LONG[:40]]
    assert not [words for words in plain if any(words in content.sealed for content in stored)]


def test_a_small_result_stands_as_it_is(shop: Shop) -> None:
    assert shop.call("picture").json()["content"][0]["type"] == "image"
    assert StoredContent.objects.count() == 0
