"""The product as it runs in production, one process of each kind, on a database of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from duvo import stack
from tests.bench import load
from tests.bench.furnish import token_of

HOST = "127.0.0.1"
START_SECONDS = 60.0
TENANTS, CONNECTIONS = 1_000, 9  # each tenant has as many
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of W3C Trace Context


@dataclass
class Product:
    """A web process, a worker, and what a caller needs; `made` counts the calls that it made."""

    environment: dict[str, str]
    port: int
    token: str
    watched: list[int]  # process ids of the web process, the worker, and a database with its children
    made: int = 0

    def call(self, era: str, text: str) -> load.Round:
        """Return a round of one call that waits for its result."""
        return load.call(self._call(era, text, self.token))

    def call_and_follow(self, era: str, text: str) -> load.Round:
        """Return a round of one call that a worker makes, followed until it has ended."""
        return self._followed(era, text, self.token)

    def spread(self, text: str, *, most: int, followed: bool = False) -> load.Round:
        """Return a round of one call of the next of so many connections of organizations, in an order of chance."""
        pairs = [(house, link) for house in range(TENANTS) for link in range(CONNECTIONS)]
        random.Random(1).shuffle(pairs)
        turns = cycle(pairs[:most])

        async def round_(caller: load.Caller) -> None:
            house, link = next(turns)
            connection, token = f"c{link}", token_of(house)
            one = (
                self._followed(connection, text, token) if followed else load.call(self._call(connection, text, token))
            )
            await one(caller)

        return round_

    async def run(self, round_: load.Round, **many: Any) -> load.Load:
        """Make calls as `load.run` does, and note the CPU that each process spent."""
        before = [cpu(pid) for pid in self.watched]
        measured = await load.run(HOST, self.port, round_, **many)
        measured.cpu = [cpu(pid) - spent for pid, spent in zip(self.watched, before, strict=True)]
        self.made += len(measured.latencies)
        return measured

    def check_ledger(self) -> None:
        """Every call that was made is in the ledger, with its outcome."""
        all_, succeeded = (int(word) for word in furnish(self.environment, "count").split())
        assert succeeded == all_ == self.made, f"{succeeded} of {self.made} calls are in the ledger as succeeded"

    def _followed(self, connection: str, text: str, token: str) -> load.Round:
        def events(call_id: str) -> bytes:
            return load.request("GET", HOST, f"/v1/calls/{call_id}/events", self._headers(token))

        return load.call_and_follow(self._call(connection, text, token, Prefer="respond-async"), events)

    @staticmethod
    def _headers(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "traceparent": TRACEPARENT}

    def _call(self, connection: str, text: str, token: str, **headers: str) -> bytes:
        body, whose = {"arguments": {"text": text}}, self._headers(token)
        return load.request("POST", HOST, f"/v1/tools/{connection}__echo/call", whose | headers, body)


@contextmanager
def running(database_url: str, redis_url: str, echo_url: str, database: int | None = None) -> Iterator[Product]:
    """Run the product from its first answer on, beside the process of its database if that is one."""
    environment = environment_of(database_url, redis_url)
    token, port = furnish(environment, "make", echo_url), stack.free_port()
    web = [
        "uvicorn", "duvo.asgi:application", "--host", HOST, "--port", str(port), "--loop", "uvloop",
        "--http", "duvo.protocol:Protocol", "--lifespan", "off", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    worker = [
        "celery", "--quiet", "--app", "duvo", "worker", "--queues", "calls", "--pool", "threads", "--concurrency", "64",
        "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with ExitStack() as until_end:
        children = [until_end.enter_context(process(*command, environment=environment)) for command in (web, worker)]
        _wait_until_up(port)
        watched = [child.pid for child in children] + ([database] if database else [])
        yield Product(environment, port, token, watched)


def environment_of(database_url: str, redis_url: str) -> dict[str, str]:
    """Return the environment of the product's processes."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "duvo.settings",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "x" * 50,
        "SEAL_KEYS": "eA" * 22 + "==",
        "PUBLIC_URL": f"http://{HOST}",
        "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8",
        "METRICS_TOKEN": "x" * 50,
        "LOG_LEVEL": "WARNING",
    }


@contextmanager
def process(*command: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module that dies with this process."""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore:You're running the worker with superuser", "-m", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def furnish(environment: dict[str, str], *words: str) -> str:
    """Do one thing with the rows, in a process with the product's settings; return what it prints."""
    command = [sys.executable, "-m", "tests.bench.furnish", *words]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used, and its children, such as those of a database."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")  # those that have ended included
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    with suppress(FileNotFoundError):  # one ends at this moment
        own += sum(cpu(int(child)) for child in children)
    return own


def _wait_until_up(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            assert time.monotonic() < deadline, "the web process did not start"
            time.sleep(0.05)
        else:
            return
