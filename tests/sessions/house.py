"""The product's processes in front of the real Browser: two web processes, a worker, and what ends sessions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import django

from tests.faults.house import House, Web, kill
from tests.servers import postgres, valkey
from tests.sessions.browser import BrowserServer, Pages, pages

LEASE = 5  # seconds
HURRY = 5  # seconds that `browser_wait_for` may take
ASSIGNMENTS = 2


class BrowserHouse(House):
    """Everything that runs; the rows are reached from here, with the settings of the product's processes."""

    browser: BrowserServer
    pages: Pages
    webs: list[Web]

    def open(self) -> None:
        """Start the server and the product, with tables and rows in place."""
        os.environ.update(self._environment)
        django.setup()
        self.pages = self._until_end.enter_context(pages())
        self.browser = BrowserServer(self._folder)
        self.browser.start()
        self._until_end.callback(self.browser.kill)
        self.tokens = _furnish(self.browser.url)
        self.token = self.tokens[0]
        self.webs = [self.start_web(), self.start_web()]
        self.start_worker()
        self.start_worker("housekeeping,probes", threads=2)
        self.beat("tools.sweep_calls", "tools.dispatch_session_ends")

    def kill_web(self, number: int) -> None:
        """End a web process in the middle of whatever it does."""
        kill(self.webs[number].process)

    def stop_web(self, number: int) -> None:
        """Ask a web process to end, as a deployment does."""
        self.webs[number].process.terminate()
        self.webs[number].process.wait(30)

    def replace_web(self, number: int) -> None:
        """Start a web process where another one was."""
        self.webs[number] = self.start_web()

    def through(self, number: int, token: str) -> Web:
        """Return a web process as the holder of a token sees it."""
        return replace(self.webs[number], token=token)

    def approve(self, call_id: str) -> None:
        """Approve a call, as an admin does."""
        from tools.calls import life
        from tools.models import Call

        assert life.approve(Call.objects.get(pk=call_id), by="ada")

    def live(self) -> int:
        """Return how many sessions the product holds."""
        from tools.models import McpSession

        return McpSession.objects.live().count()

    def let_idle(self) -> None:
        """Have all sessions end as if nobody had used them for long; a use of a moment ago may still be written."""
        from django.utils import timezone

        from tools.models import McpSession

        McpSession.objects.live().update(idle_until=timezone.now())

    def log(self) -> str:
        """Return the end of what each process wrote."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2_000:]}" for path in self._folder.glob("*.log"))

    def untold(self) -> int:
        """Return how many sessions have ended of which the server is not told yet."""
        from tools.models import McpSession

        return McpSession.objects.filter(ended_at__isnull=False).exclude(sealed_session="").count()


def _furnish(url: str) -> list[str]:
    """Make the tables, the connection to the browser, and assignments that may use it; return their tokens."""
    from django.core.management import call_command

    from connections.models import Connection, Tenant
    from tools.catalog import probing
    from tools.models import AccessToken, Assignment, Tool

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="acme")
    connection = Connection.objects.create(tenant=tenant, name="Browser", slug="browser", server_url=url)
    report = probing.probe(connection.pk)
    assert report is not None
    assert report.outcome == "passed", report.stages

    def set_tool(name: str, **members: Any) -> None:
        assert Tool.objects.filter(connection=connection, name=name).update(**members) == 1

    set_tool("browser_click", policy="ask")
    set_tool("browser_wait_for", call_timeout=HURRY)
    assignments = [Assignment.objects.create(tenant=tenant, name=f"Job {number}") for number in range(ASSIGNMENTS)]
    return [AccessToken.issue(assignment=assignment)[1] for assignment in assignments]


@contextmanager
def running(folder: Path) -> Iterator[BrowserHouse]:
    """Run the whole house; call it from the main thread."""
    with postgres.cluster() as cluster, valkey.broker() as broker:
        house = BrowserHouse(folder, cluster, broker, LEASE)
        try:
            house.open()
            yield house
        finally:
            house.close()
