"""One HTTP/1.1 exchange of the egress: what is an answer, what is refused, when a connection is used again."""

from __future__ import annotations

import asyncio
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from httpcore2 import URL
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from connections import egress
from connections.egress.wire import LARGEST_HEAD, MOST_FIELDS, Wire
from tests.connections.listeners import OK, Peer, listening, read, send

HEAD = b"HTTP/1.1 200 OK\r\n"
PATIENCE = 30.0  # seconds
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _loopback_is_open(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]


class Line(asyncio.Transport):
    """A transport that leads nowhere, and only notes whether it was cut."""

    cut = False
    left = 0  # bytes in its buffer

    def write(self, data: Any) -> None: ...

    def abort(self) -> None:
        self.cut = True

    def is_closing(self) -> bool:
        return self.cut

    def get_write_buffer_size(self) -> int:
        return self.left


def fields(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)


names = st.from_regex(rb"x-[-a-z0-9!#$%&'*+.^_`|~]{0,12}", fullmatch=True)
values = st.from_regex(rb"([\x21-\x7e\x80-\xff]([\t \x21-\x7e\x80-\xff]{0,20}[\x21-\x7e\x80-\xff])?)?", fullmatch=True)
pieces = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
early = st.lists(st.sampled_from([100, 102, 103]), max_size=3)
cuts = st.lists(st.integers(min_value=0, max_value=4000), max_size=8)
framings = st.sampled_from(["length", "chunked", "end"])


@given(
    st.integers(200, 599), st.lists(st.tuples(names, values), max_size=6), pieces, early, framings, cuts, st.booleans()
)
async def test_an_answer_means_the_same_however_it_is_framed_and_cut(
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: list[bytes],
    informed: list[int],
    framing: str,
    cut_at: list[int],
    beyond: bool,
) -> None:
    if status in (204, 304):
        body, framing = [], "length"
    written = b"".join(b"HTTP/1.1 %d Early\r\nX-Early: 1\r\n\r\n" % one for one in informed)
    written += b"HTTP/1.1 %d Whatever\r\n%b" % (status, fields(headers))
    match framing:
        case "length" if status not in (204, 304):
            written += b"Content-Length: %d\r\n\r\n%b" % (len(b"".join(body)), b"".join(body))
        case "chunked":
            chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(one), one) for one in body)
            written += b"Transfer-Encoding: chunked\r\n\r\n%b0\r\nX-Trailer: 1\r\n\r\n" % chunks
        case _:
            written += b"\r\n" + b"".join(body)
    beyond = beyond and framing != "end"
    whole = written + (b"\r\n" if beyond else b"")
    marks = sorted({0, len(whole), *(mark for mark in cut_at if mark < len(whole))})

    wire = Wire()
    wire.connection_made(Line())
    asked = asyncio.ensure_future(wire.ask(b"GET / HTTP/1.1\r\n\r\n", b"", write=None, read=None))
    await asyncio.sleep(0)
    for start, end in pairwise(marks):
        if not wire.ended:
            wire.data_received(whole[start:end])
    if framing == "end":
        wire.eof_received()
    await asked
    read = [pair for pair in wire.headers if pair[0] not in (b"content-length", b"transfer-encoding")]
    assert (wire.status, read) == (status, headers)
    assert wire.take() == b"".join(body)
    assert wire.complete
    assert wire.finish() is (framing != "end" and not beyond)


async def test_an_answer_in_pieces_of_one_byte_that_nobody_reads_takes_no_more_memory_than_others() -> None:
    wire = Wire()
    wire.connection_made(Line())
    asked = asyncio.ensure_future(wire.ask(b"GET / HTTP/1.1\r\n\r\n", b"", write=None, read=None))
    await asyncio.sleep(0)
    wire.data_received(CHUNKED)
    await asked
    tiny = b"1\r\nx\r\n" * 4_000
    tracemalloc.start()
    try:
        for _ in range(50):
            wire.data_received(tiny)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
    assert wire.take() == b"x" * 200_000


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        HEAD + b"Content-Length: -2\r\n\r\nok",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\nok",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity\r\n\r\nok",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\nok",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"X : a\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: a\r\n  folded\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"no colon\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + OK,
        b"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/2 200\r\n\r\n",
        CHUNKED + b"z\r\nok\r\n",
        CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\n",
        b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n" * 10_000,
        HEAD + b"X: y\r\n" * (MOST_FIELDS + 1) + b"Content-Length: 2\r\n\r\nok",
        HEAD + b"X: %b\r\nContent-Length: 2\r\n\r\nok" % (b"y" * LARGEST_HEAD),
        CHUNKED + b"2\r\nok\r\n0\r\nX: %b\r\n\r\n" % (b"y" * 4 * LARGEST_HEAD),
        CHUNKED + b"2\r\nok\r\n2;%b" % (b"y" * 4 * LARGEST_HEAD),
    ],
    ids=range(23),
)
async def test_what_can_be_read_in_two_ways_or_has_no_end_is_refused(answer: bytes) -> None:
    async with listening(answer) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
        assert (failure.value.code, failure.value.sent) == ("not_http", True)
        assert not [connection for connection in egress.pool().connections if not connection.is_idle()]


