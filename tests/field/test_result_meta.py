"""What a server says about its result, and all of its challenges, come through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oauth.protocol import challenges
from tests.servers.field.answers import raw
from tests.servers.kinds import only_on, says
from tests.servers.running import Incoming, McpServer, Receive, Rule, Send
from tests.tools.conftest import OpenShop, Shop
from tools.mcp_client.refusals import combined
from tools.payloads.tool_results import LEFT_OUT, NOT_FINITE, NOTES

LONG = "a," * 40_000  # it is read in a separate process


def meta_after(shop: Shop, *answers: Rule) -> Any:
    shop.answers(*answers)
    body = shop.call("echo", {"text": "x"}).json()
    again = shop.api.get(f"/v1/calls/{body['id']}").json()
    assert again.get("_meta") == body.get("_meta")
    return body.get("_meta")


@pytest.mark.parametrize("text", ["short", LONG])
@pytest.mark.parametrize(
    ("sent", "meta"),
    [
        ({"cost": 3, "a/b": [1]}, {"cost": 3, "a/b": [1]}),
        ({}, None),
        (None, None),
        ([], None),
        ("text", None),
        ({"duvo/notes": ["All is well."]}, None),
    ],
)
def test_the_meta_of_a_result_is_passed_on(shop: Shop, sent: Any, meta: Any, text: str) -> None:
    assert meta_after(shop, says(result={"content": text, "_meta": sent})) == meta


@pytest.mark.parametrize("text", ["short", LONG])
def test_numbers_that_json_cannot_hold_are_null_with_a_note(shop: Shop, text: str) -> None:
    answer = '{"jsonrpc":"2.0","id":ID,"result":{"content":"%s","structuredContent":{"a":NaN},"_meta":{"b":1}}}'
    assert meta_after(shop, raw(answer.replace("%s", text))) == {"b": 1, NOTES: [NOT_FINITE]}
    assert shop.call("echo", {"text": "x"}).json()["structured_content"] == {"a": None}


@pytest.mark.parametrize("text", ["short", LONG])
@pytest.mark.parametrize(
    ("result", "meta"),
    [
        ({"toolResult": {"content": "%s", "_meta": {"a": 1}}}, {"a": 1}),
        ({"toolResult": {"content": "%s", "_meta": {"a": 1}}, "_meta": {"a": 2, "b": 3}}, {"a": 2, "b": 3}),
        ({"toolResult": {"content": "%s", "_meta": None}, "_meta": {"b": 3}}, {"b": 3}),
        ({"content": "%s", "meta": {"a": 1}}, {"a": 1}),
        ({"content": "%s", "meta": {"a": 1}, "_meta": {"b": 2}}, {"b": 2}),
        ({"output": "%s", "meta": {"a": 1}}, None),  # the tool's own data
        ({"content": "%s", "rows": [1], "next": "p2"}, {NOTES: [LEFT_OUT.format("next, rows")]}),
        ({"structuredContent": {"a": "%s"}, "next": "p2"}, {NOTES: [LEFT_OUT.format("next")]}),
        ({"content": "%s", "ttlMs": 5, "resultType": "complete"}, None),
    ],
)
def test_the_meta_of_old_servers_and_what_is_left_out_are_told(shop: Shop, result: Any, meta: Any, text: str) -> None:
    written = json.loads(json.dumps(result).replace("%s", text))
    assert meta_after(shop, says(result=written)) == meta


def test_a_meta_that_is_too_large_is_a_link(shop: Shop) -> None:
    meta = meta_after(shop, says(result={"content": "x", "_meta": {"much": "x" * 200_000}}))
    assert meta["duvo/link"]["size"] > 200_000


def test_a_meta_of_the_handshake_era_is_passed_on(open_shop: OpenShop) -> None:
    shop = open_shop(kind="legacy")
    shop.server.rules.append(only_on("tools/call", says(result={"content": [], "_meta": {"cost": 3}})))
    assert shop.call("echo", {"text": "x"}).json()["_meta"] == {"cost": 3}


def challenged(status: int, *lines: str) -> Rule:
    async def rule(_: McpServer, __: Incoming, ___: Receive, send: Send) -> bool:
        headers = [(b"www-authenticate", line.encode()) for line in lines]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return True

    return rule


LINES = [
    ('Basic realm="a"', 'Bearer error="insufficient_scope", scope="write"'),
    ('Bearer error="insufficient_scope", scope="write"', 'Basic realm="a"'),
    ('Bearer realm="a"', 'Bearer error="insufficient_scope", scope="write"'),
    ("Bearer", 'bearer error="insufficient_scope", scope="write"'),
    ('DPoP algs="ES256"', 'Bearer error="insufficient_scope"', 'Bearer scope="write"'),
]


@pytest.mark.parametrize("lines", LINES)
def test_all_lines_of_a_challenge_are_read_on_a_403(shop: Shop, lines: tuple[str, ...]) -> None:
    shop.answers(challenged(403, *lines))
    problem = shop.call("echo", {"text": "x"}).json()
    assert (problem["code"], "“write”" in problem["detail"]) == ("insufficient_scope", True)


@pytest.mark.parametrize("lines", LINES)
def test_all_lines_are_one_challenge(lines: tuple[str, ...]) -> None:
    headers = combined([(b"WWW-Authenticate", line.encode()) for line in lines])
    assert challenges.parse(headers[b"www-authenticate"].decode())["scope"] == "write"


def test_other_headers_are_not_put_together() -> None:
    assert combined([(b"Content-Type", b"a"), (b"content-type", b"b")]) == {b"content-type": b"b"}
