"""Calls are forgotten when their organization no longer wants them, and nothing else is."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import AuditEvent, Tenant
from tests.conftest import House
from tools import tasks
from tools.calls import contents, retention
from tools.models import Call, CallEvent, StoredContent

pytestmark = pytest.mark.django_db

NOW = timezone.now()
OUTCOMES: dict[str, dict[str, Any]] = {
    "succeeded": {"sealed_result": "x"},
    "failed": {"error_code": "x"},
    "queued": {},
    "running": {},
    "awaiting_approval": {"waits_until": NOW},
    "input_required": {"asked_in": "result", "sealed_question": "x"},
}


def call(house: House, days: float, state: str = "succeeded", *, ended: float | None = None) -> Call:
    """A call that was made so many days ago, and ended then or later."""
    made = NOW - timedelta(days=days)
    finished = made if ended is None else NOW - timedelta(days=ended)
    row = Call.objects.create(
        tenant=house.tenant, tool_name="t__t", state=state, created_at=made, sealed_arguments="",
        finished_at=finished if state in {"succeeded", "failed"} else None, **OUTCOMES[state],
    )  # fmt: skip
    piece = contents.Piece(1, "text/plain", b"much", "d" * 64)
    StoredContent.objects.bulk_create(contents.sealed(row.pk, row.tenant_id, [piece]))
    return row


def left() -> set[Call]:
    return set(Call.objects.all())


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """The folder of a storage for results."""
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "results"}}
    settings.STORAGES = {**settings.STORAGES, "results": backend}
    return tmp_path / "results"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def age(folder: Path, name: str, at: datetime) -> None:
    os.utime(folder / name, (at.timestamp(), at.timestamp()))


@pytest.mark.smoke
def test_old_calls_go_with_their_events_and_contents(acme: House) -> None:
    call(acme, 31)
    call(acme, 31, "failed")
    kept = call(acme, 29)
    assert retention.purge(NOW) == 2
    assert left() == {kept}
    assert set(CallEvent.objects.values_list("call", flat=True)) == {kept.pk}
    assert set(StoredContent.objects.values_list("call", flat=True)) == {kept.pk}


@pytest.mark.parametrize("state", ["queued", "running", "awaiting_approval", "input_required"])
def test_an_open_call_stays_however_old_it_is(acme: House, state: str) -> None:
    call(acme, 400)
    still_open = call(acme, 400, state)
    assert retention.purge(NOW) == 1
    assert left() == {still_open}


def test_a_call_is_as_old_as_its_end(acme: House) -> None:
    call(acme, 40, ended=31)
    kept = call(acme, 40, ended=29)
    retention.purge(NOW)
    assert left() == {kept}


def test_each_organization_keeps_its_calls_as_long_as_it_says(acme: House, rival: House) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(retention_days=7)
    call(acme, 8)
    theirs = call(rival, 8)
    assert retention.purge(NOW) == 1
    assert left() == {theirs}


def test_a_purge_is_written_down_once_for_each_organization_that_it_concerns(acme: House, rival: House) -> None:
    call(acme, 31)
    call(acme, 32)
    call(rival, 1)
    retention.purge(NOW)
    event = AuditEvent.objects.get()
    assert (event.tenant, event.actor, event.action) == (acme.tenant, "system", "tenant.calls_purged")
    assert event.data["count"] == 2
    retention.purge(NOW)
    assert AuditEvent.objects.count() == 1


@pytest.mark.smoke
def test_calls_are_deleted_in_batches_oldest_first_and_a_run_has_an_end(acme: House, rival: House) -> None:
    rows = [call(acme, 31 + index) for index in range(7)]
    theirs = call(rival, 40)
    with CaptureQueriesContext(connection) as seen:
        assert retention.purge(NOW, at_once=2, most_batches=2) == 5
    deletes = [query["sql"] for query in seen if query["sql"].startswith('DELETE FROM "tools_call" ')]
    assert len(deletes) == 3
    assert left() == set(rows[:3])
    assert theirs not in left()
    assert retention.purge(NOW, at_once=2) == 3
    assert left() == set()


def test_a_purge_reads_no_result(acme: House) -> None:
    call(acme, 31)
    with CaptureQueriesContext(connection) as seen:
        retention.purge(NOW)
    # How long a text is, PostgreSQL knows without reading it.
    sizes = re.compile(r'octet_length\("tools_call"\."sealed_\w+"\)', re.IGNORECASE)
    read = [sizes.sub("", query["sql"]) for query in seen]
    assert not [sql for sql in read if "sealed" in sql]


@pytest.mark.smoke
def test_the_files_of_old_calls_go_and_others_stay(acme: House, rival: House, folder: Path) -> None:
    old, kept, theirs = call(acme, 31), call(acme, 1), call(rival, 1)
    assert len(files(folder)) == 3
    retention.purge(NOW)
    assert files(folder) == sorted(row.contents.get().file for row in (kept, theirs))
    assert str(old.pk) not in str(files(folder))


def test_a_file_whose_row_never_came_goes_after_a_day(acme: House, folder: Path) -> None:
    kept = call(acme, 1)
    orphan = call(acme, 1)
    new = call(acme, 1)
    names = {row: row.contents.get().file for row in (kept, orphan, new)}
    StoredContent.objects.filter(call__in=[orphan, new]).delete()
    stray = f"{acme.tenant.pk}/no-call-of-ours"
    (folder / stray).write_text("x")
    for name in (names[kept], names[orphan], stray):
        age(folder, name, NOW - timedelta(days=2))
    retention.purge(NOW, at_once=1)
    assert files(folder) == sorted([names[kept], names[new]])


def test_the_files_of_a_deleted_organization_go(acme: House, rival: House, folder: Path) -> None:
    kept = call(acme, 1).contents.get().file
    gone = call(rival, 1).contents.get().file
    rival.tenant.calls.all().delete()
    rival.tenant.delete()
    for name in (kept, gone):
        age(folder, name, NOW - timedelta(days=2))
    retention.purge(NOW)
    assert files(folder) == [kept]


def test_a_storage_that_holds_nothing_yet_is_no_fault(acme: House, folder: Path) -> None:
    assert retention.purge(NOW) == 0


def test_beat_purges_every_hour(acme: House, settings: Any) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(retention_days=1)
    call(acme, 2)
    tasks.purge_calls()
    assert left() == set()
    assert settings.CELERY_BEAT_SCHEDULE["purge-calls"]["task"] == tasks.purge_calls.name
