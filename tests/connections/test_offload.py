"""Heavy work is done in processes apart: whatever becomes of one, this process, its other work and tenants go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connections import offload

JOBS = "tests.connections.jobs:"
ROOT = Path(__file__).resolve().parents[2]


def done(job: str, *parts: bytes, tenant: str = "acme", seconds: float = 3.0) -> list[bytes]:
    return offload.run_sync(JOBS + job, *parts, tenant=tenant, seconds=seconds)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not lives(pid)


def test_bytes_go_there_and_come_back() -> None:
    assert done("same", b"") == [b""]
    large = os.urandom(5_000_000)
    assert done("same", large) == [large]


def test_who_works_on_what_strangers_wrote_has_no_secret() -> None:
    os.environ["DUVO_MARKER"] = "gl-marker"
    try:
        pid, environment = done("who")
    finally:
        del os.environ["DUVO_MARKER"]
    assert int(pid) != os.getpid()
    assert b"gl-marker" not in environment
    assert b"SEAL_KEYS" not in environment
    assert b"SECRET_KEY" not in Path(f"/proc/{int(pid)}/environ").read_bytes()


@pytest.mark.parametrize("job", ["spin", "eat", "die"])
def test_work_that_has_no_end_ends_its_process_and_the_next_is_done(job: str) -> None:
    with pytest.raises(offload.TooMuchWork):
        done(job, seconds=0.3)
    assert done("same", b"x") == [b"x"]


def test_a_fault_of_ours_is_told_without_what_a_stranger_wrote() -> None:
    with pytest.raises(offload.Broken) as fault:
        done("fail")
    assert "ValueError" in fault.value.sentence
    assert "secret" not in fault.value.sentence
    assert done("same", b"x") == [b"x"]


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced() -> None:
    before = int(done("who")[0])
    os.kill(before, signal.SIGKILL)
    assert eventually_gone(before)
    assert int(done("who")[0]) != before


def test_a_process_that_has_grown_is_replaced() -> None:
    grown, size = done("grow")
    assert size == b"250000000"
    assert eventually_gone(int(grown))
    assert done("who")[0] != grown


async def test_one_tenant_never_has_all_processes(tmp_path: Path) -> None:
    """acme's work waits for a file that is not there; rival's goes on meanwhile, and then acme's."""
    file = tmp_path / "go"
    ours = [
        asyncio.create_task(offload.run(f"{JOBS}sleep", bytes(file), tenant="acme")) for _ in range(offload.PROCESSES)
    ]
    for _ in range(3):
        assert await offload.run(f"{JOBS}same", b"x", tenant="rival") == [b"x"]
    assert not any(task.done() for task in ours)
    file.touch()
    assert await asyncio.gather(*ours) == [[]] * offload.PROCESSES


async def test_who_has_too_much_waiting_is_told_so_and_others_are_not(tmp_path: Path) -> None:
    file = tmp_path / "go"
    most = offload.SHARE + offload.MOST_WAITING
    ours = [asyncio.create_task(offload.run(f"{JOBS}sleep", bytes(file), tenant="acme")) for _ in range(most)]
    await asyncio.sleep(0)
    with pytest.raises(offload.Crowded):
        await offload.run(f"{JOBS}same", b"x", tenant="acme")
    assert await offload.run(f"{JOBS}same", b"x", tenant="rival") == [b"x"]
    for task in ours[1:]:  # who gives up gives its turn to the next
        task.cancel()
    file.touch()
    assert await ours[0] == []
    assert await offload.run(f"{JOBS}same", b"x", tenant="acme") == [b"x"]


def script(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", body], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_end_when_their_parent_is_killed() -> None:
    with script(
        "import time; from connections import offload\n"
        f"print(int(offload.run_sync('{JOBS}who', tenant=1)[0]), flush=True); time.sleep(600)"
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.kill()
    assert eventually_gone(child)


def test_a_forked_worker_has_processes_of_its_own() -> None:
    """As Celery's workers are: daemons, which may not have children by way of `multiprocessing`."""
    with script(
        "import multiprocessing; from connections import offload\n"
        f"def work(): print(int(offload.run_sync('{JOBS}who', tenant=1)[0]), flush=True)\n"
        "work(); forked = multiprocessing.get_context('fork').Process(target=work, daemon=True)\n"
        "forked.start(); forked.join(); work()"
    ) as parent:
        assert parent.stdout is not None
        first, forked, again = parent.stdout.read().split()
    assert parent.returncode == 0
    assert first == again != forked


def test_a_process_is_kept_however_large_its_parent_is() -> None:
    with script(
        "from connections import offload\nlarge = b'x' * 300_000_000\n"
        f"for _ in range(2): print(int(offload.run_sync('{JOBS}who', tenant=1)[0]), flush=True)"
    ) as parent:
        assert parent.stdout is not None
        first, again = parent.stdout.read().split()
    assert first == again
