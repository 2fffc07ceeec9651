"""Numbers that no 64 bits and no float hold reach the server and come back as they were written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.field.answers import raw
from tests.servers.running import Incoming
from tests.servers.toolbox import Toolbox, text
from tests.tools.conftest import OpenShop, Shop
from tools import offload_jobs
from tools.models import Call
from tools.payloads import exact

TAKES = {"type": "object", "properties": {"n": {"type": ["number", "object"]}, "words": {"type": "string"}}}
LONG = "a," * 40_000  # it is read in a separate process
NUMBERS = [
    "12345678901234567890123",
    "-12345678901234567890123",
    "18446744073709551616",
    "-9223372036854775809",
    "0.12345678901234567890",
    "123456789012345678.9",
    "1E-400",
    "3.14159265358979323846e+10",
]
HELD = [
    "0",
    "-0",
    "18446744073709551615",
    "-9223372036854775808",
    "0.1",
    "1.10",
    "1e5",
    "0.30000000000000004",
    "5e-324",
]


@pytest.fixture
def counter(open_shop: OpenShop) -> Shop:
    """A shop whose tool takes numbers."""
    box = Toolbox()

    async def count(*_: Any) -> dict[str, Any]:
        return text("counted")

    box.add("count", count, input_schema=TAKES)
    return open_shop(box)


def sent(shop: Shop) -> bytes:
    """The body of the newest call."""
    calls: list[Incoming] = [request for request in shop.server.requests if request.rpc_method == "tools/call"]
    return calls[-1].body


@pytest.mark.parametrize("words", ["few", LONG])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_reaches_the_server_and_comes_back_as_written(counter: Shop, number: str, words: str) -> None:
    members = f'"content":"{words}","structuredContent":{{"n":[{number}]}},"_meta":{{"m":{number}}}'
    counter.answers(raw('{"jsonrpc":"2.0","id":ID,"result":{' + members + "}}"))
    answer = counter.post(b'{"arguments":{"n":%b,"words":"%b"}}' % (number.encode(), words.encode()), tool="count")
    assert answer.status_code == 200, answer.text
    assert b'"n":%b,' % number.encode() in sent(counter)
    for body in (answer.content, counter.api.get(f"/v1/calls/{answer.json()['id']}").content):
        assert b'"structured_content":{"n":[%b]}' % number.encode() in body
        assert b'"_meta":{"m":%b}' % number.encode() in body


def test_a_queued_call_keeps_the_number_as_written(counter: Shop) -> None:
    answer = counter.post(b'{"arguments":{"n":%b}}' % NUMBERS[0].encode(), tool="count", Prefer="respond-async")
    assert answer.status_code == 202
    arguments = Call.objects.get().arguments_to_send()
    assert getattr(arguments, "json", b"") == b'{"n":%b}' % NUMBERS[0].encode()


def test_two_numbers_that_a_float_takes_for_one_are_two_requests(counter: Shop) -> None:
    codes = [
        counter.post(
            b'{"arguments":{"n":1234567890123456789012%d}}' % last, tool="count", Idempotency_Key="k"
        ).status_code
        for last in (3, 3, 4)
    ]
    assert codes == [200, 200, 422]


@pytest.mark.parametrize("number", ["1e", "01", "1.", "--1", "+1", "NaN", "0x10"])
def test_what_is_no_number_stays_refused(counter: Shop, number: str) -> None:
    answer = counter.post(b'{"arguments":{"n":%b,"words":"12345678901234567890123"}}' % number.encode(), tool="count")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_number_beyond_all_floats_is_refused_with_a_pointer(counter: Shop) -> None:
    answer = counter.post(b'{"arguments":{"words":"x","n":{"a":[1,1e400]}}}', tool="count")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/arguments/n/a/1")


def test_a_result_beyond_all_floats_comes_as_written(counter: Shop) -> None:
    counter.answers(raw('{"jsonrpc":"2.0","id":ID,"result":{"structuredContent":[-1e400,NaN]}}'))
    answer = counter.post(b'{"arguments":{"n":1}}', tool="count")
    assert b'"structured_content":[-1e400,null]' in answer.content


def test_a_number_where_none_belongs_is_named(counter: Shop) -> None:
    answer = counter.post(b'{"arguments":{"words":%b}}' % NUMBERS[0].encode(), tool="count")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/arguments/words"


@pytest.mark.parametrize("number", HELD)
def test_numbers_that_are_held_cost_nothing(number: str) -> None:
    assert not exact.needed(b'{"n":%b}' % number.encode())


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_texts_are_texts(number: str) -> None:
    assert exact.needed(b'{"n":%b}' % number.encode())
    assert not exact.needed(b'{"n":"\\"%b","m":1}' % number.encode())


@given(
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
def test_exact_reading_changes_no_number(number: Any) -> None:
    written = str(number).lower().replace("e+", "e").encode()
    again = orjson.dumps(exact.loads(written))
    assert again == written or not exact.is_changed(written.decode())


def test_a_number_that_is_sent_as_a_header_is_the_same_there() -> None:
    (picked,) = offload_jobs.picked(b'{"n":12345678901234567890123,"m":5}', b'[["n"],["m"]]')
    assert orjson.loads(picked) == {"n": NUMBERS[0], "m": 5}
