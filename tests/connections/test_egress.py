from __future__ import annotations

import asyncio
import gzip
import os
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing, nullcontext, suppress
from importlib import import_module
from pathlib import Path

import pytest
from httpcore2 import URL
from pytest_django import Settings

from connections import egress
from connections.egress.decoding import plain
from connections.errors import AnswerRefused
from tests.connections.certificates import Authority
from tests.connections.listeners import OK, Listener, Peer, listening, read, send

pools = import_module("connections.egress.pool")  # the package has a function of this name


@pytest.fixture(autouse=True)
def _loopback_is_open(settings: Settings) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
def authority(tmp_path: Path, settings: Settings) -> Authority:
    made = Authority(tmp_path)
    settings.EGRESS_CA_FILE = made.file
    return made


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def answering(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {head}\r\n\r\n".encode() + body


def silence(_peer: Peer) -> None:
    """Take the request and never answer."""


def unused_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


async def until(met: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110 - what is waited for happens in the kernel or another loop
            await asyncio.sleep(0.005)


# --- one exchange ---------------------------------------------------------------------------------------------------


async def test_a_request_leaves_in_one_piece_with_our_name_and_asks_for_no_compression() -> None:
    async with listening() as listener:
        answer = await egress.fetch("POST", f"http://127.0.0.1:{listener.port}/mcp?a=1", json={"x": 1})
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"ok", "text/plain")
        (request,) = listener.requests
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /mcp?a=1 HTTP/1.1\r\n")
        assert b"Duvo-Connections/" in head
        assert b"accept-encoding: identity" in head.lower()
        assert body == b'{"x":1}'


async def test_a_large_body_arrives_whole() -> None:
    received = 0

    def count(peer: Peer) -> None:
        nonlocal received
        received += len(peer.listener.requests[-1].rpartition(b"\r\n\r\n")[2])
        if received == 3_000_000:
            peer.transport.write(OK)

    async with listening(count) as listener:
        await egress.fetch("POST", f"http://127.0.0.1:{listener.port}/", content=b"x" * 3_000_000)


async def test_connections_are_reused() -> None:
    async with listening() as listener:
        for _ in range(5):
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
        assert listener.accepted == 1


async def test_a_cookie_of_one_exchange_is_never_sent_in_another() -> None:
    async with listening(answering("200 OK\r\nset-cookie: session=acme\r\ncontent-length: 0")) as listener:
        async with egress.client() as http:
            for _ in range(2):
                await http.get(f"http://127.0.0.1:{listener.port}/")
        assert b"session=acme" not in b"".join(listener.requests)


@pytest.mark.parametrize(
    "answer",
    [
        answering("200 OK\r\ncontent-length: 2000", b"x" * 2000),
        answering("200 OK\r\ntransfer-encoding: chunked", b"400\r\n" + b"x" * 1024 + b"\r\n400\r\n"),
        answering("200 OK\r\nconnection: close", b"x" * 2000),
    ],
)
async def test_an_answer_over_the_cap_is_given_up(answer: bytes) -> None:
    async with listening(answer) as listener:
        with pytest.raises(egress.AnswerRefused) as refusal:
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/", max_bytes=1000)
        assert (refusal.value.code, refusal.value.sent) == ("answer_too_large", True)
        await until(lambda: not listener.peers)


async def test_a_flood_is_stopped_at_the_socket_and_not_kept_in_memory() -> None:
    async with listening(answering("200 OK\r\ncontent-length: 50000000", b"x" * 50_000_000)) as listener:
        request = egress.Request(b"GET", URL(f"http://127.0.0.1:{listener.port}/"), [(b"Host", b"flood")])
        response = await egress.pool().handle_async_request(request)
        unsent, before = listener.peers[0].transport.get_write_buffer_size(), -1
        while unsent != before:
            await asyncio.sleep(0.05)
            unsent, before = listener.peers[0].transport.get_write_buffer_size(), unsent
        assert unsent > 30_000_000
        await response.aclose()


def compressed(body: bytes, coding: str) -> bytes:
    return answering(f"200 OK\r\nContent-Encoding: {coding}\r\ncontent-length: {len(body)}", body)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b"{}", mtime=0), "gzip"),
        (gzip.compress(b"{}", mtime=0), "X-GZIP"),
        (zlib.compress(b"{}"), "deflate"),
        (zlib.compress(b"{}")[2:-4], "deflate"),
        (b"{}", "gzip"),
        (b"{}", "identity"),
    ],
)
async def test_an_answer_that_is_compressed_against_our_wish_is_read(body: bytes, coding: str) -> None:
    async with listening(compressed(body, coding)) as listener:
        answer = await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/", max_bytes=100)
    assert (answer.status, answer.body) == (200, b"{}")


