"""A real browser on the real product: Debian's Chromium, the web in a thread, a Celery worker in a process."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

from connections.models import User
from duvo import stack
from tests.conftest import PASSWORD
from tests.tools.conftest import open_shop  # noqa: F401 - a fixture

PATIENCE = 40_000  # milliseconds; a cold worker on a busy machine
FLAGS = [
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--disable-quic",
]  # fmt: skip
PICTURES = {"form", "list", "start", "inbox"}  # those of README, wide and light
WIDER = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
WIDE = {"width": 1280, "height": 900}
SCREENSHOTS = Path(settings.BASE_DIR) / "duvo" / "static" / "duvo" / "screenshots"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run browser tests last: Playwright's event loop stays in the thread, and no test of a coroutine could follow."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Browser tests need Chromium: apt-get install chromium")
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    # Playwright keeps an event loop in this thread, in which Django would refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def worker(queue: None, transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """A worker on this test's database; of `housekeeping`, too, for a check that waits until another one has ended."""
    name = settings.DATABASES["default"]["NAME"]
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"
    if url.startswith("sqlite"):
        pytest.skip("On SQLite the test's database lives in this process only.")
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "duvo", "worker", "--queues", "probes,housekeeping"]
    command += ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {"DATABASE_URL": url, "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with (tmp_path / "worker.log").open("w") as log, running(command, environment, log):
        yield


@pytest.fixture
def order_system(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The sample server, in a process of its own: its URL and its API key."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_urlsafe(24)
    command = [sys.executable, "-m", "duvo.sample_server", "--port", str(port)]
    with (tmp_path / "server.log").open("w") as log, running(command, {"SAMPLE_SERVER_KEY": key}, log):
        eventually(lambda: answers(port), "the sample server")
        yield f"http://127.0.0.1:{port}/mcp", key


@contextmanager
def running(command: list[str], environment: dict[str, str], log: IO[str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=log,
        stderr=log,
        preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
    )
    yield
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Visitor:
    """A person at the browser, and what the browser complained about."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Response | None:
        return self.page.goto(f"{self.base}{path}")

    def hear(self, message: ConsoleMessage) -> None:
        """Note an error of our own pages; a provider's page may have its own."""
        if message.type == "error" and message.location["url"].startswith((self.base, "chrome-error:")):
            self.complaints.append(f"{message.text} {message.location['url']}")

    def shoot(self, name: str, folder: Path) -> None:
        """Keep a picture for whoever looks into the failure, and for the README when it is asked for."""
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)
        if os.environ.get("SCREENSHOTS") == "1" and name in PICTURES and self.page.viewport_size == WIDE:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def violations(self) -> list[str]:
        """What axe finds on this page when it is there as a whole, one line each, and whether it scrolls sideways."""
        self.page.wait_for_load_state()
        # What is in order need not be described node by node: a third of the time on a long page.
        options = {"preload": False, "resultTypes": ["violations"]}
        found = Axe().run(self.page, options=options).response["violations"]
        wide = ["the page is wider than the window"] if self.page.evaluate(WIDER) else []
        return wide + [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: Browser, live_server_url: str, transactional_db: None) -> Iterator[Visit]:
    """Sign in through the login page: `visit(acme.admin, width=375, colours="dark")`."""
    contexts = []

    def sign_in(user: User | None, width: int = 1280, colours: Any = "light", script: bool = True) -> Visitor:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=colours, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visitor = Visitor(page, live_server_url)
        page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        page.on("console", visitor.hear)
        if user is not None:
            visitor.open("/admin/")
            page.fill("#id_username", user.username)
            page.fill("#id_password", PASSWORD)
            page.click("input[type=submit]")
            page.wait_for_selector("#user-tools")
        return visitor

    yield sign_in
    for context in contexts:
        context.close()


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until it is true, at most as long as the browser waits."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
