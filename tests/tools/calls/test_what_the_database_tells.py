"""Who reads the database alone learns nothing of what is sealed, however few the possibilities are."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
import pytest
from django.core.management import call_command

from connections import sealing
from tests.reading import tables
from tests.servers.toolbox import Toolbox, schema, text
from tests.tools.conftest import OpenShop, Shop
from tools.models import Call

PIN = {"text": "471100"}  # one of a million
KEY = {"Idempotency-Key": "the-same"}
OLD, NEW = (base64.urlsafe_b64encode(letter * 32).decode() for letter in (b"o", b"n"))


def guesses(*values: bytes) -> set[str]:
    """Every plain digest of these values in each spelling, as who guesses would make them."""
    digests = [getattr(hashlib, name)(value) for name in ("md5", "sha1", "sha256", "sha512") for value in values]
    spelled = {digest.hexdigest() for digest in digests}
    for digest in digests:
        spelled |= {base64.b64encode(digest.digest()).decode(), base64.urlsafe_b64encode(digest.digest()).decode()}
    return spelled | {text.rstrip("=") for text in spelled}


def bodies(arguments: dict[str, Any]) -> list[bytes]:
    """The forms in which arguments may be digested."""
    parts: list[Any] = [arguments, ["orders__echo", arguments], {"arguments": arguments}, *arguments.values()]
    return [form for part in parts for form in (orjson.dumps(part), str(part).encode())]


def found(known: set[str]) -> list[str]:
    return [name for name, dump in tables() if any(digest in dump for digest in known)]


def test_no_row_tells_the_arguments_of_a_call_to_who_guesses_them(shop: Shop) -> None:
    assert shop.call("echo", PIN, headers=KEY).status_code == 200
    assert shop.row.body_digest
    assert found(guesses(*bodies(PIN))) == []


def test_no_row_tells_a_stored_content_to_who_guesses_it(open_shop: OpenShop) -> None:
    letter = "Dear Ada, your code is 471100. " + "Yours sincerely. " * 8_000

    async def write(_: dict[str, Any], __: Any) -> Any:
        return text(letter)

    box = Toolbox()
    box.add("letter", write, input_schema=schema())
    shop = open_shop(box)
    answer = shop.call("letter").json()
    [link] = answer["content"]
    digest = hashlib.sha256(letter.encode()).hexdigest()
    assert link["_meta"]["duvo/sha256"] == digest, "the caller is told"
    fetched = shop.api.get("/v1/" + link["uri"].partition("/v1/")[2])
    assert fetched.headers["ETag"] == f'"{digest}"'
    assert found(guesses(letter.encode())) == []


def test_the_same_body_has_another_digest_for_another_assignment(shop: Shop) -> None:
    one, other = (sealing.keyed_digest(b"471100", context=f"acme/assignment/{name}/body") for name in ("a", "b"))
    assert one != other
    assert sealing.same_digest(one, b"471100", context="acme/assignment/a/body")
    assert not sealing.same_digest(one, b"471100", context="acme/assignment/b/body")
    assert not sealing.same_digest(one, b"471101", context="acme/assignment/a/body")


@pytest.mark.parametrize("keys", [[OLD], [NEW, OLD], [NEW]])
def test_a_key_names_its_call_through_a_rotation(shop: Shop, settings: Any, keys: list[str]) -> None:
    settings.SEAL_KEYS = [OLD]
    first = shop.call("echo", PIN, headers=KEY).json()
    settings.SEAL_KEYS = [NEW, OLD]
    if OLD not in keys:
        call_command("rotate_seals")
    settings.SEAL_KEYS = keys
    assert shop.call("echo", PIN, headers=KEY).json() == first
    other = shop.call("echo", {"text": "471101"}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Call.objects.count() == 1