@pytest.mark.parametrize(
    ("body", "coding", "code"),
    [
        (b"xx", "br", "answer_compressed"),
        (b"xx", "gzip, br", "answer_compressed"),
        (gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 40, "gzip", "answer_compressed"),
        (gzip.compress(b"0" * 30_000_000, mtime=0), "gzip", "answer_too_large"),
        (zlib.compress(b"0" * 30_000_000), "deflate", "answer_too_large"),
        (gzip.compress(b"", mtime=0) * 120_000, "gzip", "answer_compressed"),
    ],
)
async def test_a_compressed_answer_that_cannot_be_undone_or_grows_is_refused(
    body: bytes, coding: str, code: str
) -> None:
    async with listening(compressed(body, coding)) as listener:
        with pytest.raises(egress.AnswerRefused) as refusal:
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
        assert refusal.value.code == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"220 mail.example.com ESMTP\r\n\r\n", "not_http"),
        (b"\x15\x03\x03\x00\x02\x02\x16\r\n\r\n", "not_http"),
        (answering("200 OK\r\nx: " + "x" * 200_000 + "\r\ncontent-length: 0"), "not_http"),
    ],
)
async def test_an_answer_that_is_no_sound_http_is_named_so(answer: bytes, code: str) -> None:
    async with listening(answer) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
        assert (failure.value.code, failure.value.sent) == (code, True)


