"""The examples of the help pages, run as they are written there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connections.forms import ConnectionForm
from connections.models import Connection
from duvo import help_pages, stack
from tests.conftest import House
from tests.live import Api
from tests.processes import PATIENCE
from tools.models import Probe

API_KEY = "key-of-the-example"


def example(page: str, folder: Path, name: str) -> Path:
    """The one program of a page, saved under the name that the page gives it."""
    text = (help_pages.FOLDER / f"{page}.md").read_text()
    [program] = re.findall(r"^```python\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    assert f"`{name}`" in text
    saved = folder / name
    saved.write_text(program)
    return saved


@pytest.fixture
def example_server(tmp_path: Path) -> Iterator[str]:
    """Where the server of *Building custom connections* answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(example("building-custom-connections", tmp_path, "server.py"))],
            env={"PATH": os.environ["PATH"], "API_KEY": API_KEY, "PORT": str(port)},
            stdout=log,
            stderr=log,
            preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
        )
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        assert time.monotonic() < deadline, "the example does not answer"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait()


Connect = Callable[[str], tuple[Connection, Probe]]


@pytest.fixture
def connect(acme: House, example_server: str, probed: Callable[[Connection], Probe], queue: None) -> Connect:
    """Fill in the form with a key, save, and check."""

    def made(key: str) -> tuple[Connection, Probe]:
        entered = {"name": "Stock", "server_url": example_server, "authorization": "api_key", "api_key": key}
        form = ConnectionForm(entered | {"enabled": True}, tenant=acme.tenant, user=acme.admin)
        assert form.is_valid(), form.errors
        connection = form.save()
        return connection, probed(connection)

    return made


def test_the_server_passes_every_stage_of_the_check(connect: Connect) -> None:
    connection, report = connect(API_KEY)
    assert {stage["outcome"] for stage in report.stages} == {"passed"}, report.stages
    assert report.stages[-1]["stage"] == "tools"
    assert connection.headline == "connected"
    tools = {tool.public_name: tool for tool in connection.tools.all()}
    assert set(tools) == {"stock__get_stock", "stock__list_articles", "stock__take_pieces"}
    assert all(tool.availability.usable and tool.description for tool in tools.values())


def test_the_server_lets_nobody_in_with_another_key(connect: Connect) -> None:
    connection, report = connect("another")
    assert (report.outcome, connection.credential_state) == ("failed", "refused")
    assert connection.reachability_state == "reachable"


def test_the_program_lists_and_calls_tools(connect: Connect, acme: House, api: Api, tmp_path: Path) -> None:
    connect(API_KEY)
    program = example("calls-over-rest", tmp_path, "first_call.py")
    environment = {"PATH": os.environ["PATH"], "DUVO_URL": api.base, "DUVO_TOKEN": acme.token()}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(program), *words],
            env=environment | more, capture_output=True, text=True, timeout=4 * PATIENCE, check=False,
        )  # fmt: skip

    listed = run()
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^stock__take_pieces +Take pieces of an article", listed.stdout, re.MULTILINE)

    for _ in range(2):  # the same job, started again
        taken = run("stock__take_pieces", '{"sku": "TEA-001", "count": 20}', JOB_ID="monday")
        assert taken.returncode == 0, taken.stderr
        assert json.loads(taken.stdout) == {"sku": "TEA-001", "pieces": 100}

    too_many = run("stock__take_pieces", '{"sku": "CUP-001", "count": 90}')
    assert too_many.returncode == 1
    assert "Only 40 pieces of CUP-001 are left." in too_many.stdout

    wrong = run("stock__get_stock", '{"sku": "tea"}')
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("arguments_invalid: ")
    assert "/help/errors/#arguments_invalid" in wrong.stderr
    assert acme.tenant.calls.count() == 2
