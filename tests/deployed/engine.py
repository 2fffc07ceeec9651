"""The same as containers, with compose.yaml as it is, where a Docker engine answers.

What a machine's engine needs beside that (a smaller `ulimits`, say) can be named in DEPLOYED_OVERRIDE, a file of
compose; port 9000 of loopback has to be free. With `--built` the images are taken as they are: of this
version, and for the upgrade `duvo-connections-before` if it is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from duvo import stack
from tests.deployed.callers import CALLERS, Callers
from tests.deployed.judge import FINAL, Judge
from tests.deployed.processes import new_key
from tests.faults.house import Server, eventually
from tests.loopback import NO_TLS
from tests.versions import previous

PROJECT = "duvo-deployed"
ADDRESS = "http://127.0.0.1:8000"  # of which everybody believes to speak to it; plain http is for loopback only
GATEWAY = "172.31.250.1"  # of compose.yaml: where connections are refused while nobody listens, as a proxy needs it
WEB = {"web": f"http://{GATEWAY}:8000", "web-2": f"http://{GATEWAY}:8001"}
AS_A_PROXY = {"Host": urlsplit(ADDRESS).netloc}
ROLES = [*WEB, "worker-calls", "worker-calls-2", "worker-probes", "worker-housekeeping", "beat"]
THIS, BEFORE = "duvo-connections", "duvo-connections-before"
SETTINGS = "DJANGO_SETTINGS_MODULE=duvo.settings"  # for what neither manage.py nor a server starts
IDLE = 30  # seconds in which an idle product is listened to
# The server that counts, which outlives every version.
OVERRIDE = f"""
services:
  counting:
    image: {THIS}
    command: [python, -m, tests.faults.server, "0.0.0.0", "9000"]
    volumes: ["{stack.BASE_DIR}/tests:/srv/duvo/tests:ro"]
    ports: ["127.0.0.1:9000:9000"]
    healthcheck:
      test: [CMD, python, -c, "import socket; socket.create_connection(('127.0.0.1', 9000), 4)"]
      interval: 2s
"""


class Containers:
    """The services of compose.yaml, with a server that counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settings: dict[str, str] = {}
        self.take(THIS)

    def take(self, image: str) -> None:
        """Have the product's services run this image from their next start on."""
        named = "".join(f"  {role}:\n    image: {image}\n" for role in ("migrate", *ROLES))
        (self._folder / "override.yaml").write_text(OVERRIDE + named)

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

    def replace_all(self, callers: Callers, *, drained: bool = False) -> None:
        """Replace the services one after the other, as the help page says."""
        for role in ROLES:
            if drained and role in WEB:  # the version before hangs whoever connects while it ends
                callers.bases = [base for other, base in WEB.items() if other != role]
                time.sleep(0.5)
            self.compose("up", "--detach", "--no-deps", "--force-recreate", "--wait", role)
            callers.bases = list(WEB.values())

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
        folder = Path(name)
        if not built:
            _build(THIS, stack.BASE_DIR)
        before, why_not = _version_before(folder, built=built)
        if why_not:
            say(f"No upgrade is played: {why_not}.")
        printing = [docker, "run", "--rm", THIS, "python", "manage.py", "new_env", ADDRESS]
        printed = subprocess.run(printing, capture_output=True, text=True, check=True).stdout
        said = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line and not line.startswith("#"))
        for of_compose in ("DATABASE_URL", "REDIS_URL"):
            said.pop(of_compose)
        place = Containers(folder)
        place.set(**said, EGRESS_ALLOWED_NETWORKS="172.31.250.0/24", CALL_LEASE="10", WEB_ADDRESS=GATEWAY)
        judge = Judge(say)
        try:
            _play(place, judge, before)
        except BaseException:
            say(place.compose("logs", "--no-color", "--tail", "15").decode())
            raise
        finally:
            place.compose("down", "--volumes", "--timeout", "5")
    return judge.faults


def _play(place: Containers, judge: Judge, before: Path | None) -> None:
    began = time.monotonic()
    place.take(BEFORE if before else THIS)
    place.compose("up", "--detach", "--wait")
    judge.say(f"started in {time.monotonic() - began:.0f} s; {_size()}")
    more = ("--volume", f"{before or stack.BASE_DIR}/tests:/srv/duvo/tests:ro", "--env", SETTINGS)
    furnish = ("python", "-m", "tests.faults.furnish", "http://counting:9000", "http://counting:9000")
    token = place.compose("run", "--rm", "--no-deps", *more, "migrate", *furnish).decode().split()[0]
    server = Server("http://127.0.0.1:9000")
    callers = Callers(list(WEB.values()), token, AS_A_PROXY)
    callers.start()
    try:
        _day(place, judge, callers, upgrade=before is not None)
    finally:
        callers.stop()
    judge.count(server.executions(), callers, place.query(f"SELECT id FROM tools_call WHERE state NOT IN {FINAL}"))  # noqa: S608 - ours
    _look_at_idle(place, judge)


