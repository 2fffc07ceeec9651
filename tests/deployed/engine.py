"""The same as containers, with compose.yaml as it is, where a Docker engine answers.

What a machine's engine needs beside that (a smaller `ulimits`, say) can be named in DEPLOYED_OVERRIDE, a file of
compose; ports 8000, 8001 and 9000 of loopback have to be free.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from duvo import stack
from tests.deployed.callers import CALLERS, Callers
from tests.deployed.judge import FINAL, Judge
from tests.deployed.processes import new_key
from tests.faults.house import Server, eventually

PROJECT = "duvo-deployed"
ADDRESS = "http://127.0.0.1:8000"
ROLES = ["web", "web-2", "worker-calls", "worker-calls-2", "worker-probes", "worker-housekeeping", "beat"]
OVERRIDE = """
services:
  counting:
    image: duvo-connections
    command: [python, -m, tests.faults.server, "0.0.0.0", "9000"]
    volumes: ["{tests}:/srv/duvo/tests:ro"]
    ports: ["127.0.0.1:9000:9000"]
    healthcheck: {{disable: true}}
"""


class Containers:
    """The services of compose.yaml, with a server that counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "override.yaml").write_text(OVERRIDE.format(tests=stack.BASE_DIR / "tests"))
        self.settings: dict[str, str] = {}

    def set(self, **settings: str) -> None:
        """Write the `.env` anew with these settings."""
        self.settings |= settings
        (self._folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def compose(self, *arguments: str, data: bytes | None = None) -> bytes:
        """Run a command of compose; return what it prints."""
        files = ["compose.yaml", str(self._folder / "override.yaml"), os.environ.get("DEPLOYED_OVERRIDE", "")]
        named = [part for file in files if file for part in ("--file", file)]
        command = ["docker", "compose", "--project-name", PROJECT, "--env-file", str(self._folder / ".env"), *named]
        ran = subprocess.run([*command, *arguments], cwd=stack.BASE_DIR, input=data, capture_output=True, check=False)
        assert ran.returncode == 0, f"docker compose {' '.join(arguments)}:\n{ran.stderr.decode()[-3000:]}"
        return ran.stdout

    def manage(self, *arguments: str) -> str:
        """Run a command of manage.py in a container of its own."""
        return self.compose("run", "--rm", "--no-deps", "migrate", "python", "manage.py", *arguments).decode()

    def replace_all(self) -> None:
        """Replace the services one after the other, as the help page says."""
        for role in ROLES:
            self.compose("up", "--detach", "--no-deps", "--force-recreate", "--wait", role)

    def query(self, statement: str, database: str = "duvo") -> str:
        """Ask the database."""
        asked = ("psql", "--username", "duvo", "--dbname", database, "--tuples-only", "--no-align", "--command")
        return self.compose("exec", "-T", "postgres", *asked, statement).decode().strip()


def play(say: Callable[[str], None], *, built: bool) -> list[str]:
    """Play it; return what went wrong. Where there is no engine, say so."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        say("No Docker engine answers here, so the same commands run as plain processes only.")
        return []
    with tempfile.TemporaryDirectory(prefix="duvo-deployed-") as name:
        place = Containers(Path(name))
        if not built:
            subprocess.run([docker, "build", "--tag", "duvo-connections", "."], cwd=stack.BASE_DIR, check=True)
        printing = [docker, "run", "--rm", "duvo-connections", "python", "manage.py", "new_env", ADDRESS]
        printed = subprocess.run(printing, capture_output=True, text=True, check=True).stdout
        said = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line and not line.startswith("#"))
        for of_compose in ("DATABASE_URL", "REDIS_URL"):
            said.pop(of_compose)
        place.set(**said, EGRESS_ALLOWED_NETWORKS="172.31.250.0/24", CALL_LEASE="10")
        judge = Judge(say)
        try:
            _play(place, judge)
        finally:
            place.compose("down", "--volumes", "--timeout", "5")
    return judge.faults


def _play(place: Containers, judge: Judge) -> None:
    began = time.monotonic()
    place.compose("up", "--detach", "--wait")
    judge.say(f"started in {time.monotonic() - began:.0f} s; {_size()}")
    mounted = ("--volume", f"{stack.BASE_DIR / 'tests'}:/srv/duvo/tests:ro")
    furnish = ("python", "-m", "tests.faults.furnish", "http://counting:9000", "http://counting:9000")
    token = place.compose("run", "--rm", "--no-deps", *mounted, "migrate", *furnish).decode().split()[0]
    server = Server("http://127.0.0.1:9000")
    callers = Callers([ADDRESS, "http://127.0.0.1:8001"], token)
    callers.start()
    try:
        _day(place, judge, callers)
    finally:
        callers.stop()
    judge.count(server.executions(), callers, place.query(f"SELECT id FROM tools_call WHERE state NOT IN {FINAL}"))  # noqa: S608 - ours


def _day(place: Containers, judge: Judge, callers: Callers) -> None:
    judge.head()
    with judge.phase(callers, "calls"):
        eventually(lambda: callers.phase.succeeded > CALLERS, "an answer for each caller", 120)
    with judge.phase(callers, "upgrade"):
        place.manage("migrate")
        place.replace_all()
    old, new = place.settings["SEAL_KEYS"], new_key()
    for name, keys in (("new key last", f"{old},{new}"), ("new key first", f"{new},{old}"), ("old key dropped", new)):
        with judge.phase(callers, name):
            if keys == new:
                place.manage("rotate_seals")
            place.set(SEAL_KEYS=keys)
            place.replace_all()
    dump = place.compose("exec", "-T", "postgres", "pg_dump", "--username", "duvo", "--format=custom", "duvo")
    with judge.phase(callers, "deaths", unknown_allowed=True):
        for role in ("web", "worker-calls"):
            place.compose("kill", role)
            place.compose("up", "--detach", "--no-deps", "--wait", role)
    callers.enter("restore")
    place.compose("exec", "-T", "postgres", "createdb", "--username", "duvo", "restored")
    into = ("pg_restore", "--username", "duvo", "--no-owner", "--dbname=restored")
    place.compose("exec", "-T", "postgres", *into, data=dump)
    url = f"DATABASE_URL=postgresql://duvo:{place.settings['POSTGRES_PASSWORD']}@postgres/restored"
    told = place.compose("run", "--rm", "--no-deps", "--env", url, "migrate", "python", "manage.py", "restored")
    judge.say(told.decode().strip())
    judge.expect(place.query(f"SELECT count(*) FROM tools_call WHERE state NOT IN {FINAL}", "restored") == "0",  # noqa: S608
                 "the restored database has open calls")  # fmt: skip


def _size() -> str:
    asked = ["docker", "image", "inspect", "--format", "{{.Size}}", "duvo-connections"]
    size = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return f"the image has {size / 1_000_000:.0f} MB"
