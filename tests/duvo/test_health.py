"""Who asks whether it works: the health checks, the metrics and the pages say what has stopped, and when it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import DatabaseError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone
from redis import Redis

from connections import heartbeats, refused_writes
from connections.models import Heartbeat, User
from duvo import health
from duvo.beat import Scheduler
from tests.conftest import House
from tests.processes import WORKER_PATIENCE, Processes, StartWorker

TOKEN = "m" * 40
SignIn = Callable[[User | None], Client]


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    health.now.cache_clear()
    heartbeats.seen.cache_clear()


@pytest.fixture
def kept(settings: Any) -> Iterator[Redis]:
    """Redis without a sign of life; what other tests rely on is put back."""
    with Redis.from_url(settings.REDIS_URL) as client:
        before = client.hgetall(heartbeats.HASH)
        client.delete(heartbeats.HASH)
        yield client
        client.delete(heartbeats.HASH)
        client.hset(heartbeats.HASH, mapping=before)


@pytest.fixture
def pulse(settings: Any, db: None, kept: Redis) -> Callable[..., None]:
    """Say how many seconds ago each kind of process worked; None: never."""
    settings.METRICS_TOKEN = TOKEN

    def say(**ages: float | None) -> None:
        kept.delete(heartbeats.HASH)
        now = timezone.now()
        for name, age in (dict.fromkeys(heartbeats.NAMES, 1.0) | ages).items():
            if age is not None:
                heartbeats.note_quickly(name, now - timedelta(seconds=age))
        forget()

    say()
    return say


def ready(query: str = "") -> tuple[int, dict[str, Any]]:
    answer = Client().get(f"/readyz{query}")
    return answer.status_code, answer.json()


def scraped() -> str:
    return Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()


def test_each_part_is_told_and_what_is_degraded_is_named(pulse: Callable[..., None]) -> None:
    assert ready() == (200, ready()[1] | {"status": "ready", "degraded": []})
    assert list(ready()[1]["checks"]) == list(health.PARTS)
    pulse(beat=540.0, housekeeping=541.0, probes=541.0)
    status, said = ready()
    assert (status, said["status"], said["degraded"]) == (200, "degraded", ["beat"])
    assert said["seconds_since"]["beat"] >= 540
    pulse(probes=540.0)
    assert ready()[1]["degraded"] == ["probes"]
    pulse(calls=None)
    assert ready()[1]["degraded"] == ["calls"]
    assert ready()[1]["seconds_since"]["calls"] is None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200), ("?require=database", 200), ("?require=probes", 503), ("?require=all", 503),
        ("?require=beat,calls", 200), ("?require=beat&require=probes", 503), ("?require=database,%20probes", 503),
        ("?require=", 200), ("?require=prober", 400),
    ],
)  # fmt: skip
def test_who_asks_chooses_what_it_needs(pulse: Callable[..., None], query: str, status: int) -> None:
    pulse(probes=300.0)
    assert ready(query)[0] == status


def test_without_redis_the_database_says_who_works(pulse: Callable[..., None], settings: Any) -> None:
    heartbeats.note_in_database(dict.fromkeys(heartbeats.NAMES, timezone.now()))
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    forget()
    status, said = ready()
    assert (status, said["degraded"]) == (503, ["broker"])
    assert 'duvo_up{part="broker"} 0.0' in scraped()
    assert 'duvo_up{part="calls"} 1.0' in scraped()


def test_a_worker_that_redis_has_forgotten_is_known_from_its_row(pulse: Callable[..., None]) -> None:
    pulse(calls=None)
    heartbeats.note_in_database({"calls": timezone.now()})
    forget()
    assert ready()[1]["degraded"] == []


def test_metrics_tell_the_same(pulse: Callable[..., None], acme: House) -> None:
    pulse(housekeeping=90.0)
    said = scraped()
    assert 'duvo_up{part="housekeeping"} 0.0' in said
    assert 'duvo_up{part="database"} 1.0' in said
    ages = [line for line in said.splitlines() if line.startswith('duvo_heartbeat_age_seconds{process="housekeeping"}')]
    assert float(ages[0].split()[1]) >= 90
    assert "duvo_checks_overdue 0.0" in said
    late = acme.connection()
    late.next_probe_at = timezone.now() - timedelta(minutes=9)
    late.save()
    assert "duvo_checks_overdue 1.0" in scraped()


def test_a_database_that_lacks_a_migration_is_not_ready(pulse: Callable[..., None]) -> None:
    health._migrated.clear()
    [newest] = MigrationLoader(connection).graph.leaf_nodes("connections")
    MigrationRecorder(connection).record_unapplied(*newest)
    forget()
    status, said = ready()
    assert (status, said["degraded"]) == (503, ["migrations"])
    MigrationRecorder(connection).record_applied(*newest)
    forget()
    assert ready()[0] == 200


def test_a_database_that_stores_nothing_is_told_until_it_has_refused_nobody_for_a_while(
    pulse: Callable[..., None],
    kept: Redis,
    refused: Callable[[], None],
    signed_in: SignIn,
    superuser: User,
    acme: House,
) -> None:
    """Its disk is full, say: it answers, signs of life are stored in the place of older ones, and no call is made."""
    people = signed_in(superuser), signed_in(acme.admin)
    refused()
    forget()
    status, said = ready()
    assert (status, said["status"], said["degraded"]) == (200, "degraded", ["writes"])
    assert ready("?require=all")[0] == 503
    assert 'duvo_up{part="writes"} 0.0' in scraped()
    staff, admin = (person.get("/admin/").content.decode() for person in people)
    assert "The database stores nothing: its disk is full, or it is a standby that only reads." in staff
    assert "Nothing can be saved, and calls are not made at the moment." in admin
    assert 0 < kept.pttl(refused_writes.KEY) <= 1000 * refused_writes.COUNTS_FOR
    kept.delete(refused_writes.KEY)
    forget()
    assert ready()[1]["degraded"] == []


@pytest.fixture
def refused(kept: Redis) -> Iterator[Callable[[], None]]:
    """Have another process be refused a write, by a database that only reads."""
    refused_writes.forget()

    def be_refused() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            with pytest.raises(DatabaseError) as refusal, transaction.atomic():
                Heartbeat.objects.create(name="nobody", at=timezone.now())
            transaction.set_rollback(True)
        refused_writes.note(refusal.value)
        refused_writes.forget()
        deadline = time.monotonic() + 30
        while not kept.exists(refused_writes.KEY):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    yield be_refused
    refused_writes.forget()
    kept.delete(refused_writes.KEY)


def test_staff_read_what_has_stopped_and_admins_what_it_means_for_them(
    pulse: Callable[..., None], acme: House, superuser: User, signed_in: SignIn
) -> None:
    admin, staff = signed_in(acme.admin), signed_in(superuser)
    for browser in (admin, staff):
        assert 'role="alert"' not in browser.get("/admin/").content.decode()
    pulse(probes=540.0)
    page = staff.get("/admin/").content.decode()
    assert "probes: no sign of life since" in page
    assert "9 minutes ago" in page
    page = admin.get("/admin/connections/connection/").content.decode()
    assert "Connections are not checked and sign-ins are not renewed at the moment." in page
    assert "probes" not in page
    pulse(calls=None)
    assert "calls: no sign of life yet" in staff.get("/admin/").content.decode()
    assert "Calls that wait in the queue are not made at the moment." in admin.get("/admin/").content.decode()
    assert 'role="alert"' not in signed_in(None).get("/admin/login/").content.decode()
    pulse()
    assert 'role="alert"' not in staff.get("/admin/").content.decode()


def test_beat_shows_itself_and_asks_each_queue_at_once(settings: Any, queue: None, kept: Redis) -> None:
    scheduler = Scheduler(current_app)
    for _ in range(3 * len(settings.CELERY_BEAT_SCHEDULE)):
        scheduler.tick()
    scheduler.close()
    assert kept.hexists(heartbeats.HASH, "beat")
    waiting = {name: b"".join(kept.lrange(name, 0, -1)) for name in ("housekeeping", "probes")}
    assert b"duvo.show_housekeeping" in waiting["housekeeping"]
    assert b"duvo.show_probes" in waiting["probes"]
    assert b"tools.purge_calls" in waiting["housekeeping"]  # due every hour: nobody knows when it was last sent
    with current_app.connection_for_write() as broker:
        for name in waiting:
            broker.default_channel.queue_purge(name)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WORKER_PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_every_process_shows_itself_and_an_idle_product_is_silent(
    processes: Processes, start_worker: StartWorker, kept: Redis, tmp_path: Path
) -> None:
    touched = tmp_path / "heartbeat"
    processes._environment |= {"HEARTBEAT_FILE": str(touched), "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
    beat = processes.start("celery", "--quiet", "--app", "duvo", "beat")
    for name in ("housekeeping", "probes"):
        processes.start(
            "celery", "--quiet", "--app", "duvo", "worker", "--queues", name, "--concurrency", "1",
            "--hostname", f"{name}@%h", "--without-gossip", "--without-mingle",
        )  # fmt: skip
    calls = start_worker()
    until(lambda: kept.hlen(heartbeats.HASH) == len(heartbeats.NAMES), "a process shows no sign of life")
    until(lambda: Heartbeat.objects.count() == len(heartbeats.NAMES), "a process has written no row")
    assert touched.exists()
    assert not Path("celerybeat-schedule").exists()
    began = lines(tmp_path)
    time.sleep(20)
    said = lines(tmp_path)[len(began) :]
    assert len(said) <= 3, said  # fewer than ten a minute
    for line in lines(tmp_path):
        assert json.loads(line)["message"]
    for process in (beat, calls):
        process.kill()
        process.wait()
    until(lambda: degraded() == ["beat", "calls"], "nobody sees what has stopped")
    processes.start("celery", "--quiet", "--app", "duvo", "beat")
    start_worker()
    until(lambda: degraded() == [], "nobody sees what is back")
    processes.end()
    for line in lines(tmp_path):
        assert json.loads(line)["message"]
    assert any("Warm shutdown" in line for line in lines(tmp_path))


def degraded() -> list[str]:
    return list(ready()[1]["degraded"])


def lines(folder: Path) -> list[str]:
    return [line for file in sorted(folder.glob("celery*.log")) for line in file.read_text().splitlines()]
