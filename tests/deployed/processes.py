"""The production commands as plain processes, on a PostgreSQL and a Valkey of their own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg

from duvo import stack
from tests.commands import commands
from tests.faults.house import PATIENCE, eventually
from tests.loopback import NO_TLS
from tests.servers import postgres, valkey

HOST = "127.0.0.1"
LEASE = 4  # seconds
START = 180.0  # seconds that a process may take to start on a busy machine
Process = subprocess.Popen[bytes]


@dataclass
class Version:
    """One version of the product: where its files are, and how its web processes are started."""

    root: Path
    web: list[str]  # to be followed by `--port`
    drained: bool = False  # whether a proxy has to take it out before it is told to stop


THIS = Version(stack.BASE_DIR, ["duvo.serve"])
BEFORE = [
    *("uvicorn", "duvo.asgi:application", "--loop", "uvloop", "--http", "duvo.protocol:Protocol", "--lifespan", "off"),
    *("--no-server-header", "--no-proxy-headers", "--timeout-graceful-shutdown", "30"),
]


class Place:
    """Everything that runs in one place; made in the main thread, with which its processes die."""

    def __init__(self, folder: Path, version: Version, *, quick: bool) -> None:
        self.folder, self.version, self.quick = folder, version, quick
        self.until_end = ExitStack()
        self.cluster = self.until_end.enter_context(postgres.cluster())
        self.broker = self.until_end.enter_context(valkey.broker())
        self.keys = [_key()]
        self.environment = self._new_environment()
        self.ports = {"web-1": stack.free_port(), "web-2": stack.free_port()}
        self.running: dict[str, Process] = {}
        self._started = 0

    @property
    def bases(self) -> list[str]:
        return [f"http://{HOST}:{port}" for port in self.ports.values()]

    @property
    def roles(self) -> list[str]:
        """The processes in the order in which they are replaced."""
        return [*self.ports, *self._workers(), "beat"]

    def manage(self, *arguments: str, **more: str) -> str:
        """Run a command of this version; return what it says."""
        told = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=self.version.root, env=self._now() | more,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, f"manage.py {' '.join(arguments)}:\n{told.stdout[-3000:]}"
        return told.stdout

    def run(self, module: str, *arguments: str) -> str:
        """Run a module of this version's tests; return what it prints."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, cwd=self.version.root, env=self._now(), capture_output=True, text=True, check=True
        ).stdout

    def start(self, role: str) -> None:
        """Start a process of this version with the keys of this moment; a web process answers when this returns."""
        port = self.ports.get(role)
        if port is None:
            # A worker and its successor are there at the same time, each with a name of its own.
            words = self._workers().get(role, ["celery", "-q", "-A", "duvo", "beat"])
            self.running[role] = self.process(*(word.replace("@%h", f"{self._started}@%h") for word in words))
            return
        workers = [] if self.version.drained else ["--workers", "1" if self.quick else "2"]
        self.running[role] = self.process(*self.version.web, "--port", str(port), *workers)
        eventually(lambda: self._is_ready(port), role, START)

    def stop(self, role: str) -> float:
        """Tell a process to stop, and return how many seconds that took."""
        process, began = self.running.pop(role), time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        return time.monotonic() - began

    def kill(self, role: str) -> None:
        """End a process in the middle of whatever it does."""
        process = self.running.pop(role)
        process.kill()
        process.wait()

    def process(self, *command: str, root: Path | None = None, **more: object) -> Process:
        self._started += 1
        with (self.folder / f"{self._started:03}-{command[0]}.log").open("wb") as log:
            options = {"stdout": log, "stderr": log, **more}
            process: Process = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "-m", *command],
                cwd=root or self.version.root,
                env=self._now(),
                preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
                **options,
            )
        self.until_end.callback(_end, process)
        return process

    def dump(self, file: Path) -> None:
        """Write a dump of the database, as the help page says."""
        url = self.cluster.url
        subprocess.run([self.cluster.program("pg_dump"), "-Fc", f"--dbname={url}", f"--file={file}"], check=True)

    def restore(self, file: Path) -> None:
        """Read a dump into this place's empty database."""
        url = self.cluster.url
        subprocess.run([self.cluster.program("pg_restore"), "--no-owner", f"--dbname={url}", str(file)], check=True)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.cluster.url, autocommit=True) as database:
            return database.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]

    def close(self) -> None:
        self.until_end.close()

    def log(self) -> str:
        """Return the end of what each process wrote."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1_500:]}" for path in sorted(self.folder.glob("*.log")))

    def _workers(self) -> dict[str, list[str]]:
        """The workers by their queues, as the help page has them; in a hurry those of two queues are one."""
        said = {words[words.index("-Q") + 1]: words for words in commands() if "worker" in words}
        if not self.quick:
            return said
        both = ["celery", "-q", "-A", "duvo", "worker", "-Q", "housekeeping,probes", "-P", "threads", "-c", "4"]
        both += ["-n", "both@%h"]
        return {"calls": said["calls"], "both": both}

    def _is_ready(self, port: int) -> bool:
        with suppress(httpx2.TransportError), httpx2.Client(trust_env=False, verify=NO_TLS, timeout=PATIENCE) as http:
            return http.get(f"http://{HOST}:{port}/readyz").status_code == 200
        return False

    def _now(self) -> dict[str, str]:
        return self.environment | {"SEAL_KEYS": ",".join(self.keys)}

    def _new_environment(self) -> dict[str, str]:
        """Return what `manage.py new_env` prints, with the servers of this place."""
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        command = [sys.executable, "manage.py", "new_env", f"http://{HOST}"]
        printed = subprocess.run(
            command, cwd=stack.BASE_DIR, env=bare | {"ENV_FILE": os.devnull}, capture_output=True, text=True, check=True
        ).stdout
        said = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line and not line.startswith("#"))
        return (
            bare
            | said
            | {
                "ENV_FILE": os.devnull,
                "DATABASE_URL": self.cluster.url,
                "DJANGO_SETTINGS_MODULE": "duvo.settings",
                "REDIS_URL": self.broker.url,
                "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8",
                "CALL_LEASE": str(LEASE),
                "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            }
        )


def _end(process: Process) -> None:
    process.kill()
    process.wait()


def _key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


def new_key() -> str:
    """Return a key for SEAL_KEYS."""
    return _key()
