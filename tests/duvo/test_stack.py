from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from duvo import new_settings, processes, stack

PATIENCE = 120  # seconds; a start takes 5 on an idle machine


class Up:
    """A running `manage.py up`, as somebody with an empty environment starts it."""

    def __init__(self, data: Path, port: int) -> None:
        self.data, self.port = data, port
        self.output = data.parent / f"{data.name}.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(port), "--data", str(data)],
                cwd=stack.BASE_DIR,
                env={"PATH": os.environ["PATH"], "HOME": str(data.parent)},
                stdout=output,
                stderr=output,
                preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
            )

    def said(self, words: str) -> bool:
        return words in self.output.read_text()

    def children(self) -> set[int]:
        """Everything alive that has this stack's data folder in its environment or (Valkey) in its title."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            if process.name == str(self.process.pid):
                continue
            try:
                if str(self.data).encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                    found.add(int(process.name))
            except OSError:
                continue  # it ended meanwhile
        return found


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@contextmanager
def up(data: Path) -> Iterator[Up]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = Up(data, port)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def wait_ready(started: Up) -> None:
    until(lambda: started.said("Ready at") or started.process.poll() is not None, "it never said that it is ready")
    assert started.said(f"Ready at http://127.0.0.1:{started.port}/admin/"), started.output.read_text()


def test_ctrl_c_ends_every_process_and_a_killed_restart_keeps_the_secrets_and_leaves_no_orphan(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as first:
        wait_ready(first)
        assert len(first.children()) >= 5
        secrets = (data / "secrets.env").read_text()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(PATIENCE) == 0, first.output.read_text()
        assert not first.children()
    with up(data) as second:
        wait_ready(second)
        assert (data / "secrets.env").read_text() == secrets
        until(lambda: second.said("probes@"), "no worker came up")  # its pool of processes exists from here on
        second.process.kill()
        second.process.wait()
        until(lambda: not second.children(), f"orphans: {second.children()}")


def test_sigterm_in_the_middle_of_the_start_leaves_no_orphan(tmp_path: Path) -> None:
    with up(tmp_path / "data") as started:
        until(started.children, "nothing was started")
        started.process.terminate()
        assert started.process.wait(PATIENCE) == 0, started.output.read_text()
        assert not started.children()


def test_a_second_stack_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with (
        processes.locked(tmp_path),
        pytest.raises(processes.StackError, match="Another stack runs on"),
        processes.locked(tmp_path),
    ):
        pass


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(processes.StackError, match=rf"^Port {port} is taken by another program; [^.]*\.$"):
            processes.check_port(port)


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first = stack.embedded_environment(tmp_path / "data", port=1)
    second = stack.embedded_environment(tmp_path / "data", port=2)
    other = stack.embedded_environment(tmp_path / "other", port=1)
    assert (first["SECRET_KEY"], first["SEAL_KEYS"]) == (second["SECRET_KEY"], second["SEAL_KEYS"])
    assert other["SECRET_KEY"] != first["SECRET_KEY"]
    assert other["SEAL_KEYS"] != first["SEAL_KEYS"]
    assert stat.S_IMODE((tmp_path / "data" / "secrets.env").stat().st_mode) == 0o600


def test_a_long_data_path_gets_a_short_private_socket(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    path = stack.socket_path(data)
    try:
        assert len(os.fsencode(path)) <= stack.LONGEST_SOCKET_PATH
        assert path == stack.socket_path(data)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        path.parent.rmdir()


def test_what_is_set_in_the_environment_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/duvo")
    monkeypatch.delenv("REDIS_URL")
    stack.prepare(["manage.py", "up", "--data", str(tmp_path)])
    assert os.environ["DATABASE_URL"] == "postgresql://somewhere/duvo"
    assert os.environ["REDIS_URL"] == f"unix://{tmp_path}/valkey.sock"


def test_the_file_of_compose_is_left_to_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a public host, TLS and passwords, none of which this command has."""
    (tmp_path / ".env").write_text(new_settings.env_file("https://duvo.example.com"))
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    for name in ("SECRET_KEY", "PUBLIC_URL", "DATABASE_URL", "ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    stack.prepare(["manage.py", "up", "--data", str(tmp_path)])
    assert os.environ["ENV_FILE"] == os.devnull
    assert os.environ["PUBLIC_URL"] == "http://127.0.0.1:8000"
    assert os.environ["DATABASE_URL"] == f"sqlite:///{tmp_path}/duvo.sqlite3"


def test_once_works_in_a_folder_and_on_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x" * 50)
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    monkeypatch.setenv("EGRESS_ALLOWED_NETWORKS", "")
    arguments = ["manage.py", "demo", "--once"]
    stack.prepare(arguments)
    assert "--temporary" in arguments
    data, port = Path(arguments[-3]), int(arguments[-1])
    assert data.is_dir()
    assert port != stack.DEFAULT_PORT
    (data / "secrets.env").unlink()
    data.rmdir()


async def test_a_program_that_ends_by_itself_ends_the_stack_and_is_named() -> None:
    tree = processes.Stack()
    try:
        await tree.start(processes.Program("broken", [sys.executable, "-c", "raise SystemExit(3)"]))
        with pytest.raises(processes.StackError, match=r"broken ended by itself \(status 3\)"):
            await tree.until_stopped()
    finally:
        await tree.stop()
