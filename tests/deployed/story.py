"""What happens: first user, calls, an upgrade, new keys, deaths, a backup and what becomes of it in an empty place."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import httpx2

from duvo import stack
from tests.deployed.callers import CALLERS, Callers
from tests.deployed.judge import FINAL, Judge
from tests.deployed.processes import BEFORE, THIS, Place, Version, new_key
from tests.faults.house import Server, eventually
from tests.loopback import NO_TLS
from tests.versions import previous

PASSWORD = "correct horse battery staple"
USER = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD, "DJANGO_SUPERUSER_EMAIL": "root@duvo.example"}
IN_NO_HURRY = {"both", "beat"}  # processes that seal nothing in this story: the quick one leaves them alone

Say = Callable[[str], None]


class Story:
    """The story in one place."""

    def __init__(self, folder: Path, say: Say, *, quick: bool) -> None:
        self._folder, self._quick = folder, quick
        self._judge = Judge(say)

    def tell(self) -> list[str]:
        """Play it; return what went wrong."""
        first = THIS if self._quick else self._version_before()
        place = Place(self._folder, first, quick=self._quick)
        try:
            self._play(place)
        except BaseException:
            self._judge.say(place.log())
            raise
        finally:
            place.close()
        return self._judge.faults

    def _play(self, place: Place) -> None:
        server, token = self._first_user(place)
        for role in place.roles[1:]:
            place.start(role)
        callers = Callers(place.bases, token)
        callers.start()
        try:
            self._judge.head()
            self._day(place, callers)
        finally:
            callers.stop()
        for role in reversed(list(place.running)):
            place.stop(role)
        open_ = place.rows(f"SELECT id, state FROM tools_call WHERE state NOT IN {FINAL}")  # noqa: S608 - ours
        self._judge.count(server.executions(), callers, open_)
        if not self._quick:
            self._restore(place, server)

    def _day(self, place: Place, callers: Callers) -> None:
        with self._judge.phase(callers, "calls"):
            eventually(lambda: callers.phase.succeeded > CALLERS, "an answer for each caller", 120)
        if place.version is not THIS:
            with self._judge.phase(callers, "upgrade"):
                place.version, before = THIS, place.version
                place.manage("migrate", "--verbosity", "0")
                self._replace_all(place, callers, drained=before.drained)
        old, new = place.keys[0], new_key()
        with self._judge.phase(callers, "new key last"):
            place.keys = [old, new]
            self._replace_all(place, callers)
        with self._judge.phase(callers, "new key first, rotate"):
            place.keys = [new, old]
            self._replace_all(place, callers)
            place.manage("rotate_seals")
            if not self._quick:
                eventually(lambda: "or dropped if it is older" in place.manage("seals"), "leave to drop the old", 90)
        if not self._quick:
            with self._judge.phase(callers, "old key dropped"):
                place.keys = [new]
                self._replace_all(place, callers)
                place.dump(place.folder / "dump")
        with self._judge.phase(callers, "deaths", unknown_allowed=True):
            for role in ("web-1", "calls"):
                place.kill(role)
                time.sleep(1)
                place.start(role)
            time.sleep(1)
        callers.enter("end")

    def _replace_all(self, place: Place, callers: Callers, *, drained: bool = False) -> None:
        """Replace the processes one after the other, as the help page says: workers get their successor first."""
        for role in [role for role in place.roles if role not in IN_NO_HURRY or not self._quick]:
            if role in place.ports:
                base = f"http://127.0.0.1:{place.ports[role]}"
                if drained:  # the version before hangs whoever connects while it ends
                    callers.bases = [other for other in place.bases if other != base]
                    time.sleep(0.5)
                place.stop(role)
                place.start(role)
                callers.bases = place.bases
            else:
                before = place.running.pop(role, None)
                if role != "beat":
                    place.start(role)
                if before is not None:
                    before.terminate()
                    before.wait(120)
                if role == "beat":  # exactly one
                    place.start(role)

    def _first_user(self, place: Place) -> tuple[Server, str]:
        server_process = place.process("tests.faults.server", root=stack.BASE_DIR, stdout=PIPE)
        assert server_process.stdout is not None
        with server_process.stdout as told:
            server = Server(told.readline().decode().strip())
        token = place.run("tests.faults.furnish", server.url, server.url).split()[0]
        place.manage("createsuperuser", "--noinput", "--username", "root@duvo.example", **USER)
        place.start("web-1")
        with httpx2.Client(trust_env=False, verify=NO_TLS, base_url=place.bases[0], timeout=60) as browser:
            page = browser.get("/admin/login/")
            mark = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
            assert mark is not None, page.text
            form = {"csrfmiddlewaretoken": mark[1], "username": "root@duvo.example", "password": PASSWORD}
            answer = browser.post("/admin/login/", data=form, headers={"Referer": f"{place.bases[0]}/admin/login/"})
        self._judge.expect(answer.status_code == 302, f"the first user cannot sign in: {answer.status_code}")
        return server, token

    def _restore(self, place: Place, server: Server) -> None:
        """Restore the dump into an empty place: nothing that was open there is sent, and new calls are made."""
        began, before = time.monotonic(), server.executions()
        with tempfile.TemporaryDirectory(prefix="duvo-restored-") as name:
            other = Place(Path(name), THIS, quick=True)
            try:
                other.keys = place.keys
                other.restore(place.folder / "dump")
                other.environment |= {key: place.environment[key] for key in ("SECRET_KEY",)}
                self._judge.say(other.manage("restored").strip())
                for role in other.roles:
                    other.start(role)
                open_ = f"SELECT count(*) FROM tools_call WHERE state NOT IN {FINAL}"  # noqa: S608 - ours
                eventually(lambda: other.rows(open_) == [(0,)], "the end of every call")
                time.sleep(2)
                self._judge.expect(server.executions() == before, "the restored place has sent a call once more")
            finally:
                other.close()
        self._judge.say(f"restored and looked at in {time.monotonic() - began:.0f} s")

    def _version_before(self) -> Version:
        root = self._folder / "before"
        root.mkdir()
        if why_not := previous.unpack(root):
            self._judge.say(f"No upgrade is played: {why_not}.")
            return THIS
        return Version(root, BEFORE, drained=True)