@pytest.mark.parametrize("location", ["https://0177.0.0.1/", "https://[::1", "//", "file:///etc/passwd", "\xff"])
async def test_a_redirect_is_an_answer_like_any_other_wherever_it_points(location: str) -> None:
    async with listening(answering(f"302 Found\r\nlocation: {location}\r\ncontent-length: 0")) as listener:
        assert (await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")).status == 302


# --- what failed, and whether the request may have left -------------------------------------------------------------


async def test_a_closed_port_fails_before_anything_is_sent() -> None:
    with pytest.raises(egress.Unreachable) as failure:
        await egress.fetch("POST", f"http://127.0.0.1:{unused_port()}/", content=b"x")
    assert (failure.value.code, failure.value.sent) == ("connect_failed", False)


async def test_a_name_that_does_not_exist_is_refused_and_one_that_hangs_is_unreachable() -> None:
    async def missing(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def broken(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "again")

    async def hanging(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def tried(resolver: egress.Resolver) -> egress.Refused | egress.Unreachable:
        pool = egress.GuardedPool(resolver=resolver)
        timeouts = {"timeout": {"connect": 0.05}}
        with pytest.raises((egress.Refused, egress.Unreachable)) as failure:
            await send(pool, "POST", "https://mcp.example.com/", content=b"x", extensions=timeouts)
        assert isinstance(failure.value, egress.Refused | egress.Unreachable)
        return failure.value

    assert (await tried(missing)).code == "host_not_found"
    for resolver in (broken, hanging):
        failure = await tried(resolver)
        assert (failure.code, failure.sent) == ("dns_failed", False)


async def test_a_server_that_accepts_nobody_times_out_before_anything_is_sent() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(egress.Unreachable) as failure:
            await send(
                egress.pool(),
                "GET",
                f"http://127.0.0.1:{full.getsockname()[1]}/",
                extensions={"timeout": {"connect": 0.1}},
            )
    assert (failure.value.code, failure.value.sent) == ("connect_timeout", False)


async def test_a_server_that_hangs_up_without_an_answer_may_have_the_request() -> None:
    async with listening(lambda peer: peer.transport.abort()) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.fetch("POST", f"http://127.0.0.1:{listener.port}/", content=b"x")
        assert (failure.value.code, failure.value.sent) == ("connection_lost", True)


async def test_half_an_answer_is_a_lost_connection() -> None:
    def half(peer: Peer) -> None:
        peer.transport.write(answering("200 OK\r\ncontent-length: 10", b"half"))
        peer.transport.close()

    async with listening(half) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")
        assert (failure.value.code, failure.value.sent) == ("connection_lost", True)


async def test_one_deadline_holds_over_the_whole_exchange_and_knows_if_the_request_left() -> None:
    async def hanging(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with listening(silence) as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        with pytest.raises(egress.Unreachable) as after:
            await egress.fetch("POST", url, content=b"x", timeout=0.1)
        with pytest.raises(egress.Unreachable) as before:
            await egress.fetch("POST", url, content=b"x", timeout=0.1, through=egress.GuardedPool(resolver=hanging))
    assert (after.value.code, after.value.sent) == ("answer_timeout", True)
    assert (before.value.code, before.value.sent) == ("answer_timeout", False)


async def test_the_read_timeout_counts_from_byte_to_byte() -> None:
    async with listening(silence) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await send(
                egress.pool(), "GET", f"http://127.0.0.1:{listener.port}/", extensions={"timeout": {"read": 0.05}}
            )
        assert (failure.value.code, failure.value.sent) == ("answer_timeout", True)


async def test_a_server_that_takes_no_bytes_times_out_the_write() -> None:
    async with listening() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        await egress.fetch("GET", url)
        for peer in listener.peers:
            peer.transport.pause_reading()
        with pytest.raises(egress.Unreachable) as failure:
            await send(egress.pool(), "POST", url, content=b"x" * 20_000_000, extensions={"timeout": {"write": 0.1}})
        assert (failure.value.code, failure.value.sent) == ("answer_timeout", True)


# --- connections ----------------------------------------------------------------------------------------------------


async def test_an_idle_connection_that_the_server_closed_is_not_used_again() -> None:
    async with listening() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        await egress.fetch("GET", url)
        listener.peers[0].transport.close()
        await until(egress.pool().connections[0].has_expired)
        assert (await egress.fetch("POST", url, content=b"x")).status == 200
        assert listener.accepted == 2


def test_a_connection_closed_so_recently_that_the_loop_has_not_heard_is_not_used_either() -> None:
    def closing_the_first(peer: Peer) -> None:
        peer.transport.write(OK)
        if peer.listener.accepted == 1:
            peer.transport.close()

    async def post(port: int) -> egress.Connection:
        request = egress.Request(b"POST", URL(f"http://127.0.0.1:{port}/"), [(b"Host", b"x")], b"x")
        assert await read(await egress.pool().handle_async_request(request)) == b"ok"
        (connection,) = egress.pool().connections
        return connection

    async def twice(port: int) -> None:
        connection = await post(port)
        heard = select.poll()
        heard.register(connection.fileno(), select.POLLIN)
        assert heard.poll(5000)  # blocks the event loop, so that only the kernel knows
        assert await post(port) is not connection

    with listening_elsewhere(closing_the_first) as listener:
        asyncio.run(twice(listener.port))
        assert (listener.accepted, len(listener.requests)) == (2, 2)


async def test_the_next_address_is_tried_when_the_first_does_not_answer() -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["::1", "127.0.0.1"]

    async with listening() as listener:
        with egress.observe() as steps:
            answer = await egress.fetch(
                "GET", f"http://mcp.example.com:{listener.port}/", through=egress.GuardedPool(resolver=both)
            )
    assert answer.status == 200
    assert [(step.stage, step.addresses) for step in steps] == [("dns", ("::1", "127.0.0.1")), ("tcp", ("127.0.0.1",))]


async def test_many_waiting_requests_to_one_server_do_not_hold_up_another() -> None:
    async with listening(silence) as slow, listening() as quick:
        waiting = [asyncio.ensure_future(egress.fetch("GET", f"http://127.0.0.1:{slow.port}/")) for _ in range(100)]
        await until(lambda: len(slow.requests) == 100)
        assert (await egress.fetch("GET", f"http://127.0.0.1:{quick.port}/")).status == 200
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await until(lambda: not slow.peers)


async def test_connections_that_many_requests_needed_at_once_are_used_again_the_freshest_first() -> None:
    pool = egress.GuardedPool()
    async with listening() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        answers = await asyncio.gather(*(egress.fetch("GET", url, through=pool) for _ in range(100)))
        assert {answer.status for answer in answers} == {200}
        before, accepted = {repr(connection) for connection in pool.connections}, listener.accepted
        for _ in range(3):
            await egress.fetch("GET", url, through=pool)
        assert listener.accepted == accepted
        assert len({repr(connection) for connection in pool.connections} - before) == 1, "one was used three times"


async def test_a_server_with_too_many_waiting_requests_gets_no_more_and_other_servers_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "MOST_CONNECTIONS", 3)
    async with listening(silence) as slow, listening() as quick:
        url = f"http://127.0.0.1:{slow.port}/"
        waiting = [asyncio.ensure_future(egress.fetch("GET", url)) for _ in range(3)]
        await until(lambda: len(slow.requests) == 3)
        with pytest.raises(egress.Unreachable) as refusal:
            await egress.fetch("GET", url)
        assert (refusal.value.code, refusal.value.sent) == ("pool_full", False)
        assert (await egress.fetch("GET", f"http://127.0.0.1:{quick.port}/")).status == 200
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert not [connection for connection in egress.pool().connections if not connection.is_idle()]


async def test_streams_that_are_kept_open_take_no_connection_from_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST_CONNECTIONS", 2)
    async with listening() as listener:
        url = URL(f"http://127.0.0.1:{listener.port}/")
        stream = egress.Request(b"GET", url, [(b"Host", b"127.0.0.1")], extensions={egress.STREAM: True})
        answers = [await egress.pool().handle_async_request(stream) for _ in range(5)]
        assert (await egress.fetch("GET", f"http://127.0.0.1:{listener.port}/")).status == 200
        assert listener.accepted == 6
        for answer in answers:
            await answer.aclose()
        assert not [connection for connection in egress.pool().connections if not connection.is_idle()]


async def test_connections_that_nobody_uses_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(pools, "SWEEP_SECONDS", 0.0)
    async with listening() as one, listening() as other:
        await egress.fetch("GET", f"http://127.0.0.1:{one.port}/")
        await egress.fetch("GET", f"http://127.0.0.1:{other.port}/")
        await until(lambda: not one.peers)
        assert len(egress.pool().connections) == 1


# --- TLS ------------------------------------------------------------------------------------------------------------


async def reached(url: str) -> list[egress.Step]:
    with egress.observe() as steps:
        await egress.reach(url, resolver=loopback)
    return steps


async def test_a_private_authority_is_trusted_and_the_certificate_checked_against_the_name_in_the_url(
    authority: Authority,
) -> None:
    asked: list[str | None] = []
    server = authority.server("mcp.acme.example")
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with listening(tls=server) as listener:
        url = f"https://mcp.acme.example:{listener.port}/"
        async with egress.GuardedPool(resolver=loopback) as pool:
            for _ in range(3):
                assert (await egress.fetch("GET", url, through=pool)).body == b"ok"
        steps = await reached(url)
    assert asked == ["mcp.acme.example"] * 2
    assert [(step.stage, step.ok) for step in steps] == [("dns", True), ("tcp", True), ("tls", True)]
    assert steps[2].tls_version == "TLSv1.3"
    assert all(step.milliseconds >= 0 for step in steps)


@pytest.mark.parametrize(
    ("host", "days", "sentence"),
    [
        ("other.example", 30, "The server's certificate is for another host name."),
        ("mcp.acme.example", -1, "The server's certificate has expired."),
    ],
)
async def test_a_certificate_that_is_not_good_for_the_name_is_told_apart(
    authority: Authority, host: str, days: int, sentence: str
) -> None:
    async with listening(tls=authority.server(host, days=days)) as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.fetch(
                "POST",
                f"https://mcp.acme.example:{listener.port}/",
                content=b"secret",
                through=egress.GuardedPool(resolver=loopback),
            )
        assert (failure.value.code, failure.value.sent, failure.value.sentence) == ("tls_failed", False, sentence)
        assert listener.requests == []


async def test_an_unknown_authority_is_not_trusted_and_the_report_says_at_which_stage(
    authority: Authority, settings: Settings
) -> None:
    settings.EGRESS_CA_FILE = None
    async with listening(tls=authority.server("mcp.acme.example")) as listener:
        with egress.observe() as steps, pytest.raises(egress.Unreachable):
            await egress.reach(f"https://mcp.acme.example:{listener.port}/", resolver=loopback)
    assert [(step.stage, step.ok, step.code) for step in steps] == [
        ("dns", True, ""),
        ("tcp", True, ""),
        ("tls", False, "tls_failed"),
    ]
    assert "authority that is not trusted" in steps[2].sentence


async def test_a_port_that_speaks_plain_http_is_named_when_https_was_asked_for() -> None:
    async with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as listener:
        with pytest.raises(egress.Unreachable) as failure:
            await egress.reach(f"https://mcp.acme.example:{listener.port}/", resolver=loopback)
    assert failure.value.sentence == "The server does not speak TLS on this port. Check the port in the URL."


def test_what_was_planted_before_tls_is_never_taken_for_an_answer(authority: Authority) -> None:
    secured = authority.server("mcp.acme.example")

    def plant(server: socket.socket) -> None:
        """Speak before TLS, as somebody on the way can, and then let the handshake pass."""
        peer, _ = server.accept()
        with suppress(OSError), peer:
            peer.sendall(OK.replace(b"ok", b"NO"))
            with secured.wrap_socket(peer, server_side=True) as tls:
                tls.recv(10_000)
                tls.sendall(OK)

    async def fetched(port: int) -> bytes:
        async def keep_the_loop_busy() -> None:
            while True:
                time.sleep(0.02)  # noqa: ASYNC251 - what is planted arrives meanwhile
                await asyncio.sleep(0)

        busy = asyncio.create_task(keep_the_loop_busy())
        try:
            url = f"https://mcp.acme.example:{port}/"
            return (await egress.fetch("GET", url, through=egress.GuardedPool(resolver=loopback))).body
        finally:
            busy.cancel()

    with socket.create_server(("127.0.0.1", 0)) as server:
        planting = threading.Thread(target=plant, args=(server,))
        planting.start()
        with pytest.raises(egress.Unreachable) as failure:
            egress.run(fetched(server.getsockname()[1]))
        planting.join()
    assert (failure.value.code, failure.value.sent) == ("no_tls", False)


async def test_old_tls_is_not_spoken(authority: Authority) -> None:
    assert egress.tls_context().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert egress.tls_context() is egress.tls_context()


# --- loops and processes --------------------------------------------------------------------------------------------


class listening_elsewhere:  # noqa: N801 - reads as the coroutine's twin
    """A listener in this process's background loop, for tests that own no loop or block it."""

    def __init__(self, answer: bytes | Callable[[Peer], None] = OK) -> None:
        self._context = listening(answer)

    def __enter__(self) -> Listener:
        return egress.run(self._context.__aenter__())

    def __exit__(self, *error: object) -> None:
        egress.run(self._context.__aexit__(None, None, None))


def test_synchronous_code_fetches_through_one_background_loop() -> None:
    async def fetched(url: str) -> tuple[int, asyncio.AbstractEventLoop]:
        return (await egress.fetch("GET", url)).status, asyncio.get_running_loop()

    with listening_elsewhere() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        (status, loop), (_, again) = egress.run(fetched(url)), egress.submit(fetched(url)).result(5)
        assert status == 200
        assert loop is again
        assert listener.accepted == 1


def test_errors_and_the_record_come_back_to_synchronous_code() -> None:
    with egress.observe() as steps, pytest.raises(egress.Unreachable):
        egress.run(egress.reach(f"http://127.0.0.1:{unused_port()}/"))
    assert [(step.stage, step.ok) for step in steps] == [("dns", True), ("tcp", False)]


def test_the_background_loop_does_not_wait_for_itself() -> None:
    async def nested() -> None:
        egress.run(egress.fetch("GET", "https://mcp.example.com/"))

    with pytest.raises(RuntimeError):
        egress.run(nested())


def test_a_forked_worker_has_a_loop_and_connections_of_its_own() -> None:
    with listening_elsewhere() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        egress.run(egress.fetch("GET", url))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if egress.run(egress.fetch("GET", url)).status == 200 else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert egress.run(egress.fetch("GET", url)).status == 200
        assert listener.accepted == 2


def test_the_connections_of_a_loop_end_with_it() -> None:
    with listening_elsewhere() as listener:
        for expected in (1, 2, 3):
            asyncio.run(egress.fetch("GET", f"http://127.0.0.1:{listener.port}/"))
            assert listener.accepted == expected
            egress.run(until(lambda: not listener.peers))


def test_a_host_is_resolved_from_synchronous_code_with_the_same_judgement(settings: Settings) -> None:
    assert egress.resolve("127.0.0.1", 1234) == ["127.0.0.1"]
    settings.EGRESS_ALLOWED_NETWORKS = []
    with pytest.raises(egress.Refused) as refusal:
        egress.resolve("0x7f.1", 443)
    assert refusal.value.code == "private_address"


async def test_bytes_that_a_server_sends_beyond_its_answer_never_answer_the_next_request() -> None:
    planted = OK.replace(b"ok", b"NO")
    async with listening(OK + planted) as listener, egress.GuardedPool() as pool:
        url = f"http://127.0.0.1:{listener.port}/"
        bodies = [(await egress.fetch("GET", url, through=pool)).body for _ in range(3)]
    assert (bodies, len(listener.requests), listener.accepted) == ([b"ok"] * 3, 3, 3)


@pytest.mark.parametrize(("members", "refused"), [(900, False), (5_000, True)])
async def test_a_body_of_very_many_compressed_parts_is_refused(members: int, refused: bool) -> None:
    """Each part costs a copy of all that follows it, so that a few hundred kilobytes hold everybody up."""

    async def body() -> AsyncIterator[bytes]:
        yield gzip.compress(b"") * (members - 1) + gzip.compress(b"the end")

    with pytest.raises(AnswerRefused, match="too many parts") if refused else nullcontext():
        assert b"".join([piece async for piece in plain(body(), b"gzip", 1_000_000)]) == b"the end"
