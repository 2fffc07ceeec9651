"""The product as programs meet it: the ASGI application behind a real socket, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import uvicorn
from django.db import connections

from connections.models import Connection
from tests.loopback import NO_TLS
from tools.calls.sessions import keeping
from tools.catalog import probing
from tools.models import Probe


@dataclass
class Api:
    """The API for one token."""

    base: str
    token: str | None = None

    def as_(self, token: str | None) -> Api:
        return Api(self.base, token)

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = dict(more.pop("headers", {}))
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30) as client:
            return client.request(method, f"{self.base}{path}", headers=headers, **more)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        return self.request("POST", path, json=json, **more)

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> httpx2.Response:
        return self.post(f"/v1/tools/{tool}/call", {"arguments": arguments or {}}, **more)


@pytest.fixture
def open_egress(settings: Any) -> None:
    """Let connections reach the servers of these tests, which live on loopback over plain http."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture(scope="session")
def live_server_url() -> Iterator[str]:
    """Where the product answers."""
    from duvo.asgi import application
    from duvo.protocol import Protocol

    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=0,
        http=Protocol,
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="live", daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the live server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def api(live_server_url: str, transactional_db: None, open_egress: None) -> Iterator[Api]:
    """The live API, on a database that threads share."""
    yield Api(live_server_url)
    leave_sessions()


def leave_sessions() -> None:
    """Leave the sessions at servers that this process has joined, before the rows of the test are gone."""
    for loop, here in list(keeping.everywhere().items()):
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(here.resign(), loop).result(10)
    connections.close_all()


@pytest.fixture
def probed(transactional_db: None, open_egress: None) -> Callable[[Connection], Probe]:
    """Probe a connection now, for real, and look at the row afterwards."""

    def run(connection: Connection) -> Probe:
        report = probing.probe(connection.pk)
        assert report is not None
        connection.refresh_from_db()
        return report

    return run
