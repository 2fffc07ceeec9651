"""A process that is told to stop: nobody new gets in, what can end ends, and every other call has a known end."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from django.conf import settings

from duvo import stack
from tests.loopback import NO_TLS
from tests.processes import PATIENCE, Processes, StartWorker
from tests.servers.toolbox import furnished, slow
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.models import Call

GRACE = 4  # seconds
Serve = Callable[..., tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def serve(processes: Processes) -> Serve:
    """Start web processes by the production command; they answer when they are returned."""

    def start(workers: int = 2) -> tuple[subprocess.Popen[bytes], int]:
        port = stack.free_port()
        command = ["duvo.serve", "--port", str(port), "--workers", str(workers)]
        process = processes.start(*command, SHUTDOWN_GRACE_WEB=str(GRACE), CALL_LEASE="600")
        deadline = time.monotonic() + 3 * PATIENCE
        while not answers(port):
            assert time.monotonic() < deadline, "the web process does not answer"
            assert process.poll() is None
        return process, port

    return start


def answers(port: int) -> bool:
    with suppress(httpx2.TransportError), httpx2.Client(trust_env=False, verify=NO_TLS, timeout=5) as http:
        return http.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    return False


def is_refused(port: int) -> bool:
    """Whether nobody listens there; a connection that hangs fails the test."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def ask(shop: Shop, port: int, method: str, path: str, **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {shop.api.token}", **more.pop("headers", {})}
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60, base_url=f"http://127.0.0.1:{port}") as http:
        return http.request(method, path, headers=headers, **more)


def later(
    callers: ThreadPoolExecutor, shop: Shop, port: int, tool: str, seconds: float, **headers: str
) -> Future[httpx2.Response]:
    """Make a call that takes so long; return when it has arrived at the server."""
    before = shop.server.executions(tool)
    body = {"arguments": {"steps": 1, "pause": seconds}}
    answer = callers.submit(ask, shop, port, "POST", f"/v1/tools/orders__{tool}/call", json=body, headers=headers)
    eventually(lambda: shop.server.executions(tool) > before, "the call's arrival", 30)
    return answer


@pytest.fixture
def patient(open_shop: OpenShop) -> Shop:
    """A shop with a tool that takes its time, and with one of the kind that may be called again."""
    box = furnished()
    number = {"type": "object", "properties": {"steps": {"type": "integer"}, "pause": {}}}
    box.add("again", slow, input_schema=number, annotations={"idempotentHint": True})
    return open_shop(box)


def test_a_web_process_that_is_told_to_stop(patient: Shop, serve: Serve, callers: ThreadPoolExecutor) -> None:
    shop = patient
    process, port = serve()
    queued = ask(shop, port, "POST", "/v1/tools/orders__echo/call", json={"arguments": {"text": "x"}},
                 headers={"Prefer": "respond-async"}).json()["id"]  # fmt: skip
    follower = callers.submit(ask, shop, port, "GET", f"/v1/calls/{queued}", headers={"Prefer": "wait=60"})
    events = callers.submit(ask, shop, port, "GET", f"/v1/calls/{queued}/events")
    short = later(callers, shop, port, "slow", 2)
    endless = later(callers, shop, port, "slow", 120)
    repeatable = later(callers, shop, port, "again", 120, **{"Idempotency-Key": "k1"})
    background = later(callers, shop, port, "slow", 120, Prefer="wait=0").result(30).json()["id"]

    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    eventually(lambda: is_refused(port), "the end of listening", 10)
    assert follower.result(10).json()["state"] == "queued"
    assert b"event: state" in events.result(10).content
    assert short.result(10).json()["state"] == "succeeded"
    assert time.monotonic() - began < GRACE + 10

    cut = endless.result(30)
    body = cut.json()
    assert (cut.status_code, body["code"]) == (503, "process_stopped")
    assert cut.headers["location"] == f"{settings.PUBLIC_URL}/v1/calls/{body['call']}"
    assert "retry-after" not in cut.headers  # the tool may have run
    again = repeatable.result(30)
    assert (again.status_code, again.json()["state"]) == (202, "queued")
    assert process.wait(30) == 0
    rows = {str(call.pk): call for call in Call.objects.all()}
    for one in (body["call"], background):
        assert (rows[one].state, rows[one].error_code) == ("outcome_unknown", "process_stopped")
    assert (rows[again.json()["id"]].state, rows[again.json()["id"]].attempts) == ("queued", 2)
    assert rows[queued].state == "queued"


def test_the_workers_of_a_web_process_that_is_killed_end_with_it(shop: Shop, serve: Serve) -> None:
    process, port = serve()
    process.kill()
    eventually(lambda: is_refused(port), "the end of its workers", 60)


def test_a_worker_that_is_told_to_stop_finishes_what_it_can_in_its_time(
    patient: Shop, start_worker: StartWorker
) -> None:
    worker = start_worker(SHUTDOWN_GRACE_CALLS=str(GRACE), CALL_LEASE="600")
    made = [
        patient.call("slow", {"steps": 1, "pause": pause}, headers={"Prefer": "respond-async"}).json()["id"]
        for pause in (2, 120)
    ]
    eventually(lambda: patient.server.executions("slow") == 2, "the calls' arrival", 30)
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    short, endless = (Call.objects.get(pk=one) for one in made)
    assert short.state == "succeeded"
    assert (endless.state, endless.error_code) == ("outcome_unknown", "process_stopped")
