"""The product as it runs in production, on databases of its own, with a server that counts: something to break.

Web processes, workers and the sweeper's worker are real processes. Beat is a thread here that sends its messages every
second instead of every half minute, also while the broker is away.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from celery import Celery

from duvo import stack
from tests.loopback import NO_TLS
from tests.servers import postgres, valkey

PATIENCE = 40.0  # seconds until a process answers on a busy machine
LOOK_EVERY = 0.05  # seconds
HOST = "127.0.0.1"
SWEEP = 1.0  # seconds between two sweeps

Process = subprocess.Popen[bytes]


def eventually(look: Any, what: str, within: float = PATIENCE) -> Any:
    """Return the first truth that `look` returns; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come within {within:.0f} seconds"
        time.sleep(LOOK_EVERY)
    return found


@dataclass(frozen=True)
class Server:
    """The server that counts, from outside: what it has done, and a call's arrival to wait for."""

    url: str

    def arrived(self, marker: str, times: int = 1) -> None:
        """Return when a call has arrived so many times."""
        self._ask("GET", f"/arrivals/{marker}/{times}")

    def answered(self, marker: str, times: int = 1) -> None:
        """Return when so many of its calls are being answered."""
        self._ask("GET", f"/answers/{marker}/{times}")

    def let_go(self, marker: str) -> None:
        """Have what is held answered."""
        self._ask("POST", f"/go/{marker}")

    def executions(self) -> dict[str, int]:
        """How often each marker was executed."""
        return dict(self._ask("GET", "/counts")["executions"])

    def most_here(self) -> int:
        """The most calls that were in its hands at once."""
        return int(self._ask("GET", "/counts")["most_here"])

    def _ask(self, method: str, path: str) -> Any:
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=PATIENCE) as http:
            return http.request(method, self.url + path).json()


class House:
    """Everything that runs; made in the main thread, because its processes die with the thread that starts them."""

    def __init__(self, folder: Path, cluster: postgres.Cluster, broker: valkey.Broker, lease: int) -> None:
        self.cluster, self.broker, self.lease = cluster, broker, lease
        self._folder = folder
        self._until_end = ExitStack()
        self._environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "duvo.settings",
            "DATABASE_URL": cluster.url,
            "REDIS_URL": broker.url,
            "SECRET_KEY": "x" * 50,
            "SEAL_KEYS": "eA" * 22 + "==",
            "PUBLIC_URL": f"http://{HOST}",
            "ALLOWED_HOSTS": HOST,
            "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CALL_LEASE": str(lease),
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "text",
        }
        self._started = 0

    def open(self) -> None:
        """Start the servers, the web process and the sweeper, with tables and rows in place."""
        self.server, self.other = self._start_server(), self._start_server()
        furnishing = [sys.executable, "-m", "tests.faults.furnish", self.server.url, self.other.url]
        done = subprocess.run(furnishing, env=self._environment, stdout=subprocess.PIPE, check=True)
        self.tokens = done.stdout.decode().split()
        self.token = self.tokens[0]
        self.web = self.start_web()
        self.start_worker("housekeeping", threads=1)
        self.beat("tools.sweep_calls")

    def close(self) -> None:
        """End everything."""
        self._until_end.close()

    def beat(self, *tasks: str) -> None:
        """Have these tasks run every second from now on."""
        stopping = threading.Event()
        sweeper = threading.Thread(target=self._beat_until, args=(stopping, tasks), name="beat", daemon=True)
        sweeper.start()
        self._until_end.callback(sweeper.join)
        self._until_end.callback(stopping.set)

    def start(self, *command: str, **more: Any) -> Process:
        """Run a module of Python, with a log of its own."""
        self._started += 1
        with (self._folder / f"{self._started:02}-{command[0]}.log").open("wb") as log:
            process: Process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self._environment,
                preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
                **{"stdout": log, "stderr": log, **more},
            )
        self._until_end.callback(kill, process)
        return process

    def start_worker(self, queues: str = "calls", *, threads: int = 8) -> Process:
        """Start a worker; an organization alone gets half of its threads."""
        return self.start(
            "celery", "--quiet", "--app", "duvo", "worker", "--queues", queues, "--pool", "threads",
            "--concurrency", str(threads), "--without-gossip", "--without-mingle", "--hostname", f"{self._started}@%h",
        )  # fmt: skip

    def start_web(self) -> Web:
        """Start a web process; it answers when it is returned."""
        port = stack.free_port()
        process = self.start(
            "uvicorn", "duvo.asgi:application", "--host", HOST, "--port", str(port), "--lifespan", "off",
            "--loop", "uvloop", "--http", "duvo.protocol:Protocol", "--no-access-log", "--log-level", "warning",
        )  # fmt: skip
        web = Web(process, port, self.token)
        eventually(web.answers, "the web process")
        return web

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with psycopg.connect(self.cluster.url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def locked(self, statement: str, *parameters: Any) -> Iterator[None]:
        """Hold the locks that a statement takes; who needs them waits."""
        with psycopg.connect(self.cluster.url) as connection:
            connection.execute(statement, parameters)
            yield
            connection.rollback()

    def stuck_on_a_lock(self, words: str) -> bool:
        """Whether a statement with these words waits for a lock."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ILIKE %s"
        return bool(self.rows(waiting, f"%{words}%"))

    def _start_server(self) -> Server:
        process = self.start("tests.faults.server", stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as told:
            return Server(told.readline().decode().strip())

    def _beat_until(self, stopping: threading.Event, tasks: tuple[str, ...]) -> None:
        beat = Celery("beat", broker=self.broker.url.replace("unix://", "redis+socket://", 1))
        while not stopping.wait(SWEEP):
            with suppress(Exception), beat.connection_for_write() as connection:  # also while the broker is away
                for task in tasks:
                    beat.send_task(
                        task, queue="housekeeping", expires=5, connection=connection, retry=False, ignore_result=True
                    )


@dataclass
class Web:
    """A web process and where it answers."""

    process: Process
    port: int
    token: str

    def answers(self) -> bool:
        """Whether it is up."""
        with suppress(httpx2.TransportError), self._client(timeout=2) as http:
            return http.get("/healthz").status_code == 200
        return False

    def reaches_the_database(self) -> bool:
        return self.get("/readyz?require=database").status_code == 200

    def get(self, path: str, **headers: str) -> httpx2.Response:
        with self._client(timeout=PATIENCE) as http:
            return http.get(path, headers=headers)

    def request(self, method: str, path: str) -> httpx2.Response:
        with self._client(timeout=PATIENCE) as http:
            return http.request(method, path)

    def call(self, tool: str, arguments: dict[str, Any], **headers: str) -> httpx2.Response:
        """Call a tool; `idempotency_key` and `prefer` become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self._client(timeout=PATIENCE) as http:
            return http.post(f"/v1/tools/{tool}/call", json={"arguments": arguments}, headers=named)

    def _client(self, timeout: float) -> httpx2.Client:
        base, headers = f"http://{HOST}:{self.port}", {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(trust_env=False, verify=NO_TLS, base_url=base, headers=headers, timeout=timeout)


def kill(process: Process) -> None:
    """End a process in the middle of whatever it does, also a stopped one."""
    process.kill()
    process.wait()


@contextmanager
def running(folder: Path, *, lease: int, durable: bool = False) -> Iterator[House]:
    """Run the whole house, on a `durable` PostgreSQL that waits for the disk; call it from the main thread."""
    with postgres.cluster(durable=durable) as cluster, valkey.broker() as broker:
        house = House(folder, cluster, broker, lease)
        try:
            house.open()
            yield house
        finally:
            house.close()
