"""The commands of the help page *Running it*, as written: what they print, and what strangers meet behind them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx2
from celery import current_app

from duvo import stack
from tests.commands import commands
from tests.conftest import House
from tests.loopback import NO_TLS
from tests.processes import PATIENCE, Processes

MARK = "m4rker-of-a-secret"
FROM_OUTSIDE = {"Host": "duvo.example.com", "X-Forwarded-Proto": "https"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until_it_answers(http: httpx2.Client) -> None:
    deadline = time.monotonic() + 4 * PATIENCE
    while True:
        with suppress(httpx2.TransportError):
            if http.get("/healthz").status_code == 200:
                return
        assert time.monotonic() < deadline, "the web process does not answer"
        time.sleep(0.05)


def printed(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("*.log")))


def test_what_runs_as_the_help_page_says_prints_no_secret_and_names_itself_nowhere(
    processes: Processes, acme: House, tmp_path: Path
) -> None:
    """One start for many questions: four web processes and the workers take a while."""
    processes._environment |= {
        "PUBLIC_URL": "https://duvo.example.com",
        "ALLOWED_HOSTS": "duvo.example.com,127.0.0.1",
        "TRUST_FORWARDED_PROTO": "true",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }
    web, *workers = commands()
    assert [words[0] for words in workers] == ["celery"] * len(workers)
    port = free_port()
    processes.start(*web, "--port", str(port))
    for words in workers:
        processes.start(*words)
    for task in ("connections.forget_sessions", "no.such_task"):
        current_app.send_task(task, kwargs={"marked": MARK}, queue=queue_of(workers))
    with httpx2.Client(
        trust_env=False, verify=NO_TLS, base_url=f"http://127.0.0.1:{port}", headers=FROM_OUTSIDE, timeout=60
    ) as http:
        until_it_answers(http)
        query = {"code": MARK, "state": MARK, "access_token": MARK}
        door = f"/v1/tools/{acme.connection().slug}__x/call"
        answers = [
            http.get("/v1/oauth/mcp/callback", params=query),
            http.get("/v1/tools", params=query, headers={"Authorization": f"Bearer {MARK}"}),
            http.post(door, params=query, json={"arguments": {"text": MARK}}),
            http.get("/no/such/page", params=query),
            http.get("/admin/", params=query),
            http.post("/admin/login/", params=query, headers={"Referer": f"https://other.example/?{MARK}"}),
            http.get("/healthz", params=query, headers={"Connection": "Upgrade", "Upgrade": "websocket"}),
            http.get("/admin/", headers={"Host": f"{MARK}.example"}),
            http.get("/v1/oauth/mcp/callback", params=query, headers={"X-Forwarded-Proto": "http"}),
            http.post(door, params=query, json={}, headers={"X-Forwarded-Proto": "http"}),
        ]
    statuses = [400, 401, 401, 404, 302, 403, 404, 400, 301, 301]
    assert [answer.status_code for answer in answers] == statuses, printed(tmp_path)
    assert answers[-1].headers["location"].startswith(f"https://duvo.example.com{door}?")
    for answer in answers:
        assert "server" not in answer.headers
    for answer in answers[:6]:
        assert answer.headers["strict-transport-security"] == "max-age=31536000"  # the domain's owner says more
    deadline = time.monotonic() + 4 * PATIENCE
    while not all(said in printed(tmp_path) for said in ("unexpected keyword", "unregistered task")):
        assert time.monotonic() < deadline, "the worker did not get to its task"
        time.sleep(0.1)
    assert MARK not in printed(tmp_path)
    assert "A request named a host" in printed(tmp_path)  # the lines are there


def queue_of(workers: list[list[str]]) -> str:
    """A queue that one of the commands serves."""
    options = [words[at + 1] for words in workers for at, word in enumerate(words) if word in {"-Q", "--queues"}]
    return options[-1].partition(",")[0]


def test_no_two_workers_share_a_name() -> None:
    names = [words[words.index("-n") + 1] for words in commands() if "worker" in words]
    assert len({name.partition("@")[0] for name in names}) == len(names) == 3


VARIANTS = """
import logging, sys, django
from uvicorn import Config
from uvicorn.config import LOGGING_CONFIG
from django.conf import settings
from duvo.logging import configure
django.setup()
mark = sys.argv[1]
for options in ({}, {"access_log": True}, {"log_level": "trace"}, {"log_config": LOGGING_CONFIG, "reload": True}):
    Config("duvo.asgi:application", **options)  # sets the loggers up, and then the product is loaded
    configure({"level": "DEBUG", "format": "text"})
    for name in ("uvicorn.access", "gunicorn.access", "hypercorn.access", "daphne.access", "django.server"):
        assert not logging.getLogger(name).hasHandlers(), (name, options)
        logging.getLogger(name).critical("GET /callback?code=%s", mark)
    logging.getLogger("uvicorn.asgi").log(5, "scope=%s", {"query_string": mark})
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" [accepted]', "127.0.0.1", f"/x?code={mark}")
    logging.getLogger("django.request").warning("Not Found: %s", f"/x?code={mark}")
    logging.getLogger("django.security.csrf").warning("Forbidden (%s): %s", f"Referer https://x/?{mark}", "/x")
    logging.getLogger("celery.worker.consumer.consumer").error("Received %s\\n\\nwhole body: %s", "x", mark)
"""


def test_no_option_of_a_server_brings_the_query_strings_back() -> None:
    command = [sys.executable, "-c", VARIANTS, MARK]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False, cwd=stack.BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "duvo.settings"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "Not Found: /x" in said.stderr
    assert MARK not in said.stdout + said.stderr
