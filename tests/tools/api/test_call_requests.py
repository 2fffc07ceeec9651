"""What callers may send to the call path, and what they are told about everything else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.utils import timezone

from connections.models import Connection
from tests.conftest import House
from tests.live import Api
from tests.servers.toolbox import furnished
from tests.tools.conftest import OpenShop, Shop
from tools import callers
from tools.calls import offers
from tools.models import AccessToken, Assignment, Call

FRESH = 1.0  # seconds for which what is known of callers and tools may be old
MEGABYTE = 1024 * 1024


def is_problem(answer: httpx2.Response, status: int, code: str) -> bool:
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return True


def soon(ask: Callable[[], httpx2.Response], status: int) -> httpx2.Response:
    """Return the first answer with this status; it has to come within the time for which things may be old."""
    deadline = time.monotonic() + FRESH + 0.5
    while (answer := ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return answer


# --- tools and connections that are closed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"approved_digest": ""}, "tool_new"),
        ({"digest": "0" * 64}, "tool_changed"),
        ({"gone_at": timezone.now()}, "tool_gone"),
        ({"broken": "Its schema is no schema."}, "tool_broken"),
    ],
)
def test_a_tool_that_is_set_aside_says_why(shop: Shop, members: dict[str, Any], code: str) -> None:
    shop.set_tool("echo", **members)
    assert is_problem(shop.call("echo", {"text": "x"}), 409, code)
    assert shop.call("add", {"a": 1, "b": 2}).status_code == 200
    assert shop.server.executions("echo") == 0


def test_tools_of_a_disabled_connection_are_gone_within_a_second(shop: Shop) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    Connection.objects.update(enabled=False)
    assert is_problem(soon(lambda: shop.call("echo", {"text": "x"}), 404), 404, "tool_not_found")


def test_a_disabled_assignment_is_let_in_no_more(shop: Shop) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    Assignment.objects.update(enabled=False)
    answer = soon(lambda: shop.call("echo", {"text": "x"}), 401)
    assert is_problem(answer, 401, "unauthenticated")


def test_an_assignment_reaches_only_the_tools_chosen_for_it(shop: Shop) -> None:
    Assignment.objects.update(scope=Assignment.Scope.CHOSEN)
    shop.assignment.tools.set(shop.connection.tools.filter(name="add"))
    assert shop.call("add", {"a": 1, "b": 2}).status_code == 200
    assert is_problem(shop.call("echo", {"text": "x"}), 404, "tool_not_found")
    assert shop.server.executions("echo") == 0


def test_another_organization_does_not_reach_the_tool(shop: Shop, acme: House, rival: House, api: Api) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    call = shop.row
    stranger = api.as_(rival.token())
    assert is_problem(stranger.call("orders__echo", {"text": "x"}), 404, "tool_not_found")
    assert stranger.get(f"/v1/calls/{call.pk}").status_code == 404
    teammate = api.as_(acme.token(acme.assignment("Another")))
    assert teammate.get(f"/v1/calls/{call.pk}").status_code == 404


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_a_revoked_token_opens_nothing_within_a_second(shop: Shop) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    AccessToken.objects.get().revoke()
    answer = soon(lambda: shop.call("echo", {"text": "x"}), 401)
    assert is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_opens_nothing_after_its_last_day(shop: Shop) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    AccessToken.objects.update(expires_at=timezone.now() + timedelta(milliseconds=100))
    assert is_problem(soon(lambda: shop.call("echo", {"text": "x"}), 401), 401, "unauthenticated")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Bearer duvo_wrong", "Bearer \u00ff\u00fe"])
def test_without_a_token_nobody_is_let_in(shop: Shop, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = Api(shop.api.base).call("orders__echo", {"text": "x"}, headers=headers)
    assert is_problem(answer, 401, "unauthenticated")


def test_a_persons_token_calls_no_tools(shop: Shop, acme: House) -> None:
    answer = shop.api.as_(acme.member_token(acme.admin)).call("orders__echo", {"text": "x"})
    assert is_problem(answer, 403, "forbidden")
    assert shop.server.count("tools/call") == 0


# --- bodies ---------------------------------------------------------------------------------------------------------

BODIES = [
    (b"{", 400, "malformed"),
    (b"\xff\xfe", 400, "malformed"),
    (b'{"arguments": {"text": NaN}}', 400, "malformed"),
    (b'{"arguments": {"text": Infinity}}', 400, "malformed"),
    (b'{"arguments": {"text": "\\ud800"}}', 400, "malformed"),
    (b'{"arguments": {"\\ud800": 1}}', 400, "malformed"),
    (b'{"\\ud800": 1}', 400, "malformed"),
    (b'{"arguments":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 400, "malformed"),
    (b"[]", 422, "invalid"),
    (b"null", 422, "invalid"),
    (b'"words"', 422, "invalid"),
    (b'{"arguments": []}', 422, "invalid"),
    (b'{"arguments": null}', 422, "invalid"),
    (b'{"text": "x"}', 422, "invalid"),
    (b'{"arguments": {"text": "x"}, "a/b~c\\u0000": 1}', 422, "invalid"),
    (b'{"arguments": {"text": "x", "\\u0000": 1}}', 422, "arguments_invalid"),
    (b'{"arguments": {"text": 1e999}}', 422, "invalid"),
    # Beside a number that must stay as it is the body is read by another parser, which is no more lenient.
    (b'{"\\ud800": 1, "arguments": {"n": 12345678901234567890123}}', 400, "malformed"),
    (b'{"arguments": {"\\ud800": 1e999}}', 400, "malformed"),
    (b'{"arguments": {"text": "\\udc00", "n": 12345678901234567890123}}', 400, "malformed"),
    (b'{"arguments": {"text": "\\ud800\\ud800", "n": 0.12345678901234567890123}}', 400, "malformed"),
    (b'{"arguments": {"text": "\xed\xa0\x80", "n": 12345678901234567890123}}', 400, "malformed"),
    ('{"arguments": {"n": 12345678901234567890123}}'.encode("utf-16"), 400, "malformed"),
    (b'{"arguments": {"n": 12345678901234567890123, "d": ' + b"[" * 960 + b"]" * 960 + b"}}", 422, "invalid"),
    (b"", 422, "arguments_invalid"),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
def test_a_body_that_is_no_call_is_refused_and_nothing_is_sent(shop: Shop, body: bytes, status: int, code: str) -> None:
    assert is_problem(shop.post(body), status, code)
    assert shop.server.count("tools/call") == 0
    assert not Call.objects.exists()


@pytest.mark.parametrize("number", ["1", "12345678901234567890123"])
def test_half_a_character_is_named_as_what_is_wrong(shop: Shop, number: str) -> None:
    answer = shop.post(rb'{"arguments": {"text": "\ud83d", "n": %b}}' % number.encode())
    assert is_problem(answer, 400, "malformed")
    assert "half a character" in answer.json()["detail"]
    whole = shop.post(rb'{"arguments": {"text": "\ud83d\ude00 \\ud83d"}}')
    assert whole.json()["content"] == [{"type": "text", "text": "\U0001f600 \\ud83d"}]


def test_a_fault_is_named_by_a_json_pointer(shop: Shop) -> None:
    answer = shop.post(b'{"a/b~c": 1}')
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/a~1b~0c"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_a_body_of_another_type_is_refused(shop: Shop, kind: str) -> None:
    assert is_problem(shop.post(b'{"arguments": {"text": "x"}}', content_type=kind), 415, "unsupported_media_type")


def test_a_body_may_name_its_charset(shop: Shop) -> None:
    answer = shop.post('{"arguments": {"text": "ü"}}'.encode(), content_type="application/json; charset=utf-8")
    assert answer.json()["content"] == [{"type": "text", "text": "ü"}]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_five_megabytes_is_refused(shop: Shop, chunked: bool) -> None:
    body = json.dumps({"arguments": {"text": "x" * (5 * MEGABYTE)}}).encode()
    answer = shop.post((body[i : i + MEGABYTE] for i in range(0, len(body), MEGABYTE)) if chunked else body)  # type: ignore[arg-type]
    assert is_problem(answer, 413, "too_large")
    assert not Call.objects.exists()


def test_arguments_of_megabytes_arrive_unchanged(shop: Shop) -> None:
    shop.set(max_answer=10_000_000)
    words = "x" * (3 * MEGABYTE)
    answer = shop.call("echo", {"text": words})
    (link,) = answer.json()["content"]
    assert (answer.status_code, link["size"]) == (200, len(words))
    assert shop.api.get(f"/v1/calls/{answer.json()['id']}/contents/1").text == words


def test_arguments_that_are_too_large_for_the_server_fail_there_and_change_nothing_else(shop: Shop) -> None:
    answer = shop.call("echo", {"text": "x" * (5 * MEGABYTE - 100)})  # the SDK takes 4 MB
    assert is_problem(answer, 502, "upstream_unexpected_status")
    assert (shop.row.state, shop.row.error_code) == ("failed", "upstream_unexpected_status")
    assert shop.call("echo", {"text": "x"}).status_code == 200


@pytest.mark.parametrize("text", ["\x00", "\u2028\u2029", "\x7f\x1b[0m", "\ufeff", "🎈" * 1000, ""])
def test_any_text_arrives_unchanged(shop: Shop, text: str) -> None:
    answer = shop.call("echo", {"text": text})
    assert (answer.status_code, answer.json()["content"]) == (200, [{"type": "text", "text": text}])
    assert shop.row.arguments() == {"text": text}


@pytest.mark.parametrize("levels", [100, 240, 260, 400])
def test_arguments_nested_deeply_are_sent_whole_or_refused(open_shop: OpenShop, levels: int) -> None:
    box = furnished()
    box.add("any", input_schema={"type": "object"})
    shop = open_shop(box)
    answer = shop.post(b'{"arguments":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}", "any")
    assert (answer.status_code, shop.server.executions("any")) == ((200, 1) if levels < 250 else (422, 0)), answer.text
    assert Call.objects.count() == shop.server.executions("any")


@pytest.mark.parametrize(
    "number", [b"9007199254740993", b"18446744073709551616", b"-0.0", b"1e400", b"123456789012345678901"]
)
def test_unusual_numbers_are_never_our_fault(open_shop: OpenShop, number: bytes) -> None:
    box = furnished()
    box.add("any", input_schema={"type": "object"})
    shop = open_shop(box)
    assert shop.post(b'{"arguments": {"n": ' + number + b"}}", "any").status_code in {200, 400, 422}


# --- addresses ------------------------------------------------------------------------------------------------------


NAMES = [
    "orders__no",
    "%C3%BC%F0%9F%8E%88",
    "%ED%A0%80",
    "%FF",
    "x" * 5000,
    "%00",
    "orders__echo%00",
    "%20",
    "%27%3B--",
]


@pytest.mark.parametrize("name", [*NAMES, "orders__echo%2F", "a%2Fb", "orders__echo%0A"])
def test_an_odd_name_is_a_tool_that_does_not_exist(shop: Shop, name: str) -> None:
    answer = shop.api.call(name, {"text": "x"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), answer.text
    assert shop.api.get(f"/v1/tools/{name}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_calls_are_made_with_post_only(shop: Shop, method: str) -> None:
    answer = shop.api.request(method, "/v1/tools/orders__echo/call")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method == "HEAD":
        assert answer.content == b""


@pytest.mark.parametrize(
    "prefer",
    [
        "wait=-1",
        "wait=abc",
        "wait=5abc",
        "wait=1e9",
        'wait="5',
        "wait=99999999999",
        "handling=strict",
        ",;=,",
        "\u00ff",
    ],
)
def test_a_preference_that_makes_no_sense_is_ignored(shop: Shop, prefer: str) -> None:
    answer = shop.call("echo", {"text": "x"}, headers={"Prefer": prefer.encode("latin-1")})
    assert answer.status_code == 200, answer.text
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait=5", 'wait="5"', "Wait = 5", "wait=5; more", "handling=strict, wait=5"])
def test_a_wait_is_understood_in_each_way_of_writing_it(shop: Shop, prefer: str) -> None:
    answer = shop.call("echo", {"text": "x"}, headers={"Prefer": prefer})
    assert answer.headers["preference-applied"] == "wait=5"


def test_what_is_known_of_a_caller_is_looked_up_once_per_second() -> None:
    assert callers.principals._values.ttl == offers.RECENT == FRESH


def half_a_body(shop: Shop) -> socket.socket:
    """A request whose body is promised and does not come: what has come is no request."""
    host, port = shop.api.base.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /v1/tools/orders__picture/call HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 20\r\n"
    client.sendall(f"{head}Authorization: Bearer {shop.api.token}\r\nContent-Type: application/json\r\n\r\n".encode())
    return client


def test_a_body_that_breaks_off_is_no_call(shop: Shop) -> None:
    half_a_body(shop).close()
    assert shop.call("picture").status_code == 200  # whatever came of the other is known by now
    assert Call.objects.count() == shop.server.executions("picture") == 1


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duvo.bodies.SECONDS", 0.2)
    client = half_a_body(shop)
    assert b"408" in client.recv(4096)
    client.close()
