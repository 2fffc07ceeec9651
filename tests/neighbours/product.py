"""The product as `duvo/processes.py` describes it, and the most memory that each of its programs took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx2

from duvo import processes, stack
from tests.faults.house import HOST, Process, eventually, kill
from tests.load.machine import below, peak_memory
from tests.neighbours.plan import Keys

CHECK_EVERY = 30  # seconds; what an attack leaves behind is checked again during it
WEB = "web"


class Product:
    """All its processes; made in the main thread, because they die with the thread that starts them."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, *, prefix: list[str]) -> None:
        self.database_url = database_url
        self.port = stack.free_port()
        self.peaks: dict[str, int] = {}  # MB, of the largest process of a program
        self._folder = folder
        self._prefix = prefix  # in front of each command
        self._programs: dict[str, Process] = {}
        self._environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "duvo.settings",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": "x" * 50,
            "SEAL_KEYS": "eA" * 22 + "==",
            "PUBLIC_URL": f"http://{HOST}",
            "ALLOWED_HOSTS": HOST,
            "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "PROBE_INTERVAL": str(CHECK_EVERY),
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "text",
            "PYTHONWARNINGS": processes.OF_EACH["PYTHONWARNINGS"],
        }

    def furnish(self, attack: str, acme_url: str, rival_port: int) -> Keys:
        """Make the tables and the rows of an attack, and return the keys to them."""
        command = [sys.executable, "-m", "tests.neighbours.furnish", attack, acme_url, str(rival_port)]
        done = subprocess.run(
            self._prefix + command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return Keys.read(done.stdout.splitlines()[-1])

    def start(self) -> None:
        """Start every program; the web process answers when this returns."""
        for program in processes.programs(port=self.port):
            with (self._folder / f"{program.name}.log").open("wb") as log:
                self._programs[program.name] = subprocess.Popen(
                    self._prefix + program.command,
                    env=self._environment | program.environment,
                    stdout=log,
                    stderr=log,
                    preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
                )
        eventually(self._answers, "the web process", processes.START_SECONDS)

    def stop(self) -> None:
        """End every process, also those that workers have started."""
        for process in self._programs.values():
            children = below(process.pid)
            kill(process)
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def look(self) -> int:
        """Note how much memory each program has taken; return that of the largest process in MB."""
        for name, process in self._programs.items():
            for pid in (process.pid, *below(process.pid)):
                with suppress(OSError, IndexError):  # it ended meanwhile
                    self.peaks[name] = max(self.peaks.get(name, 0), peak_memory(pid))
        return max(self.peaks.values(), default=0)

    def died(self) -> list[str]:
        """Return the programs that ended by themselves."""
        return [name for name, process in self._programs.items() if process.poll() is not None]

    def log(self) -> str:
        """Return the end of what each program wrote."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2_000:]}" for path in self._folder.glob("*.log"))

    def _answers(self) -> bool:
        with (
            suppress(httpx2.TransportError),
            httpx2.Client(trust_env=False, base_url=f"http://{HOST}:{self.port}") as http,
        ):
            return http.get("/healthz").status_code == 200
        return False
