"""Calls counted by day: the same however often they are counted, and kept when the calls themselves are gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Sum

from connections.models import Connection
from tests.conftest import House
from tools.calls import activity, contents, retention
from tools.models import Assignment, Call, DailyUse, StoredContent

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def called(
    house: House, assignment: Assignment, connection: Connection | None = None, at: datetime = NOON, took: float = 0.15,
    **more: Any,
) -> Call:  # fmt: skip
    state = more.pop("state", "succeeded")
    sealed = "r" * 100 if state == "succeeded" else ""
    ended = None if state in {"queued", "running"} else at + timedelta(seconds=took)
    return Call.objects.create(
        tenant=house.tenant, assignment=assignment, connection=connection, tool_name=more.pop("tool", "orders__echo"),
        state=state, sealed_arguments="a" * 60, sealed_result=sealed, created_at=at, started_at=at, finished_at=ended,
        error_code="" if state in {"succeeded", "queued", "running"} else "x", **more,
    )  # fmt: skip


def sums() -> dict[str, Any]:
    return DailyUse.objects.aggregate(calls=Sum("calls"), failures=Sum("failures"), open=Sum("open"), size=Sum("bytes"))


@pytest.mark.smoke
def test_calls_are_counted_by_day_and_by_what_they_are_about(acme: House) -> None:
    orders, stock = acme.connection("Orders"), acme.connection("Stock")
    one, other = acme.assignment("One"), Assignment.objects.create(tenant=acme.tenant, name="Other", owner=acme.member)
    for _ in range(3):
        called(acme, one, orders)
    called(acme, one, orders, state="failed")
    called(acme, one, orders, state="timed_out")
    called(acme, one, orders, state="cancelled")
    called(acme, other, stock, tool="stock__get", at=NOON - timedelta(days=1))
    activity.count_all(NOON)
    use = DailyUse.objects.get(tool="orders__echo")
    assert (use.calls, use.failures, use.open, use.bytes) == (6, 2, 0, 6 * 60 + 3 * 100)
    assert (use.connection_name, use.assignment_name, use.owner_name) == ("Orders", "One", "admin@acme.example")
    assert (use.ms_200, use.milliseconds) == (6, 900)
    rows = acme.tenant.use.all()
    assert [(use.name, use.calls) for use in activity.told(rows, "day")] == [("2026-06-14", 1), ("2026-06-15", 6)]
    assert [(use.name, use.calls) for use in activity.told(rows, "tool")] == [("orders__echo", 6), ("stock__get", 1)]
    assert [use.name for use in activity.told(rows, "owner")] == ["admin@acme.example", "member@acme.example"]
    assert activity.total(rows).failed_percent == 28.6


def test_counting_again_changes_nothing_and_takes_in_what_is_new(acme: House) -> None:
    assignment = acme.assignment()
    open_call = called(acme, assignment, state="running", at=NOON - timedelta(days=5))
    called(acme, assignment)
    for _ in range(3):
        activity.count_all(NOON)
    assert sums() | {"size": 0} == {"calls": 2, "failures": 0, "open": 1, "size": 0}
    Call.objects.filter(pk=open_call.pk).update(state="failed", error_code="x", finished_at=NOON)
    called(acme, assignment, at=NOON + timedelta(minutes=1))
    activity.count_all(NOON + timedelta(days=3))
    assert sums() | {"size": 0} == {"calls": 3, "failures": 1, "open": 0, "size": 0}


def test_a_worker_that_was_away_catches_up(acme: House) -> None:
    assignment = acme.assignment()
    called(acme, assignment)
    activity.count_all(NOON)
    called(acme, assignment, at=NOON + timedelta(hours=2))
    called(acme, assignment, at=NOON + timedelta(days=3))
    activity.count_all(NOON + timedelta(days=4))
    assert sums()["calls"] == 3


def test_what_was_counted_stays_when_the_calls_are_purged(acme: House) -> None:
    acme.tenant.retention_days = 1
    acme.tenant.save()
    assignment = acme.assignment()
    morning = NOON.replace(hour=1)
    for at in (morning, NOON, NOON + timedelta(hours=6)):
        called(acme, assignment, at=at)
    later = NOON + timedelta(days=1, hours=1)  # in the middle of what is kept: a part of that day goes
    assert retention.purge(later) == 2
    assert Call.objects.count() == 1
    assert sums()["calls"] == 3
    for hours in (0, 12, 30):
        activity.count_all(later + timedelta(hours=hours))
        retention.purge(later + timedelta(hours=hours))
        assert sums()["calls"] == 3
    assert not Call.objects.exists()
    called(acme, assignment, at=later + timedelta(hours=30))
    activity.count_all(later + timedelta(hours=30))
    assert sums()["calls"] == 4


def test_it_outlives_what_it_is_about_and_goes_with_its_organization(acme: House, rival: House) -> None:
    connection, assignment = acme.connection("Orders"), acme.assignment()
    called(acme, assignment, connection)
    activity.count_all(NOON)
    activity.before_purge(acme.tenant, NOON + timedelta(days=1), NOON + timedelta(days=2))
    connection.delete()
    assignment.delete()
    activity.count_all(NOON + timedelta(days=2))
    use = DailyUse.objects.get()
    assert (use.connection_name, use.assignment_name) == ("Orders", "Nightly orders")
    called(rival, rival.assignment())
    activity.count_all(NOON)
    assert DailyUse.objects.count() == 2
    acme.tenant.delete()
    assert DailyUse.objects.get().tenant == rival.tenant


def test_another_owner_is_counted_from_the_day_on_that_is_still_open(acme: House) -> None:
    assignment = acme.assignment()
    called(acme, assignment, at=NOON - timedelta(days=9))
    activity.count_all(NOON - timedelta(days=9))
    called(acme, assignment)
    activity.count_all(NOON)
    Assignment.objects.update(owner=acme.member)
    activity.count_all(NOON)
    by = {use.name: use.calls for use in activity.told(acme.tenant.use.all(), "owner")}
    assert by == {"admin@acme.example": 1, "member@acme.example": 1}


def test_p95_is_what_the_classes_tell(acme: House) -> None:
    assignment = acme.assignment()
    for took in [0.005] * 94 + [0.9] * 6:
        called(acme, assignment, took=took)
    activity.count_all(NOON)
    use = activity.total(acme.tenant.use.all())
    assert use.p95 is not None
    assert 500 <= use.p95 <= 1_000
    assert use.average == round((94 * 5 + 6 * 900) / 100)
    DailyUse.objects.all().delete()
    assert activity.total(acme.tenant.use.all()).p95 is None


def test_large_results_count(acme: House) -> None:
    call = called(acme, acme.assignment())
    piece = contents.Piece(1, "text/plain", b"x" * 5_000, "0" * 64)
    StoredContent.objects.bulk_create(contents.sealed(call.pk, call.tenant_id, [piece]))
    activity.count_all(NOON)
    assert sums()["size"] == 160 + 5_000


def test_what_is_old_is_forgotten(acme: House) -> None:
    called(acme, acme.assignment(), at=NOON - timedelta(days=900))
    activity.count_all(NOON)
    assert not DailyUse.objects.exists()


def in_zone(house: House, name: str) -> None:
    house.tenant.time_zone = name
    house.tenant.save()


def days(house: House) -> list[tuple[str, int]]:
    return [(use.name, use.calls) for use in activity.told(house.tenant.use.all(), "day")]


def test_a_day_is_one_of_the_organizations_zone(acme: House, rival: House) -> None:
    in_zone(acme, "Asia/Tokyo")
    for house in (acme, rival):
        assignment = house.assignment()
        for hour in (14, 16):  # in Tokyo 23 o'clock and one in the morning
            called(house, assignment, at=NOON.replace(hour=hour))
    activity.count_all(NOON + timedelta(days=1))
    assert days(acme) == [("2026-06-15", 1), ("2026-06-16", 1)]
    assert days(rival) == [("2026-06-15", 2)]


def test_another_zone_counts_anew_whatever_is_there(acme: House) -> None:
    assignment = acme.assignment()
    for back in (0, 1, 40):
        called(acme, assignment, at=NOON.replace(hour=16) - timedelta(days=back))
    activity.count_all(NOON + timedelta(days=1))
    assert days(acme) == [("2026-05-06", 1), ("2026-06-14", 1), ("2026-06-15", 1)]
    in_zone(acme, "Asia/Tokyo")
    for _ in range(2):
        activity.count_all(NOON + timedelta(days=90))
    assert days(acme) == [("2026-05-07", 1), ("2026-06-15", 1), ("2026-06-16", 1)]
    mark = acme.tenant.use_mark
    assert (mark.zone, mark.zone_since) == ("Asia/Tokyo", None)


def test_days_whose_calls_are_gone_stay_days_of_the_zone_that_there_was(acme: House) -> None:
    assignment = acme.assignment()
    for back in (0, 40):
        called(acme, assignment, at=NOON.replace(hour=16) - timedelta(days=back))
    acme.tenant.retention_days = 30
    acme.tenant.save()
    activity.count_all(NOON)
    activity.before_purge(acme.tenant, NOON - timedelta(days=30), NOON)
    Call.objects.filter(created_at__lt=NOON - timedelta(days=30)).delete()
    in_zone(acme, "Asia/Tokyo")
    activity.count_all(NOON + timedelta(days=1))
    assert days(acme) == [("2026-05-06", 1), ("2026-06-16", 1)]
    mark = acme.tenant.use_mark
    assert (mark.zone, f"{mark.zone_since}") == ("Asia/Tokyo", "2026-05-17")
