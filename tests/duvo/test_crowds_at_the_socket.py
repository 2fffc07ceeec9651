"""However many connections a stranger or rival holds, and however little they read, acme gets in and memory stays."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
import uvloop

from connections.context import WHOSE
from duvo import protocol
from duvo.protocol import Protocol
from tests.tools.conftest import eventually

pytestmark = pytest.mark.smoke

LIMIT = 20
LARGE = 8 * 1024 * 1024
Connect = Callable[[], socket.socket]


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with so many bytes as the path says, as rival's or acme's."""
    _, whose, size = scope["path"].split("/")
    scope[WHOSE] = whose
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    headers = [(b"content-length", size.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * int(size)})


@pytest.fixture
def server() -> Iterator[uvicorn.Server]:
    """A server that takes twenty connections at a time."""
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, http=Protocol, lifespan="off", log_config=None,
        limit_concurrency=LIMIT, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    eventually(lambda: server.started, "the server")
    yield server
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def connect(server: uvicorn.Server) -> Iterator[Connect]:
    """Connections to it."""
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        opened.append(socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=20))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def ask(connection: socket.socket, whose: str = "acme", size: int = 2) -> None:
    connection.sendall(f"GET /{whose}/{size} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


def status(connection: socket.socket) -> bytes:
    return connection.recv(65536)[9:12]


def whole(connection: socket.socket, size: int) -> int:
    """How many bytes of an answer come, with its head."""
    received = 0
    with suppress(ConnectionError):
        while received < size and (part := connection.recv(1 << 20)):
            received += len(part)
    return received


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST /acme/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"], ids=range(3)
)
def test_a_stranger_who_holds_connections_and_asks_nothing_keeps_nobody_out(connect: Connect, sent: bytes) -> None:
    for _ in range(3 * LIMIT):
        silent = connect()
        with suppress(ConnectionError):
            silent.sendall(sent)
    for _ in range(3):
        acme = connect()
        ask(acme)
        assert status(acme) == b"200"


def test_connections_that_were_used_and_are_kept_open_make_room_too_the_oldest_first(connect: Connect) -> None:
    kept = [connect() for _ in range(3 * LIMIT)]
    for connection in kept:
        with suppress(ConnectionError):
            ask(connection)
            status(connection)
    newest = kept[-1]
    ask(newest)
    assert status(newest) == b"200", "the one used last is still open"


def test_a_connection_whose_answer_is_still_read_does_not_make_room(connect: Connect) -> None:
    reading = connect()
    ask(reading, size=LARGE)
    reading.recv(1)
    for _ in range(3 * LIMIT):
        connect()
    acme = connect()
    ask(acme)
    assert status(acme) == b"200"
    assert whole(reading, LARGE) >= LARGE


def test_what_rival_does_not_read_is_held_up_to_its_share_and_acme_reads_on(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST_UNREAD_OF_ONE", 3 * LARGE)
    unread = [connect() for _ in range(8)]
    for connection in unread:
        ask(connection, "rival", LARGE)
        connection.recv(1)  # it is on its way
    eventually(lambda: 2 * LARGE < protocol._unread["rival"] <= 3 * LARGE, "rival's share")
    acme = connect()
    ask(acme, "acme", LARGE)
    assert whole(acme, LARGE) > LARGE
    for connection in unread:
        connection.close()
    eventually(lambda: not protocol._unread, "nothing is counted any more")


def test_requests_that_are_on_their_way_when_the_process_is_to_end_are_answered(
    server: uvicorn.Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a connection that is new, or that is kept open and quiet at that moment."""
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 30.0)
    address = server.servers[0].sockets[0].getsockname()
    fresh, kept = connect(), connect()
    ask(kept)
    assert status(kept) == b"200"
    server.should_exit = True
    eventually(lambda: is_refused(address), "the end of listening")
    for connection in (fresh, kept):
        ask(connection)
        head = connection.recv(65536).lower()
        assert head[9:12] == b"200"
        assert b"connection: close" in head
        assert connection.recv(1) == b""


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
