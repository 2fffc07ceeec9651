"""The database goes away: everybody hears it soon and in plain words, and all goes on as soon as it is back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest
from django.db import InterfaceError, OperationalError

from connections import outages
from duvo import stack
from tests.processes import Processes, StartWeb
from tests.servers import postgres

PAUSE = 8.0  # seconds
OUTAGE = 20.0  # seconds; by then the pauses of a pool that doubles them are 16 seconds long
SOON = 3.0  # seconds
BUSY = 2.0  # seconds more, on a busy machine
TOKEN = f"duvo_{'x' * 43}"


@pytest.mark.parametrize(
    ("error", "stores_nothing"),
    [
        (psycopg.errors.DiskFull(), True), (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.UniqueViolation(), False), (psycopg.OperationalError(), False), (InterfaceError(), False),
    ],
)  # fmt: skip
def test_a_database_that_stores_nothing_is_not_one_that_is_away(error: Exception, stores_nothing: bool) -> None:
    wrapped = OperationalError()
    wrapped.__cause__ = error
    assert outages.takes_no_writes(error) is outages.takes_no_writes(wrapped) is stores_nothing
    assert not (stores_nothing and outages.is_away(error))


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.cluster() as one:
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate"],
            cwd=stack.BASE_DIR, env=os.environ | {"DATABASE_URL": one.url}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        yield one


def test_everybody_is_told_soon_and_everything_is_back_soon(
    cluster: postgres.Cluster, processes: Processes, start_web: StartWeb
) -> None:
    processes._environment["DATABASE_URL"] = cluster.url
    web = start_web()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    page = {"Cookie": f"sessionid={'x' * 32}"}
    asked = [("/v1/tools", bearer, 401), (f"/v1/calls/{'0' * 8}-0000-0000-0000-{'0' * 12}", bearer, 401),
             ("/admin/", page, 302), ("/readyz", {}, 200)]  # fmt: skip
    with httpx2.Client(trust_env=False, base_url=web.base, timeout=30) as http:
        for path, headers, status in asked:
            assert http.get(path, headers=headers).status_code == status, path
        cluster.stop()
        nobody_waits(http, asked, OUTAGE)
        cluster.start()
        everything_is_back(http, bearer)
        with stopped(cluster):  # it still takes connections, and says nothing
            nobody_waits(http, asked, PAUSE)
        everything_is_back(http, bearer)


Asked = list[tuple[str, dict[str, str], int]]


def nobody_waits(http: httpx2.Client, asked: Asked, seconds: float) -> None:
    gone = time.monotonic()
    time.sleep(1.5)  # what a process knows of a token is a second old
    while time.monotonic() - gone < seconds:
        for path, headers, _ in asked:
            answer = told_soon(http, path, headers)
            assert answer.status_code == 503, (path, answer.text)
            if path == "/readyz":
                assert answer.json()["checks"]["database"] is False
            elif path.startswith("/v1/"):
                assert answer.json()["code"] == "ledger_unavailable"
                assert answer.json()["detail"].startswith("The database does not answer.")
            else:
                assert "The database does not answer" in answer.text
                assert answer.headers["retry-after"] == "5"


def told_soon(http: httpx2.Client, path: str, headers: dict[str, str]) -> httpx2.Response:
    """Return an answer that came soon: what a machine does beside this is no fault of the product, once or twice."""
    for _ in range(3):
        began = time.monotonic()
        answer = http.get(path, headers=headers)
        if time.monotonic() - began < SOON + BUSY:
            return answer
    pytest.fail(f"nobody hears soon at {path}")


def everything_is_back(http: httpx2.Client, bearer: dict[str, str]) -> None:
    back = time.monotonic()
    while http.get("/readyz").status_code != 200 or http.get("/v1/tools", headers=bearer).status_code != 401:
        assert time.monotonic() - back < 5 + BUSY, "the database is back, and the product is not"
        time.sleep(0.1)


@contextmanager
def stopped(cluster: postgres.Cluster) -> Iterator[None]:
    """Keep every process of the server from running, as a paused container does."""
    parent = cluster._process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    processes = [parent, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def made_of(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (made_of(OperationalError("x"), psycopg.OperationalError("connection refused")), True),
        (made_of(OperationalError("x"), psycopg.errors.AdminShutdown("x")), True),
        (made_of(OperationalError("x"), psycopg.errors.CannotConnectNow("x")), True),
        (made_of(OperationalError("x"), psycopg.errors.TooManyConnections("x")), True),
        (InterfaceError("connection already closed"), True),
        (made_of(OperationalError("x"), psycopg.errors.DeadlockDetected("x")), False),
        (made_of(OperationalError("x"), psycopg.errors.QueryCanceled("x")), False),
        (made_of(OperationalError("x"), psycopg.errors.DiskFull("x")), False),
        (OperationalError("database is locked"), False),
        (ValueError("x"), False),
    ],
)
def test_a_database_that_answers_with_an_error_is_not_away(error: Exception, away: bool) -> None:
    assert outages.is_away(error) is away
