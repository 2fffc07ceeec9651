"""The parts of the wire client that do no I/O, under any input."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import mcp_client
from tools.mcp_client import sse, wire


def decode(chunks: list[bytes]) -> list[sse.Event]:
    decoder = sse.Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


STREAM = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"event: x", b":c", b"\n", b"\r", b"\r\n", b"\xc3\xa4", b"id"])
)


@given(STREAM, st.lists(st.integers(0, 200)))
def test_a_stream_means_the_same_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole[start:end] for start, end in pairwise(places)]
    assert decode(parts) == decode([whole])


@given(st.lists(st.binary(min_size=1).filter(lambda data: not set(data) & {10, 13}), min_size=1))
def test_what_is_written_as_an_event_is_read_as_one(lines: list[bytes]) -> None:
    written = b"event: e\n" + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    assert decode([written]) == [sse.Event(b"e", b"\n".join(lines))]


def test_an_event_that_is_not_finished_is_none() -> None:
    assert decode([b"data: a\n"]) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_json_or_refused(body: bytes) -> None:
    with suppress(mcp_client.BadAnswer):
        orjson.dumps(wire.read_json(body))


@given(st.text(alphabet='\\u"dD8cCeE0fF9{}[]: a', max_size=40))
def test_mending_never_invents_what_was_valid(inner: str) -> None:
    body = b'"' + inner.encode() + b'"'
    try:
        expected: Any = orjson.loads(body)
    except ValueError:
        return
    assert wire.read_json(body) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (b"12", 12.0),
        (b" 0 ", 0.0),
        (b"-5", None),
        (b"soon", None),
        (b"9" * 400, 999_999_999.0),
        (b"Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("\N{FULLWIDTH DIGIT ONE}".encode(), None),
    ],
)
def test_retry_after_is_read_as_seconds(value: bytes | None, seconds: float | None) -> None:
    assert wire.retry_after(value, 100.0) == seconds


def test_every_error_has_its_own_code_and_a_sentence() -> None:
    tree: list[type[mcp_client.McpError]] = [mcp_client.McpError]
    for kind in tree:
        tree.extend(kind.__subclasses__())
    assert len({kind.code for kind in tree}) == len(tree)
    assert all((kind.__doc__ or "").endswith(".") for kind in tree)


def test_equal_servers_share_one_route() -> None:
    one, other = (mcp_client.Server(key="k", url="https://mcp.example:8443/mcp") for _ in range(2))
    assert wire.route_to(one) is wire.route_to(other)
    assert (b"Host", b"mcp.example:8443") in wire.route_to(one).headers
