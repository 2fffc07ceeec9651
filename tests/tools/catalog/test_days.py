"""How a connection was on each of the last 90 days, from the moves of its states and from its checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Connection, StateMove, User
from connections.states import CredentialState, ReachabilityState, ToolsState
from tests.conftest import House
from tools.catalog import days, probing
from tools.models import CheckDay, Probe

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def orders(acme: House) -> Connection:
    """A connection that has been Connected for 200 days."""
    return settled(acme, NOON - timedelta(days=200))


def settled(house: House, since: datetime) -> Connection:
    connection = house.connection(
        "Orders", credential_state=CredentialState.NOT_NEEDED, reachability_state=ReachabilityState.REACHABLE,
        tools_state=ToolsState.IN_SYNC, credential_since=since, reachability_since=since, tools_since=since,
    )  # fmt: skip
    Connection.objects.filter(pk=connection.pk).update(created_at=since)
    connection.refresh_from_db()
    return connection


def moved(connection: Connection, at: datetime, was: str, state: str, of: str = "reachability") -> None:
    since = getattr(connection, f"{of}_since")
    StateMove.objects.create(connection=connection, of=of, was=was, state=state, at=at, lasted=at - since)
    setattr(connection, f"{of}_since", at)
    setattr(connection, f"{of}_state", state)
    connection.save()


def codes(connection: Connection, now: datetime = NOON, zone: Any = UTC) -> dict[str, str]:
    strip = days.of(connection, now, zone)
    return {f"{day.day:%m-%d}": day.code for day in strip.days} if strip else {}


@pytest.mark.smoke
def test_a_quiet_connection_has_ninety_quiet_days(orders: Connection) -> None:
    told = codes(orders)
    assert len(told) == 90
    assert set(told.values()) == {"connected"}


def test_a_day_is_as_its_worst_moment(orders: Connection) -> None:
    moved(orders, NOON - timedelta(days=10), "reachable", "unreachable")
    moved(orders, NOON - timedelta(days=8, hours=2), "unreachable", "reachable")
    moved(orders, NOON - timedelta(days=3), "in_sync", "changes_to_review", of="tools")
    moved(orders, NOON - timedelta(days=3) + timedelta(minutes=5), "changes_to_review", "in_sync", of="tools")
    told = codes(orders)
    assert [told[f"06-{day:02}"] for day in range(4, 15)] == [
        "connected", "unreachable", "unreachable", "unreachable", "connected", "connected", "connected", "connected",
        "action_required", "connected", "connected",
    ]  # fmt: skip


def test_days_are_those_of_the_reader(orders: Connection) -> None:
    moved(orders, datetime(2026, 6, 10, 22, tzinfo=UTC), "reachable", "unreachable")
    moved(orders, datetime(2026, 6, 10, 22, 30, tzinfo=UTC), "unreachable", "reachable")
    assert codes(orders)["06-10"] == "unreachable"
    told = codes(orders, zone=ZoneInfo("Asia/Tokyo"))
    assert (told["06-10"], told["06-11"]) == ("connected", "unreachable")


def test_what_was_before_anything_is_known_is_not_made_up(acme: House) -> None:
    connection = settled(acme, NOON - timedelta(days=3))
    told = codes(connection)
    assert [day for day, code in told.items() if code != "unknown"] == ["06-12", "06-13", "06-14", "06-15"]
    moved(connection, NOON - timedelta(days=1), "reachable", "unreachable")
    assert codes(connection) == told | {"06-14": "unreachable", "06-15": "unreachable"}


def test_on_its_first_day_there_is_no_strip(acme: House) -> None:
    assert days.of(settled(acme, NOON - timedelta(hours=3)), NOON, UTC) is None


def test_a_day_without_a_check_was_not_checked(orders: Connection) -> None:
    for back in (5, 2):
        CheckDay.objects.create(connection=orders, day=(NOON - timedelta(days=back)).date(), checks=1)
    told = codes(orders)
    assert [told[f"06-{day:02}"] for day in (9, 10, 11, 12, 13, 14, 15)] == [
        "connected", "connected", "unchecked", "unchecked", "connected", "unchecked", "connected",
    ]  # fmt: skip


def report(connection: Connection, *took: int, failed: bool = False, at: datetime = NOON) -> Probe:
    stages = [{"stage": "tls", "outcome": "passed", "sentence": "", "milliseconds": one} for one in took]
    return Probe(
        connection=connection, started_at=at, stages=stages, finished_at=at, outcome="failed" if failed else "passed"
    )


def test_checks_are_counted_by_day_with_how_long_they_took(orders: Connection) -> None:
    for took in (90, 210, 220, 230, 9_000):
        days.note(orders, report(orders, took - 20, 20))
    days.note(orders, report(orders, 4, failed=True))
    days.note(orders, report(orders, 60, at=NOON - timedelta(days=1)))
    today, before = CheckDay.objects.order_by("-day")
    assert (today.checks, today.failed, before.checks) == (6, 1, 1)
    assert today.middle is not None
    assert 200 <= today.middle <= 300, "as nearly as the classes tell"
    strip = days.of(orders, NOON, UTC)
    assert strip is not None
    assert strip.days[-1].says.startswith("2026-06-15: Connected; 6 checks, 1 failed; 2")
    assert strip.slowest == today.middle


def test_the_day_of_a_check_is_one_of_the_organizations_zone(acme: House, orders: Connection) -> None:
    acme.tenant.time_zone = "Asia/Tokyo"
    acme.tenant.save()
    orders.refresh_from_db()
    days.note(orders, report(orders, 5, at=NOON.replace(hour=23)))
    assert f"{CheckDay.objects.get().day}" == "2026-06-16"


def test_a_check_of_a_connection_that_is_gone_counts_nowhere(orders: Connection) -> None:
    late = report(orders, 5)
    Connection.objects.filter(pk=orders.pk).delete()
    probing._record(orders, late)
    assert not CheckDay.objects.exists()


def test_days_go_with_their_connection_and_after_ninety_days(acme: House, rival: House) -> None:
    ours, theirs = settled(acme, NOON), settled(rival, NOON)
    for back in (1, 89, 92):
        for connection in (ours, theirs):
            CheckDay.objects.create(connection=connection, day=(NOON - timedelta(days=back)).date(), checks=1)
    days.forget(NOON)
    assert CheckDay.objects.count() == 4
    ours.delete()
    assert set(CheckDay.objects.values_list("connection", flat=True)) == {theirs.pk}


def test_the_page_has_a_bar_for_each_day_and_a_table_behind(acme: House, signed_in: SignedIn) -> None:
    connection = settled(acme, timezone.now() - timedelta(days=30))
    path = f"/admin/connections/connection/{connection.pk}/change/"
    page = signed_in(acme.admin).get(path).content.decode()
    assert page.count('<rect class="day ') == 90
    assert page.count('<rect class="day connected"') == 31
    assert len(re.findall(r'<th scope="row">\d{4}-\d\d-\d\d</th><td>Connected</td>', page)) == 31
    assert "Of 31 days: 31 connected." in page
    assert len(page) < 100_000
    for user in (acme.member, acme.auditor):
        assert '<rect class="day ' in signed_in(user).get(path).content.decode()


def test_a_busy_page_stays_small(acme: House, signed_in: SignedIn, django_assert_max_num_queries: Any) -> None:
    now = timezone.now()
    connection = settled(acme, now - timedelta(days=200))
    for back in range(90):
        row = CheckDay.objects.create(connection=connection, day=(now - timedelta(days=back)).date())
        for took in (100, 2_000):
            row.add(took)
        row.add(None)
    for back in range(300):
        at = now - timedelta(hours=7 * (299 - back))
        pair = ("reachable", "unreachable") if back % 2 else ("unreachable", "reachable")
        moved(connection, at, *pair)
    client = signed_in(acme.admin)
    path = f"/admin/connections/connection/{connection.pk}/change/"
    client.get(path)
    with django_assert_max_num_queries(28):
        page = client.get(path).content
    assert len(page) < 110_000