@pytest.mark.parametrize(
    ("answer", "body", "again"),
    [
        (OK, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n", b"ok", True),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", b"", False),
        (OK + b"\r\n", b"ok", False),
        (OK + b"HTTP/1.1 200 OK\r\n", b"ok", False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n", b"ok", False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", b"ok", False),
    ],
)
async def test_a_connection_is_used_again_only_behind_an_answer_that_has_ended_it_in_no_way(
    answer: bytes, body: bytes, again: bool
) -> None:
    async with listening(answer) as listener, egress.GuardedPool() as pool:
        for _ in range(2):
            assert (await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/", through=pool)).body == body
        assert (listener.accepted, len(listener.requests)) == ((1 if again else 2), 2)


async def test_what_a_server_says_between_two_requests_is_no_answer_to_the_second() -> None:
    async with listening() as listener, egress.GuardedPool() as pool:
        url = f"http://127.0.0.1:{listener.port}/"
        await egress.fetch("GET", url, through=pool)
        listener.peers[0].transport.write(OK.replace(b"ok", b"NO"))
        assert (await egress.fetch("GET", url, through=pool)).body == b"ok"
        assert listener.accepted == 2


async def test_an_answer_that_nobody_has_read_to_its_end_ends_its_connection() -> None:
    def half(peer: Peer) -> None:
        peer.transport.write(HEAD + b"content-length: 4\r\n\r\nok")

    async with listening(half) as listener, egress.GuardedPool() as pool:
        request = egress.Request(b"GET", URL(f"http://127.0.0.1:{listener.port}/"), [(b"Host", b"x")])
        for accepted in (1, 2):
            answer = await pool.handle_async_request(request)
            assert await anext(answer) == b"ok"
            await answer.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(answer)
            assert listener.accepted == accepted


async def test_an_answer_that_comes_before_the_request_was_taken_is_heard_and_ends_the_connection() -> None:
    """Else the rest of this request would stand before the next one, perhaps another organization's."""

    def early(peer: Peer) -> None:
        peer.transport.pause_reading()
        peer.transport.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbulk")

    async with listening(early) as listener, egress.GuardedPool() as pool:
        url = URL(f"http://127.0.0.1:{listener.port}/")
        request = egress.Request(b"POST", url, [(b"Host", b"x")], b"x" * 30_000_000)
        answer = await asyncio.wait_for(pool.handle_async_request(request), PATIENCE)  # noqa: TID251 - nobody cancels this
        assert (answer.status, await read(answer)) == (413, b"bulk")
        assert pool.connections == []


async def test_a_connection_with_a_part_of_its_request_unwritten_takes_no_other() -> None:
    wire, line = Wire(), Line()
    wire.connection_made(line)
    for left, again in ((0, True), (1, False)):
        line.left = left
        asked = asyncio.ensure_future(wire.ask(b"POST / HTTP/1.1\r\n\r\n", b"x", write=None, read=None))
        await asyncio.sleep(0)
        wire.data_received(OK)
        await asked
        assert wire.take() == b"ok"
        assert wire.finish() is again


async def test_a_request_that_is_given_up_ends_its_connection() -> None:
    async with listening(lambda _peer: None) as listener, egress.GuardedPool() as pool:
        asked = asyncio.create_task(send(pool, "GET", f"http://127.0.0.1:{listener.port}/"))
        async with asyncio.timeout(30):
            while not listener.requests:  # noqa: ASYNC110 - it happens in the kernel
                await asyncio.sleep(0.005)
            asked.cancel()
            await asyncio.wait([asked])
            while listener.peers:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert pool.connections == []


@pytest.mark.parametrize(
    ("method", "target", "header"),
    [
        (b"GET", b"/", (b"X", b"a\r\nHost: evil")),
        (b"GET", b"/", (b"X", b"a\nHost: evil")),
        (b"GET", b"/", (b"X", b"a\rb")),
        (b"GET", b"/", (b"X", b"a\0b")),
        (b"GET", b"/", (b"X", b" a")),
        (b"GET", b"/", (b"X", b"a\t")),
        (b"GET", b"/", (b"Host:", b"evil")),
        (b"GET", b"/", (b"X\r\nHost", b"evil")),
        (b"GET", b"/", (b"X ", b"a")),
        (b"GET", b"/", (b"", b"a")),
        (b"GET", b"/", (b"{secret}", b"a")),
        (b"GET", b"/", (b"Transfer-Encoding", b"chunked")),
        (b"GET / HTTP/1.1\r\nX:", b"/", (b"X", b"a")),
        (b"HEAD", b"/", (b"X", b"a")),
        (b"GET", b"/ HTTP/1.1\r\nX: a", (b"X", b"a")),
        (b"GET", b"/\xff", (b"X", b"a")),
        (b"GET", b"", (b"X", b"a")),
    ],
    ids=range(17),
)
async def test_nothing_smuggles_a_line_into_a_request(
    method: bytes, target: bytes, header: tuple[bytes, bytes]
) -> None:
    async with listening() as listener, egress.GuardedPool() as pool:
        url = URL(scheme=b"http", host=b"127.0.0.1", port=listener.port, target=target)
        with pytest.raises(egress.Unreachable) as failure:
            await pool.handle_async_request(egress.Request(method, url, [(b"Host", b"x"), header]))
        assert (failure.value.code, failure.value.sent) == (egress.UNSENDABLE, False)
        assert (listener.accepted, pool.connections) == (0, [])


async def test_the_length_that_is_said_is_the_one_that_is_sent() -> None:
    async with listening() as listener:
        await send(egress.pool(), "POST", f"http://127.0.0.1:{listener.port}/", content=b"four")
        url = URL(f"http://127.0.0.1:{listener.port}/")
        for content in (b"", b"x" * 9):
            request = egress.Request(b"POST", url, [(b"Host", b"x"), (b"Content-Length", b"99")], content)
            await read(await egress.pool().handle_async_request(request))
        lengths = [request.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] for request in listener.requests]
        assert lengths == [b"4", b"0", b"9"]
        assert all(request.count(b"Content-Length") == 1 for request in listener.requests)
