"""What a stranger sends slowly, largely or wrongly ends, at every address, and costs little."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from duvo import bodies, protocol
from tests.conftest import House
from tests.live import Api

pytestmark = pytest.mark.smoke

ADDRESSES = [
    "/admin/login/",
    "/",
    "/healthz",
    "/v1/oauth/mcp/callback",
    "/v1/connections",
    "/v1/tools/x__y/call",
    "/no",
]
LARGE = 5 * 1024 * 1024

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(api: Api) -> Iterator[Connect]:
    """Connections to the live server; a test fails when one is silent for long."""
    opened: list[socket.socket] = []
    address = urlsplit(api.base)

    def open_one() -> socket.socket:
        opened.append(socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def status(connection: socket.socket) -> int:
    """The status of one answer, whose connection may stay open."""
    received = b""
    while b"\r\n" not in received:
        part = connection.recv(65536)
        assert part, "closed without an answer"
        received += part
    return int(received.split(b" ", 2)[1])


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 65536)


# --- bodies ---


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_body_that_says_it_is_too_large_is_refused_before_a_byte_of_it_has_come(connect: Connect, path: str) -> None:
    connection = connect()
    connection.sendall(
        head(path, f"Content-Length: {300 * 1024 * 1024}", "Content-Type: multipart/form-data; boundary=x")
    )
    assert status(connection) == 413


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_body_in_chunks_is_counted(connect: Connect, path: str) -> None:
    connection = connect()
    connection.sendall(head(path, "Transfer-Encoding: chunked", "Content-Type: application/x-www-form-urlencoded"))
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with suppress(ConnectionError):
        for _ in range(6):
            connection.sendall(chunk)
    assert status(connection) == 413


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_body_that_does_not_come_is_not_waited_for(
    connect: Connect, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 0.2)
    monkeypatch.setattr(bodies, "LINGER_SECONDS", 0.1)
    connection = connect()
    connection.sendall(head(path, "Content-Length: 1000") + b"x")
    assert answer(connection).startswith(b"HTTP/1.1 408")


def test_a_client_that_was_refused_and_goes_on_sending_is_let_go(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.5)
    connection = connect()
    connection.sendall(head("/admin/login/", f"Content-Length: {300 * 1024 * 1024}"))
    assert status(connection) == 413
    with pytest.raises(ConnectionError):  # it is closed under the client
        send_for_ever(connection)


def test_what_one_address_sends_at_a_time_is_bounded(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_BYTES_OF_ONE", 3 * LARGE // 2)
    patient = [connect() for _ in range(2)]
    for connection in patient:
        connection.sendall(head("/admin/login/", f"Content-Length: {LARGE}") + b"x" * (LARGE - 1))
    ready, _, _ = select.select(patient, [], [], 20)
    assert [status(connection) for connection in ready] == [503]
    for connection in patient:
        connection.close()
    again = connect()
    again.sendall(head("/healthz", "Content-Length: 0", "Connection: close", method="GET"))
    assert answer(again).startswith(b"HTTP/1.1 200")


def test_a_form_of_ordinary_size_arrives_whole(api: Api, acme: House) -> None:
    answered = api.request("POST", "/admin/login/", data={"username": "x" * 100_000, "password": "x"})
    assert answered.status_code == 403  # without the form's own token; the body was read


# --- heads ---


@pytest.mark.parametrize("sent", [b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n"], ids=range(4))
def test_a_head_that_does_not_come_is_not_waited_for(
    connect: Connect, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    connection = connect()
    connection.sendall(sent)
    assert answer(connection).startswith(b"HTTP/1.1 408")


def test_a_connection_on_which_nothing_is_asked_is_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    assert answer(connect()) == b""


def test_a_head_that_trickles_has_no_more_time_than_one_that_stands_still(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\n")
    connection.settimeout(0.05)
    received = b""
    for number in range(200):
        with suppress(TimeoutError):
            received = connection.recv(4096)
        if received:
            break
        connection.sendall(f"X-{number}: y\r\n".encode())
    assert received.startswith(b"HTTP/1.1 408")


def test_a_connection_that_was_used_before_has_no_more_time_for_its_next_head(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    connection = connect()
    connection.sendall(head("/healthz", method="GET"))
    assert status(connection) == 200
    connection.sendall(b"GET / HT")
    assert b"HTTP/1.1 408" in answer(connection)


@pytest.mark.parametrize(
    "piece",
    [b"X-Long: " + b"x" * 100_000, b"".join(b"X-%d: y\r\n" % number for number in range(20_000)), b"x" * 100_000],
    ids=["one long header", "many headers", "no header"],
)
def test_a_head_that_is_too_large_is_refused(connect: Connect, piece: bytes) -> None:
    connection = connect()
    with suppress(ConnectionError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + piece)
    with suppress(ConnectionError):
        for _ in range(20):
            connection.sendall(b"x" * 10_000)
    assert answer(connection)[:12] in {b"HTTP/1.1 400", b""}  # what was still on its way may have cost the answer


def test_headers_behind_a_body_are_bounded_and_of_no_use(connect: Connect) -> None:
    connection = connect()
    connection.sendall(head("/healthz", "Transfer-Encoding: chunked", "Connection: close", method="GET"))
    connection.sendall(b"1\r\nx\r\n0\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert answer(connection).startswith(b"HTTP/1.1 200")
    connection = connect()
    connection.sendall(head("/healthz", "Transfer-Encoding: chunked"))
    with suppress(ConnectionError):
        connection.sendall(b"1\r\nx\r\n0\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000)))
    assert answer(connection)[:12] in {b"HTTP/1.1 400", b""}


def test_requests_that_are_piled_up_on_one_connection_are_bounded(connect: Connect) -> None:
    connection = connect()
    with suppress(ConnectionError):
        connection.sendall(head("/healthz", method="GET") * 2_000)
    assert answer(connection).count(b"HTTP/1.1 200") <= protocol.MOST_PIPELINED + 1


def test_a_few_piled_up_requests_are_answered_in_turn(connect: Connect) -> None:
    connection = connect()
    connection.sendall(head("/healthz", method="GET") * 3 + head("/healthz", "Connection: close", method="GET"))
    assert answer(connection).count(b"HTTP/1.1 200") == 4


def test_a_client_that_reads_nothing_of_its_answer_is_let_go(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = threading.Event()
    original = protocol.Protocol.connection_lost

    def noted(self: protocol.Protocol, exc: Exception | None) -> None:
        original(self, exc)
        lost.set()

    monkeypatch.setattr(protocol.Protocol, "connection_lost", noted)
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    bundle = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"  # over a megabyte
    connect().sendall(head(bundle, method="GET") * 20)
    assert lost.wait(20), "it is still waited for"


# --- upgrades ---


@pytest.mark.parametrize("path", ADDRESSES)
def test_nobody_speaks_websocket_here(connect: Connect, path: str) -> None:
    connection = connect()
    wishes = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    connection.sendall(head(path, *wishes, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", method="GET"))
    assert answer(connection).startswith(b"HTTP/1.1 404")


def test_other_upgrades_are_ignored(connect: Connect) -> None:
    connection = connect()
    connection.sendall(head("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", method="GET"))
    assert status(connection) == 200


@pytest.mark.parametrize(
    ("extensions", "said"),
    [({}, "websocket.close"), ({"websocket.http.response": {}}, "websocket.http.response.start")],
)
async def test_a_server_that_speaks_websocket_by_itself_hears_no(extensions: dict[str, object], said: str) -> None:
    from duvo.asgi import application

    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await application({"type": "websocket", "path": "/", "extensions": extensions}, receive, send)
    assert sent[0]["type"] == said


async def test_the_application_lives_with_servers_that_tell_it_when_they_begin_and_end() -> None:
    from duvo.asgi import application

    received = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, object]:
        return {"type": next(received)}

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    await application({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
