"""The product's own processes, started on the database of a test: workers of the queue `calls`, and web processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from celery import current_app
from django.conf import settings
from django.db import connection as database
from redis import Redis

from duvo import stack
from tests.loopback import NO_TLS
from tools.calls import pubsub

PATIENCE = 40.0  # seconds until a process answers on a busy machine
WORKER_PATIENCE = 120.0  # a worker imports everything first
StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@dataclass
class Web:
    """A web process and where it answers."""

    process: subprocess.Popen[bytes]
    base: str

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


StartWeb = Callable[..., Web]


def database_url() -> str:
    """Where this test's database is, for another process."""
    if database.vendor != "postgresql":
        pytest.skip("On SQLite the test's database lives in this process only.")
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database.settings_dict['NAME']}"


class Processes:
    """Starts processes of the product and ends them all; each writes to a log of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {"DATABASE_URL": database_url(), "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8"}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **settings: str) -> subprocess.Popen[bytes]:
        """Run a module of Python, with settings of its own."""
        with (self._folder / f"{command[0]}{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=os.environ | self._environment | settings,
                stdout=log,
                stderr=log,
                preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End everything, politely first."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


@pytest.fixture
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The queues, empty and for this test alone, also where a developer's REDIS_URL is shared by xdist's processes.

    Processes with brokers of their own need not wait for each other.
    """
    name = hashlib.sha256(settings.REDIS_URL.encode()).hexdigest()
    with (tmp_path_factory.getbasetemp().parent / f"queues-{name[:16]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with current_app.connection_for_write() as broker:
            for name in ("calls", "probes", "housekeeping"):
                broker.default_channel.queue_purge(name)
        yield


@pytest.fixture
def processes(queue: None, transactional_db: None, tmp_path: Path) -> Iterator[Processes]:
    """Processes on this test's database; they end with the test, before the queue is another test's."""
    house = Processes(tmp_path)
    yield house
    house.end()


@pytest.fixture
def start_worker(processes: Processes) -> StartWorker:
    """Start workers of the queue `calls` on this test's database; each takes calls when it is returned."""
    command = ["celery", "--quiet", "--app", "duvo", "worker", "--queues", "calls"]
    command += ["--pool", "threads", "--concurrency", "8", "--without-gossip", "--without-mingle"]

    def start(**own: str) -> subprocess.Popen[bytes]:
        with Redis.from_url(settings.REDIS_URL) as redis:
            at_work = redis.pubsub_numsub(pubsub.QUEUED)[0][1]
            worker = processes.start(*command, **own)
            deadline = time.monotonic() + WORKER_PATIENCE
            while redis.pubsub_numsub(pubsub.QUEUED)[0][1] == at_work:
                assert worker.poll() is None, "the worker has ended"
                assert time.monotonic() < deadline, "the worker does not start"
                time.sleep(0.05)
        return worker

    return start


@pytest.fixture
def start_web(processes: Processes) -> StartWeb:
    """Start web processes on this test's database; each answers when it is returned."""

    def start(**own: str) -> Web:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            "uvicorn",
            "duvo.asgi:application",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ]
        web = Web(processes.start(*command, **own), f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + PATIENCE
        with httpx2.Client(trust_env=False, verify=NO_TLS, base_url=web.base) as http:
            while True:
                with suppress(httpx2.TransportError):
                    if http.get("/healthz").status_code == 200:
                        return web
                assert time.monotonic() < deadline, "the web process does not answer"
                time.sleep(0.05)

    return start
