"""Playwright's MCP server from npm with Debian's Chromium, and the pages that it is sent to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from duvo import stack
from tests.faults.house import HOST, eventually, kill
from tests.load.machine import below
from tests.node import Package

PACKAGE = "@playwright/mcp@0.0.83"
_PAGE = """<!doctype html><title>{title}</title><h1>{title}</h1><p>Visitor {visitor}</p>
<button onclick="document.title += ' pressed'">Press</button>"""


class BrowserServer:
    """The server; each session has a browser context of its own in one Chromium, which ends with the last of them."""

    def __init__(self, folder: Path) -> None:
        self.port = stack.free_port()
        self.url = f"http://{HOST}:{self.port}/mcp"
        self._package, self._chromium = Package.installed(PACKAGE), chromium()
        self._folder = folder
        self._logs: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers when this returns."""
        command: list[str | Path] = [self._package.node, self._package.home / "cli.js", "--headless", "--isolated"]
        command += [
            "--executable-path",
            self._chromium,
            "--host",
            HOST,
            "--port",
            str(self.port),
            "--allowed-hosts",
            "*",
        ]
        command += ["--output-dir", self._folder / "output", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._logs.append(self._folder / f"browser{len(self._logs)}.log")
        with self._logs[-1].open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"DEBUG": "pw:mcp:test"}, preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
            )  # fmt: skip
        eventually(lambda: b"Listening" in self._logs[-1].read_bytes(), "the browser's server")

    def restart(self) -> None:
        """End it in the middle of whatever it does, and start it again: it knows no session."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it and its browser."""
        assert self._process is not None
        children = self.processes()
        kill(self._process)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def live(self) -> int:
        """Return how many sessions it knows at this moment."""
        log = self._logs[-1].read_text()
        return log.count("create http session") - log.count("delete http session")

    def processes(self) -> list[int]:
        """Return the processes of its browser."""
        assert self._process is not None
        return below(self._process.pid)


def chromium() -> str:
    """Return Debian's Chromium, installed if it is not there yet."""
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if shutil.which("chromium") is None:
        for words in ("update -qq", "install -qq -y --no-install-recommends chromium"):
            subprocess.run([*as_root, "apt-get", *words.split()], check=True, stdin=subprocess.DEVNULL)
    found = shutil.which("chromium")
    assert found is not None, "apt-get has installed no chromium"
    return found


class Pages:
    """Pages with a title each; a visitor is known again by a cookie."""

    def __init__(self, port: int) -> None:
        self._base = f"http://{HOST}:{port}"

    def url(self, title: str, seconds: float = 0) -> str:
        """Return where the page with this title is; it takes so many seconds to load."""
        return f"{self._base}/{title}?seconds={seconds}"


@contextmanager
def pages() -> Iterator[Pages]:
    """Serve pages."""
    visitors = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            time.sleep(float(parse_qs(address.query).get("seconds", ["0"])[0]))
            known = re.search(r"visitor=(\d+)", self.headers.get("Cookie", ""))
            visitor = known[1] if known else str(next(visitors))
            body = _PAGE.format(title=unquote(address.path[1:]), visitor=visitor).encode()
            with suppress(OSError):  # whoever asked is gone
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Set-Cookie", f"visitor={visitor}; Path=/")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield Pages(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