def _day(place: Containers, judge: Judge, callers: Callers, *, upgrade: bool) -> None:
    judge.head()
    with judge.phase(callers, "calls"):
        eventually(lambda: callers.phase.succeeded > CALLERS, "an answer for each caller", 120)
    if upgrade:
        with judge.phase(callers, "upgrade"):
            place.take(THIS)
            place.manage("migrate", "--verbosity", "0")
            place.replace_all(callers, drained=True)
    with judge.phase(callers, "first user"):
        _first_user(place, judge)
    old, new = place.settings["SEAL_KEYS"], new_key()
    for name, keys in (("new key last", f"{old},{new}"), ("new key first", f"{new},{old}"), ("old key dropped", new)):
        with judge.phase(callers, name):
            if keys == new:
                place.manage("rotate_seals")
                eventually(
                    lambda: "or dropped if it is older" in place.manage("seals"), "leave to drop the old key", 90
                )
            place.set(SEAL_KEYS=keys)
            place.replace_all(callers)
    dump = place.compose("exec", "-T", "postgres", "pg_dump", "--username", "duvo", "--format=custom", "duvo")
    with judge.phase(callers, "deaths", unknown_allowed=True):
        for role in ("web", "worker-calls"):
            place.compose("kill", role)
            place.compose("up", "--detach", "--no-deps", "--wait", role)
    with judge.phase(callers, "restore", unknown_allowed=True):
        _restore(place, judge, dump)


def _first_user(place: Containers, judge: Judge) -> None:
    """Make the first admin with the command that compose.yaml names, and come in by the address that it prints."""
    start = ("manage.py", "start", "--email", "ada@beans.example", "--organization", "Beans")
    printed = place.compose("run", "--rm", "web", "python", *start).decode()
    found = re.search(rf"{ADDRESS}(\S+key=\S+)", printed)
    assert found is not None, printed
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60, base_url=WEB["web"], headers=AS_A_PROXY) as browser:
        page = browser.get(found[1])
        mark = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert mark is not None, page.text
        password = new_key()
        form = {"csrfmiddlewaretoken": mark[1], "name": "Ada", "password1": password, "password2": password}
        browser.post(found[1], data=form, headers={"Referer": found[0]})
        home = browser.get("/admin/")
    judge.expect(home.status_code == 200, f"the first user does not come in: {home.status_code}")


def _restore(place: Containers, judge: Judge, dump: bytes) -> None:
    """Restore the dump beside the database: no call that was open in it is left to be sent."""
    place.compose("exec", "-T", "postgres", "createdb", "--username", "duvo", "restored")
    into = ("pg_restore", "--username", "duvo", "--no-owner", "--dbname=restored")
    place.compose("exec", "-T", "postgres", *into, data=dump)
    url = f"DATABASE_URL=postgresql://duvo:{place.settings['POSTGRES_PASSWORD']}@postgres/restored"
    told = place.compose("run", "--rm", "--no-deps", "--env", url, "migrate", "python", "manage.py", "restored")
    judge.say(told.decode().strip())
    judge.expect(place.query(f"SELECT count(*) FROM tools_call WHERE state NOT IN {FINAL}", "restored") == "0",  # noqa: S608
                 "the restored database has open calls")  # fmt: skip


def _look_at_idle(place: Containers, judge: Judge) -> None:
    """Say what the product's containers hold and write when nothing is asked of them, and that they may do nothing."""
    time.sleep(10 + IDLE)  # the first seconds belong to the last calls
    lines = place.compose("logs", "--no-log-prefix", "--since", f"{IDLE}s", *ROLES).decode().splitlines()
    judge.say(f"idle: {len(lines)} lines of log in {IDLE} s")
    for role in ROLES:
        held = place.compose("exec", "-T", role, "sh", "-c", _HELD).decode().split()
        judge.say(f"  {role:<22}{int(held[0]) / 1024:.0f} MB")
        judge.expect(held[1:] == ["0000000000000000", "read-only"], f"{role} may do too much: {held[1:]}")


# Resident memory, what processes share counted once; the most capabilities; and whether the root can be written.
_HELD = """
cat /proc/[0-9]*/smaps_rollup 2> /dev/null | awk '/^Pss:/ {held += $2} END {print held}'
awk '/^CapBnd:/ {print $2}' /proc/1/status
touch /srv/duvo/written 2> /dev/null && echo written || echo read-only
"""


def _version_before(folder: Path, *, built: bool) -> tuple[Path | None, str]:
    """Return where the files of the version before are, of which there is an image then, or why there is none."""
    root = folder / "before"
    root.mkdir()
    if why_not := previous.unpack(root):
        return None, why_not
    if not built:
        _build(BEFORE, root)
    elif subprocess.run(["docker", "image", "inspect", BEFORE], capture_output=True, check=False).returncode:
        return None, f"there is no image {BEFORE}"
    return root, ""


def _build(image: str, root: Path) -> None:
    # PYTHON_IMAGE is handed on where it is set.
    subprocess.run(["docker", "build", "--build-arg", "PYTHON_IMAGE", "--tag", image, "."], cwd=root, check=True)


def _size() -> str:
    asked = ["docker", "image", "inspect", "--format", "{{.Size}}", THIS]
    size = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return f"the image has {size / 1_000_000:.0f} MB"
