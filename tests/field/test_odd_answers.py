"""An odd answer is not a broken connection: what has one meaning is read, and the rest is told with its reason."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.servers.field.answers import raw, result, stream
from tests.servers.kinds import only_on
from tests.servers.running import Rule
from tests.tools.conftest import OpenShop, Shop

ANSWER = '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"Hello"}]}}'
TEXT = [{"type": "text", "text": "Hello"}]
LONG = "a," * 40_000  # it is read in a separate process
LONG_ANSWER = ANSWER.replace("Hello", LONG)
FFFD = "H\ufffdllo"
SSE = f"event: message\ndata: {ANSWER}\n\n"
RAN = "The tool has run: check what it did before you try again."


def with_result(members: str) -> Rule:
    return raw('{"jsonrpc":"2.0","id":ID,"result":{' + members + "}}")


READ: dict[str, tuple[Rule, list[Any]]] = {
    "the id as text": (raw(ANSWER.replace("ID", '"ID"')), TEXT),
    "the id as a decimal": (raw(ANSWER.replace("ID", "ID.0")), TEXT),
    "the id as text of a decimal": (raw(ANSWER.replace("ID", '"ID.0"')), TEXT),
    "a list of one": (raw(f"[{ANSWER}]"), TEXT),
    "a list with a notification": (raw(f'[{{"jsonrpc":"2.0","method":"notifications/message"}},{ANSWER}]'), TEXT),
    "a large list of one": (raw(f"[{LONG_ANSWER}]"), [{"type": "text", "text": LONG}]),
    "no version": (raw(ANSWER.replace('"jsonrpc":"2.0",', "")), TEXT),
    "the version as a number": (raw(ANSWER.replace('"2.0"', "2.0")), TEXT),
    "an error of null": (raw(ANSWER.replace('"result"', '"error":null,"result"')), TEXT),
    "no content": (with_result('"isError":false'), []),
    "content null": (with_result('"content":null'), []),
    "content as text": (with_result('"content":"Hello"'), TEXT),
    "content as much text": (with_result(f'"content":"{LONG}"'), [{"type": "text", "text": LONG}]),
    "one block": (with_result('"content":{"type":"text","text":"Hello"}'), TEXT),
    "one block without a type": (with_result('"content":{"text":"Hello"}'), TEXT),
    "a list of texts": (with_result('"content":["Hello",null]'), TEXT),
    "the result is text": (raw('{"jsonrpc":"2.0","id":ID,"result":"Hello"}'), TEXT),
    "the result is a list": (raw('{"jsonrpc":"2.0","id":ID,"result":[{"type":"text","text":"Hello"}]}'), TEXT),
    "toolResult as text": (with_result('"toolResult":"Hello"'), TEXT),
    "toolResult with content": (with_result('"toolResult":{"content":"Hello"}'), TEXT),
    "toolResult as an object": (with_result('"toolResult":{"a":1}'), [{"type": "text", "text": '{"a":1}'}]),
    "members and no content": (with_result('"temperature":20'), [{"type": "text", "text": '{"temperature":20}'}]),
    "members beside the envelope's": (
        with_result('"isError":false,"resultType":"complete","_meta":{"a":1},"output":"x"'),
        [{"type": "text", "text": '{"output":"x"}'}],
    ),
    "members and content null": (with_result('"content":null,"a":[1]'), [{"type": "text", "text": '{"a":[1]}'}]),
    "much and no content": (with_result(f'"out":"{LONG}"'), [{"type": "text", "text": f'{{"out":"{LONG}"}}'}]),
    "members beside no blocks": (with_result('"content":[],"rows":[1]'), [{"type": "text", "text": '{"rows":[1]}'}]),
    "an SDK's own names": (
        with_result('"content":["Hello"],"structured_content":null,"is_error":false,"meta":null'),
        TEXT,
    ),
    "an SDK's own names, of 2024": (with_result('"tool_result":{"content":"Hello","is_error":false}'), TEXT),
    "a result in a result": (
        with_result('"result":{"content":["a"]}'),
        [{"type": "text", "text": '{"result":{"content":["a"]}}'}],
    ),
    "blocks with PHP's numbers": (
        with_result('"content":{"2":"b","0":{"type":"text","text":"a"}}'),
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    ),
    "a type of null": (with_result('"content":"Hello","resultType":null'), TEXT),
    "a type in other letters": (with_result('"content":"Hello","resultType":" Complete "'), TEXT),
    "an empty error of Go": (raw(ANSWER[:-1] + ',"error":{"code":0,"message":""}}'), TEXT),
    "an empty error of C#": (raw(ANSWER[:-1] + ',"error":{"code":0,"message":null,"data":null}}'), TEXT),
    "gzip beside identity": (raw(ANSWER, coding="gzip", named="gzip, identity"), TEXT),
    "gzip after identity": (raw(ANSWER, coding="gzip", named="identity,gzip"), TEXT),
    "gzip and a comma": (raw(ANSWER, coding="gzip", named=" , GZIP,"), TEXT),
    "gzip with a weight": (raw(ANSWER, coding="gzip", named="gzip;q=1.0"), TEXT),
    "gzip in quotes": (raw(ANSWER, coding="gzip", named='"gzip"'), TEXT),
    "deflate and its chunks": (raw(ANSWER, coding="deflate", named="deflate, chunked"), TEXT),
    "only chunks": (raw(ANSWER, coding="gzip not", named="chunked"), TEXT),
    "a byte order mark": (raw("\N{BOM}" + ANSWER), TEXT),
    "NaN": (raw(ANSWER.replace('"content"', '"structuredContent":{"a":NaN,"b":[-Infinity,1]},"content"')), TEXT),
    "nan as C writes it": (raw(ANSWER.replace('"content"', '"structuredContent":[nan,-inf],"content"')), TEXT),
    "NaN in a text": (raw(ANSWER.replace("Hello", "NaN")), [{"type": "text", "text": "NaN"}]),
    "gzip": (raw(ANSWER, coding="gzip"), TEXT),
    "x-gzip": (raw(ANSWER, coding="x-gzip"), TEXT),
    "gzip in bytes": (raw(ANSWER, coding="gzip", cut=1), TEXT),
    "gzip of two members": (raw(ANSWER, coding="gzip members"), TEXT),
    "gzip of two members in bytes": (raw(ANSWER, coding="gzip members", cut=1), TEXT),
    "gzip of much": (raw(LONG_ANSWER, coding="gzip", cut=100), [{"type": "text", "text": LONG}]),
    "deflate": (raw(ANSWER, coding="deflate"), TEXT),
    "deflate without a header": (raw(ANSWER, coding="deflate raw"), TEXT),
    "gzip that is none": (raw(ANSWER, coding="gzip not"), TEXT),
    "a coding that is none": (raw(ANSWER, coding="utf-8"), TEXT),
    "another JSON type": (raw(ANSWER, kind="application/json-rpc"), TEXT),
    "text/plain": (raw(ANSWER, kind="text/plain; charset=utf-8"), TEXT),
    "JSON as a page": (raw(ANSWER, kind="text/html; charset=UTF-8"), TEXT),
    "JSON as a page, after blank lines": (raw(f"\r\n\n{ANSWER}", kind="text/html"), TEXT),
    "a stream as JSON": (raw(SSE, kind="application/json"), TEXT),
    "a stream as JSON, in bytes": (raw(f"\n: hi\n\n{SSE}", kind="application/json; charset=utf-8", cut=1), TEXT),
    "a stream as JSON, in gzip": (raw(SSE, kind="application/json", coding="gzip"), TEXT),
    "a stream of data alone as JSON": (raw(f"data:{ANSWER}\n\n", kind="application/json"), TEXT),
    "a stream with ids without a type": (raw(f"id: 1\n{SSE}", kind=""), TEXT),
    "a stream as text": (raw(SSE, kind="text/plain; charset=utf-8"), TEXT),
    "JSON as a stream": (raw(ANSWER, kind="text/event-stream"), TEXT),
    "a list as a stream": (raw(f"[{ANSWER}]", kind="text/event-stream"), TEXT),
    "JSON in lines as a stream, in bytes": (
        raw(
            json.dumps(json.loads(ANSWER.replace("ID", "1")), indent=1).replace('"id": 1', '"id": ID'),
            kind="text/event-stream",
            cut=3,
        ),
        TEXT,
    ),
    "much JSON as a stream": (raw(LONG_ANSWER, kind="text/event-stream"), [{"type": "text", "text": LONG}]),
    "bytes that are no UTF-8": (raw(ANSWER.encode().replace(b"Hello", b"H\xe9llo")), [{"type": "text", "text": FFFD}]),
    "an announced Latin-1": (
        raw(ANSWER.encode().replace(b"Hello", b"H\xe9llo"), kind="application/json; charset=iso-8859-1"),
        [{"type": "text", "text": FFFD}],
    ),
    "no UTF-8 in a stream": (
        raw(f"data: {ANSWER}\n\n".encode().replace(b"Hello", b"H\xe9llo"), kind="text/event-stream"),
        [{"type": "text", "text": FFFD}],
    ),
    "no UTF-8 in much": (
        raw(LONG_ANSWER.encode().replace(b"a,a", b"a\xe9a", 1)),
        [{"type": "text", "text": LONG.replace(",", "\ufffd", 1)}],
    ),
    "a text that is an object": (
        with_result('"content":[{"type":"text","text":{"a":1}}]'),
        [{"type": "text", "text": '{"a":1}'}],
    ),
    "a text that is a number": (with_result('"content":[{"type":"text","text":42}]'), [{"type": "text", "text": "42"}]),
    "a text that is null": (with_result('"content":{"type":"text","text":null}'), [{"type": "text", "text": ""}]),
    "another's answer first": (
        stream('data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n', f"data: {ANSWER}\n\n"),
        TEXT,
    ),
    "an error of nobody first": (
        stream('data: {"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}\n\n', f"data: {ANSWER}\n\n"),
        TEXT,
    ),
    "a list with another's answer first": (
        stream(f'data: [{{"jsonrpc":"2.0","id":"x","error":{{"code":1,"message":"x"}}}},{ANSWER}]\n\n'),
        TEXT,
    ),
    "a heartbeat first": (stream('data: {"type":"heartbeat"}\n\n', f"data: {ANSWER}\n\n"), TEXT),
    "noise first": (
        stream("data: ping\n\n", "data: 5\n\n", "data: {\n\n", "data: []\n\n", f"data: {ANSWER}\n\n"),
        TEXT,
    ),
    "another event's name": (stream(f"event: response\ndata: {ANSWER}\n\n"), TEXT),
    "no last blank line": (stream(f"data: {ANSWER}\n"), TEXT),
    "no last line end": (stream(f"data: {ANSWER}"), TEXT),
    "another's answer beside ours": (raw(f"[{ANSWER.replace('ID', '1')},{ANSWER}]"), TEXT),
    "raw line ends in a text": (raw(ANSWER.replace("Hello", "He\n\tl\rlo")), [{"type": "text", "text": "He\n\tl\rlo"}]),
    "a raw line end in much": (
        raw(LONG_ANSWER.replace("a,a", "a\na", 1)),
        [{"type": "text", "text": LONG.replace(",", "\n", 1)}],
    ),
    "a raw tab in a stream": (
        stream("data: " + ANSWER.replace("Hello", "He\tllo") + "\n\n"),
        [{"type": "text", "text": "He\tllo"}],
    ),
    "raw line ends and NaN": (
        raw(ANSWER.replace("Hello", "NaN\n").replace('"content"', '"structuredContent":{"a":NaN},"content"')),
        [{"type": "text", "text": "NaN\n"}],
    ),
    "a list in a stream": (stream(f"data: [{ANSWER}]\n\n"), TEXT),
    "a stream in gzip": (stream(": hi\n\n", f"data: {ANSWER}\n\n", coding="gzip", cut=5), TEXT),
}


@pytest.mark.parametrize(("answer", "content"), READ.values(), ids=READ.keys())
def test_what_has_one_meaning_is_read(shop: Shop, answer: Rule, content: list[Any]) -> None:
    shop.answers(answer)
    response = shop.call("echo", {"text": "x"})
    body = response.json()
    assert (response.status_code, body.get("state")) == (200, "succeeded"), body
    assert body["content"] == content


UNUSABLE: dict[str, tuple[Rule, str]] = {
    "another's id": (raw(ANSWER.replace("ID", "123456789")), "belongs to another request"),
    "the id true": (raw(ANSWER.replace("ID", "true")), "belongs to another request"),
    "the id as other text": (raw(ANSWER.replace("ID", '"xID"')), "belongs to another request"),
    "no id": (raw(ANSWER.replace('"id":ID,', "")), "has no id"),
    "two answers": (raw(f"[{ANSWER},{ANSWER}]"), "2 answers"),
    "an empty list": (raw("[]"), "a list without an answer"),
    "a number": (raw("5"), "it is a number"),
    "another version": (raw(ANSWER.replace("2.0", "3.0")), "`jsonrpc` is not 2.0"),
    "no result": (raw('{"jsonrpc":"2.0","id":ID}'), "neither `result` nor `error`"),
    "a result of null": (raw('{"jsonrpc":"2.0","id":ID,"result":null}'), "neither `result` nor `error`"),
    "a number as content": (with_result('"content":5'), "it is a number"),
    "an object that is no block": (with_result('"content":{"a":1}'), "an object that is no block"),
    "numbers as blocks": (with_result('"content":[5]'), "one of them is a number"),
    "many numbers as blocks": (with_result(f'"content":[{",".join(["5"] * 50_000)}]'), "one of them is a number"),
    "half a document": (raw(ANSWER[:-9]), "not JSON"),
    "words that are no numbers": (with_result('"content":[],"a":None'), "not JSON"),
    "brotli": (raw(ANSWER, coding="br"), "(br)"),
    "gzip twice, and named twice": (
        raw(gzip.compress(ANSWER.encode()), coding="gzip", named="gzip, gzip"),
        "(gzip, gzip)",
    ),
    "words as names": (with_result('"content":{"0":"a","b":"c"}'), "an object that is no block"),
    "numbers of PHP without blocks": (with_result('"content":{"0":5}'), "one of them is a number"),
    "a name of many digits": (with_result('"content":{"%s":"a"}' % ("9" * 5_000)), "an object that is no block"),
    "gzip in gzip": (raw(gzip.compress(ANSWER.encode()), coding="gzip"), "not JSON"),
    "gzip that is broken": (raw(ANSWER, coding="gzip broken"), "cannot be undone"),
    "half a document as a stream": (raw(ANSWER[:-9], kind="text/event-stream"), "not JSON"),
    "half an answer in a stream as JSON": (raw(f"data: {ANSWER[:-9]}\n\n", kind="application/json"), "not JSON"),
    "another's answer alone in a stream": (
        stream('data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n'),
        "belongs to another request",
    ),
    "a result with the id 0": (raw(ANSWER.replace("ID", "0")), "belongs to another request"),
    "nothing": (raw(""), "is empty"),
    "blanks": (raw("\r\n \n"), "is empty"),
    "many blanks": (raw("\n" * 9_000), "is empty"),
    "nothing without a type": (raw("", kind=""), "is empty"),
    "nothing as a page": (raw("", kind="text/html"), "is empty"),
    "nothing as a stream": (raw("", kind="text/event-stream"), "is empty"),
    "nothing in gzip": (raw("", coding="gzip"), "is empty"),
    "a 202 of nothing": (raw("", status=202), "is empty"),
    "a 204 of nothing": (raw("", status=204), "is empty"),
    "a line end in a name": (raw(ANSWER.replace('"result"', '"res\nult"')), "neither `result` nor `error`"),
    "a stream of half an answer": (stream(f"data: {ANSWER[:-9]}\n\n"), "not JSON"),
}


@pytest.mark.parametrize(("answer", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_cannot_be_used_is_told_with_its_reason(shop: Shop, answer: Rule, reason: str) -> None:
    shop.answers(answer)
    problem = shop.call("echo", {"text": "x"}).json()
    assert (problem["status"], problem["code"]) == (502, "answer_unusable"), problem
    assert reason in problem["detail"]
    assert problem["detail"].endswith(RAN)
    assert (shop.row.state, shop.row.error_code) == ("failed", "answer_unusable")
    again = shop.api.get(f"/v1/calls/{problem['call']}").json()
    assert again["error"] == {"code": "answer_unusable", "detail": problem["detail"]}


def test_a_word_of_a_tool_that_the_old_protocol_does_not_know_is_only_that(open_shop: OpenShop) -> None:
    shop = open_shop(kind="legacy")
    shop.server.rules.insert(0, only_on("tools/call", with_result('"content":"Hello","resultType":"success"')))
    assert shop.call("echo", {"text": "x"}).json()["content"] == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate raw"])
def test_a_bomb_is_refused_by_the_cap_of_what_comes_out_of_it(shop: Shop, coding: str) -> None:
    bomb = ANSWER.replace("Hello", "0" * 30_000_000)
    shop.answers(raw(bomb, coding=coding))
    problem = shop.call("echo", {"text": "x"}).json()
    assert problem["code"] == "outcome_unknown"
    assert "larger than 2 MB" in problem["detail"], problem


def test_a_stream_that_breaks_after_noise_leaves_the_outcome_open(shop: Shop) -> None:
    shop.answers(stream('data: {"type":"heartbeat"}\n\n', "data: ping\n\n"))
    problem = shop.call("echo", {"text": "x"}).json()
    assert problem["code"] == "outcome_unknown"


def test_what_members_a_result_has_instead_of_content_are_its_structure(shop: Shop) -> None:
    shop.answers(with_result('"_meta":{"a":1},"isError":false,"temperature":20.0,"wind":null'))
    body = shop.call("echo", {"text": "x"}).json()
    assert body["structured_content"] == {"temperature": 20.0, "wind": None}
    assert body["is_error"] is False


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/html"])
def test_the_cap_counts_whatever_the_framing_is_called(shop: Shop, kind: str) -> None:
    body = ANSWER.replace("Hello", "0" * 3_000_000)
    shop.answers(raw(body if kind != "application/json" else f"data: {body}\n\n", kind=kind))
    problem = shop.call("echo", {"text": "x"}).json()
    assert problem["code"] == "outcome_unknown"
    assert "larger than 2 MB" in problem["detail"], problem


PAGES: dict[str, Rule] = {
    "a page": raw("<html>Sign in</html>", kind="text/html"),
    "a script": raw("{}", kind="text/html"),
    "a page of events": raw(SSE, kind="text/html"),
    "a picture": raw("GIF89a", kind="image/gif"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_instead_of_an_answer_is_told_as_that(shop: Shop, page: Rule) -> None:
    shop.answers(page)
    problem = shop.call("echo", {"text": "x"}).json()
    assert problem["code"] == "outcome_unknown"
    assert "does not speak MCP" in problem["detail"]
    assert "broke" not in problem["detail"]


@pytest.mark.parametrize("text", ["No", LONG])
@pytest.mark.parametrize(
    ("members", "is_error", "structure"),
    [
        ('"content":"%s","is_error":true', True, None),
        ('"content":"%s","is_error":"true","structured_content":{"a":1}', True, {"a": 1}),
        ('"content":"%s","isError":false,"is_error":true', True, None),  # what says so is enough
        ('"content":"%s","isError":true,"is_error":false', True, None),
        ('"content":"%s","isError":1.0', True, None),
        ('"content":"%s","isError":null,"is_error":false,"structured_content":[1]', False, [1]),
        ('"toolResult":{"content":"%s","is_error":true,"structured_content":{"a":1}}', True, {"a": 1}),
        ('"structured_content":{"a":"%s"}', False, {"a": "%s"}),
        ('"content":[],"rows":["%s"]', False, {"rows": ["%s"]}),
    ],
)
def test_the_names_of_an_sdk_say_the_same(shop: Shop, members: str, is_error: bool, structure: Any, text: str) -> None:
    shop.answers(with_result(members.replace("%s", text)))
    body = shop.call("echo", {"text": "x"}).json()
    assert (body["is_error"], body["state"]) == (is_error, "failed" if is_error else "succeeded")
    if text != LONG or "%s" not in json.dumps(structure):  # what is large is a link
        assert body["structured_content"] == json.loads(json.dumps(structure).replace("%s", text))


@pytest.mark.parametrize(("flag", "is_error"), [('"true"', True), ("1", True), ("null", False), ('"false"', False)])
def test_a_failure_that_is_told_in_text_is_a_failure(shop: Shop, flag: str, is_error: bool) -> None:
    shop.answers(with_result(f'"content":"No","isError":{flag}'))
    body = shop.call("echo", {"text": "x"}).json()
    assert (body["is_error"], body["state"]) == (is_error, "failed" if is_error else "succeeded")


def test_the_handshake_era_reads_alike(open_shop: Any) -> None:
    shop = open_shop(kind="legacy")
    shop.server.rules.append(only_on("tools/call", result("Hello", coding="gzip")))
    assert shop.call("echo", {"text": "x"}).json()["content"] == TEXT
