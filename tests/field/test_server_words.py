"""A server's own message reaches who called: capped, marked as the server's, and without any secret that we sent."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.utils import timezone

from connections.models import Connection
from connections.words import words_in
from tests.conftest import House
from tests.servers.field.answers import raw, stream
from tests.servers.kinds import RULES, answers, only_on, says
from tests.servers.running import Rule
from tests.tools.conftest import OpenShop, Shop
from tools.mcp_client import Server
from tools.mcp_client.quoting import LEFT_OUT, MOST, quoted

GRAZ = "Invalid params: 'text' must name a city, e.g. Graz"

CITY = "'text' must name a city"
REFUSAL = {"error": {"code": -32602, "message": GRAZ}}
FIELDS = {"detail": [{"loc": ["a"], "msg": "field required"}]}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


SAID: dict[str, tuple[Rule, str, str]] = {
    "a JSON-RPC error": (says(error={"code": -32602, "message": GRAZ}), "upstream_rpc_error", GRAZ),
    "its code as text": (says(error={"code": "-32602", "message": GRAZ}), "upstream_rpc_error", GRAZ),
    "no code": (says(error={"message": GRAZ}), "upstream_rpc_error", GRAZ),
    "an error of text": (says(error=GRAZ), "upstream_rpc_error", GRAZ),
    "in a 400": (
        raw('{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"%s"}}' % GRAZ, status=400),  # noqa: UP031
        "upstream_rpc_error", GRAZ,
    ),
    "a 400 without an id": (answers(400, body(REFUSAL)), "upstream_unexpected_status", GRAZ),
    "a 402": (answers(402, body({"message": "No plan."})), "upstream_unexpected_status", "No plan."),
    "a 404": (answers(404, body({"message": "No city."})), "upstream_unexpected_status", "No city."),
    "a 409": (answers(409, body({"message": "Taken."})), "upstream_unexpected_status", "Taken."),
    "a 422 with details": (answers(422, body(FIELDS)), "upstream_unexpected_status", "a: field required"),
    "a 451": (answers(451, b"By law.", content_type="text/plain"), "upstream_unexpected_status", "By law."),
    "a 500": (answers(500, body({"error": "Out of cities."})), "upstream_server_failed", "Out of cities."),
    "a 503 in text": (answers(503, b"Noon.\r\n", content_type="text/plain; a=b"), "upstream_server_failed", "Noon."),
    "a 502 of a proxy": (answers(502, body({"title": "No backend"})), "outcome_unknown", "No backend"),
    "a 400 as a page without marks": (
        answers(400, b"X-Tenant-Id header is required", content_type="text/html; charset=utf-8"),
        "upstream_unexpected_status", "X-Tenant-Id header is required",
    ),
    "a 500 as a page without marks": (
        answers(500, b"Out of cities", content_type="text/html"), "upstream_server_failed", "Out of cities",
    ),
    "a 500 without a type": (answers(500, b"No cities", content_type=""), "upstream_server_failed", "No cities"),
    "JSON without a type": (answers(500, b'{"message":"Out"}', content_type=""), "upstream_server_failed", "Out"),
    "in a 400 as a stream": (
        raw(f'event: message\ndata: {{"jsonrpc":"2.0","id":ID,"error":{{"code":-32602,"message":"{CITY}"}}}}\n\n',
            kind="text/event-stream", status=400),
        "upstream_rpc_error", CITY,
    ),
    "in a 500 as a stream": (
        raw('data: {"message":"Out of cities"}\n\n', kind="text/event-stream", status=500),
        "upstream_server_failed", "Out of cities",
    ),
    "data of text": (says(error={"code": -32602, "message": "", "data": CITY}), "upstream_rpc_error", CITY),
    "a message and data of text": (
        says(error={"code": -32602, "message": "Invalid params", "data": CITY}),
        "upstream_rpc_error", f"Invalid params: {CITY}",
    ),
    "a detail in data": (
        says(error={"code": -32602, "message": "Invalid params:", "data": {"detail": CITY, "at": 5}}),
        "upstream_rpc_error", f"Invalid params: {CITY}",
    ),
    "a list in data": (
        says(error={"code": 1, "message": "Bad", "data": [{"loc": ["body", "city"], "msg": "Field required"}]}),
        "upstream_rpc_error", "Bad: body.city: Field required",
    ),
    "errors in data": (
        says(error={"code": 1, "message": "Bad", "data": {"errors": {"city": ["is empty", "is no town"]}}}),
        "upstream_rpc_error", "Bad: city: is empty; is no town",
    ),
    "a cause in data": (says(error={"code": 1, "data": {"cause": CITY}}), "upstream_rpc_error", CITY),
    "an error in data": (says(error={"code": 1, "data": {"error": {"message": CITY}}}), "upstream_rpc_error", CITY),
    "a code that no integer holds": (
        raw('{"jsonrpc":"2.0","id":ID,"error":{"code":99999999999999999999999,"message":"No city."}}'),
        "upstream_rpc_error", "No city.",
    ),
    "a code of text that is too long": (
        says(error={"code": "99999999999999999999999", "message": "No city."}), "upstream_rpc_error", "No city.",
    ),
    **{f"the id {id_!r}": (says(id=id_, error={"code": -32000, "message": CITY}), "upstream_rpc_error", CITY)
       for id_ in ("", 0, -1, None, "server-error", 123456789, True, [1], {"a": 1})},
    "another's id in a stream": (
        stream(f'data: {{"jsonrpc":"2.0","id":"x","error":{{"code":1,"message":"{CITY}"}}}}\n\n'),
        "upstream_rpc_error", CITY,
    ),
    "another's id in a list": (
        raw(f'[{{"jsonrpc":"2.0","id":0,"error":{{"code":1,"message":"{CITY}"}}}}]'), "upstream_rpc_error", CITY,
    ),
    "Spring's": (
        answers(400, body({"timestamp": "12:00", "status": 400, "error": "Bad Request", "message": CITY, "path": "/"})),
        "upstream_unexpected_status", CITY,
    ),
    "NestJS's": (
        answers(400, body({"statusCode": 400, "message": [CITY, "no"], "error": "Bad Request"})),
        "upstream_unexpected_status", f"{CITY}; no",
    ),
    "hapi's": (
        answers(403, body({"statusCode": 403, "error": "Forbidden", "message": "Plan has no MCP"})),
        "upstream_forbidden", "Plan has no MCP",
    ),
    "a status as the message": (
        answers(400, body({"message": "Bad Request", "errors": [{"message": CITY}]})),
        "upstream_unexpected_status", CITY,
    ),
    "nothing but a status": (
        answers(400, body({"status": 400, "error": "Bad Request"})), "upstream_unexpected_status", "Bad Request",
    ),
    "words beside a JSON-RPC error without any": (
        answers(400, body({"error": {"code": 400, "type": "x"}, "message": CITY})), "upstream_unexpected_status", CITY,
    ),
    "an event of an error": (
        stream('event: error\ndata: {"message":"No city"}\n\n'), "answer_unusable", "No city",
    ),
    "an event of an error in text": (stream("event: error\ndata: No city\n\n"), "answer_unusable", "No city"),
    "an event of an error after others": (
        stream(": hi\n\n", 'data: {"type":"heartbeat"}\n\n', 'event: ERROR\ndata: {"error":{"detail":"No city"}}\n\n'),
        "upstream_rpc_error", "No city",
    ),
    "a message in data": (says(error={"code": 1, "data": {"message": CITY}}), "upstream_rpc_error", CITY),
    "data that repeats": (
        says(error={"code": 1, "message": f"MCP: {CITY}", "data": CITY}), "upstream_rpc_error", f"MCP: {CITY}",
    ),
    "a tool's own failure in a 400": (
        answers(400, b'{"id":1,"result":{"isError":true,"content":[{"type":"text","text":"No city"}]}}'),
        "upstream_unexpected_status", "No city",
    ),
    "a tool's own failure in a 500": (
        answers(500, b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":"No city"}}'),
        "upstream_server_failed", "No city",
    ),
    "a framework's words in a 200": (answers(200, body({"message": CITY})), "answer_unusable", CITY),
    "a description alone": (says(error={"code": 1, "description": CITY}), "upstream_rpc_error", CITY),
    "a 429": (answers(429, body({"errors": [{"message": "Ten a day."}]})), "upstream_rate_limited", "Ten a day."),
    "a 403": (answers(403, body({"error_description": "Not on Sundays."})), "upstream_forbidden", "Not on Sundays."),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "code", "words"), SAID.values(), ids=SAID.keys())
def test_the_servers_words_reach_the_caller(shop: Shop, answer: Rule, code: str, words: str) -> None:
    shop.answers(answer)
    problem = shop.call("echo", {"text": "x"}).json()
    assert (problem["code"], problem.get("server_message")) == (code, words), problem
    assert words not in problem["detail"]
    again = shop.api.get(f"/v1/calls/{problem['call']}").json()
    assert again["error"] == {"code": code, "detail": problem["detail"], "server_message": words}
    assert (again["content"], shop.row.error_code) == (None, code)
    assert words not in shop.row.error_sentence + shop.row.sealed_result


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("status", [400, 402, 404, 409, 422, 451])
def test_a_refused_call_is_not_taken_for_another_era(open_shop: OpenShop, era: str, status: int) -> None:
    shop = open_shop(kind=era)
    assert shop.call("echo", {"text": "before"}).status_code == 200
    shop.server.behave(only_on("tools/call", answers(status, body({"message": "No."}))), *RULES[era])
    problem = shop.call("echo", {"text": "x"}).json()
    assert (problem["code"], problem["server_message"]) == ("upstream_unexpected_status", "No."), problem
    assert f"HTTP {status}" in problem["detail"]
    assert not Connection.objects.due(timezone.now()).exists(), "a check would find out nothing"


SILENT: dict[str, Rule] = {
    "a page without a type": answers(500, b"<p>detail", content_type=""),
    "a page in words": answers(500, b"detail <br> detail", content_type="text/html"),
    "a picture": answers(500, b"detail", content_type="image/png"),
    "a broken stream": answers(500, b"data: detail\n\n", content_type="text/event-stream"),
    "a page": answers(500, b"<html>detail</html>", content_type="text/html"),
    "broken JSON": answers(500, b"detail"),
    "an empty object": answers(500, b"{}"),
    "too much": answers(500, body({"message": "detail" * 20_000})),
    "nothing": answers(500),
}


@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT.keys())
def test_what_is_no_message_is_not_quoted(shop: Shop, answer: Rule) -> None:
    shop.answers(answer)
    problem = shop.call("echo", {"text": "x"}).json()
    assert problem["code"] == "upstream_server_failed"
    assert "server_message" not in problem
    assert "detail" not in str({key: problem[key] for key in problem if key != "detail"})


def test_a_rival_reads_nothing_of_it(shop: Shop, rival: House) -> None:
    shop.answers(says(error={"code": -32602, "message": GRAZ}))
    call = shop.call("echo", {"text": "x"}).json()["call"]
    stranger = shop.api.as_(rival.token(rival.assignment()))
    assert GRAZ not in stranger.get(f"/v1/calls/{call}").text


@pytest.mark.parametrize(
    "rule",
    [
        says(error={"code": 1, "message": "no", "data": "Bearer abcdef1234567890 is not known"}),
        answers(400, b"Bearer abcdef1234567890 is not known", content_type="text/html"),
        answers(500, b"Bearer abcdef1234567890 is not known", content_type=""),
    ],
)
def test_no_way_to_say_it_brings_a_secret_back(shop: Shop, rule: Rule) -> None:
    shop.answers(rule)
    said = shop.call("echo", {"text": "x"}).json()["server_message"]
    assert said.endswith(f"{LEFT_OUT} is not known")


def test_a_secret_that_the_server_repeats_is_left_out(shop: Shop) -> None:
    shop.answers(says(error={"code": -32602, "message": "Bearer abcdef1234567890 is not known"}))
    said = shop.call("echo", {"text": "x"}).json()["server_message"]
    assert said == f"{LEFT_OUT} is not known"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Bearer tok_of_acme", "the token tok_of_acme is bad"),
        ("key-of-acme", "KEY-OF-ACME?"),
        ("Basic dXNlcjpvcGVuIHNlc2FtZQ==", "password open sesame for user"),
        ("Basic dXNlcjpvcGVuIHNlc2FtZQ==", "open%20sesame"),
        ("x y", "?key=in-the-query"),
        ("x y", "at /0123456789abcdef0123/mcp"),
        ("x y", "a token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln of another"),
        ("x y", "sk-proj-0123456789abcdef"),
    ],
)
def test_no_secret_is_quoted(header: str, words: str) -> None:
    url = "https://mcp.example/0123456789abcdef0123/mcp?key=in-the-query"
    said = quoted(words, Server(key="k", url=url, headers=(("Authorization", header),)))
    assert LEFT_OUT in said
    for secret in ("tok_of_acme", "key-of-acme", "sesame", "in-the-query", "0123456789abcdef", "eyJ"):
        assert secret not in said.lower()


def test_words_are_capped_and_have_nothing_unseen() -> None:
    server = Server(key="k", url="https://mcp.example/mcp")
    assert len(quoted("x" * 1_000_000, server)) == MOST
    assert quoted("a\0b\u202ec\ud83d\x1b[1m", server) == "a b c  [1m"


@pytest.mark.parametrize(
    ("value", "words"),
    [(5, ""), ([], ""), ({"error": {}}, ""), ({"error": {"message": 5}}, ""), ([["a"]], ""), (["a"], "a")],
)
def test_only_text_is_a_message(value: object, words: str) -> None:
    assert words_in(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"__type": "ValidationException", "Message": "No city"}, "No city"),
        ({"error": {"code": "", "message": {"lang": "en", "value": "No city"}}}, "No city"),
        ({"errorMessages": [], "errors": {"city": "is empty"}}, "city: is empty"),
        ({"errorMessages": ["No city"], "errors": {}}, "No city"),
        ({"errors": {"city": ["is empty"], "unit": ["is odd"]}}, "city: is empty; unit: is odd"),
        ({"message": "The city is empty.", "errors": {"city": ["The city is empty."]}}, "The city is empty."),
        (
            {"title": "Invalid.", "status": 400, "errors": {"City": ["The City is empty."]}},
            "Invalid.: The City is empty.",
        ),
        ({"fault": {"faultstring": "No key", "detail": {"errorcode": "x.y"}}}, "No key"),
        (
            {"detail": [{"type": "missing", "loc": ["body", "a", 0], "msg": "Field required", "input": {"b": "c"}}]},
            "body.a.0: Field required",
        ),
        ({"detail": [{"loc": ["a"], "msg": "is odd"}, {"loc": ["b"], "msg": "is empty"}]}, "a: is odd; b: is empty"),
        ({"issues": [{"code": "invalid_type", "path": ["city"], "message": "Required"}]}, "city: Required"),
        ({"errors": [{"type": "field", "value": "", "msg": "Invalid value", "path": "city"}]}, "city: Invalid value"),
        ({"errors": [{"detail": "is empty", "source": {"pointer": "/data/city"}}]}, "is empty"),
        ({"title": "Invalid", "errors": [{"pointer": "#/city", "detail": "is empty"}]}, "Invalid: city: is empty"),
        (
            {"error": {"message": "Bad", "details": [{"field": "city", "description": "is empty"}]}},
            "Bad: city: is empty",
        ),
        ({"message": "Failed", "details": "No city"}, "Failed: No city"),
        (
            {"message": [{"property": "city", "constraints": {"isString": "city must be a string"}}]},
            "isString: city must be a string",
        ),
        ({"error": "unauthorized", "message": "API key expired"}, "API key expired"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"errors": [{}] * 50 + [{"msg": "x"}]}, ""),
        ({"errcode": 40001, "errmsg": "No city"}, "No city"),
        ({"err": "No city"}, "No city"),
        ({"Message": "An error has occurred.", "ExceptionMessage": "No city", "ExceptionType": "X"}, "No city"),
        ({"developerMessage": "No city"}, "No city"),
        ({"userMessage": "No city", "developerMessage": "city is empty"}, "No city"),
        ({"response": {"message": "No city"}}, "No city"),
        (
            {"message": "Invalid", "validationErrors": [{"path": "city", "message": "missing"}]},
            "Invalid: city: missing",
        ),
        ({"status": "error", "statusCode": 5}, ""),
    ],
)
def test_words_are_found_where_servers_put_them(value: object, words: str) -> None:
    assert words_in(value) == words


def test_words_are_not_looked_for_without_end() -> None:
    value: dict[str, Any] = {}
    for _ in range(150):
        value = {"errors": value, "error": [value] * 10, "details": {"a": value, "b": value}}
    began = time.thread_time()
    assert words_in(value) == ""
    assert words_in({"errors": {f"field {number}": {} for number in range(100_000)}}) == ""
    assert time.thread_time() - began < 0.2


def test_a_code_that_was_changed_in_reading_is_not_told(shop: Shop) -> None:
    shop.answers(raw('{"jsonrpc":"2.0","id":ID,"error":{"code":99999999999999999999999,"message":"x"}}'))
    assert "(code" not in shop.call("echo", {"text": "x"}).json()["detail"]
