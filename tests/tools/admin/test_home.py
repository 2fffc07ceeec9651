"""The start page says what needs this person, and then how things are; nothing that is not theirs to see or do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import Connection, Membership, Notice, Role, User
from tests.conftest import House
from tests.connections import crowd
from tools.admin import charts
from tools.calls import recent
from tools.models import AccessToken, Call

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
REACHED = {"reachability_state": "reachable", "tools_state": "in_sync"}
READY = {"authorization": "oauth", "credential_state": "ready", **REACHED}
DEAD = READY | {"credential_state": "refused", "credential_reason": "sign_in_revoked"}
NOON = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)


def start(client: Client, query: str = "") -> str:
    answer = client.get(f"/admin/{query}")
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def needs(client: Client) -> list[str]:
    return re.findall(r'class="open breakable" href="[^"]*">([^<]*)<', start(client))


def noticed(connection: Connection, reason: str = "sign_in_revoked", owner: User | None = None) -> Notice:
    return Notice.objects.create(connection=connection, owner=owner, reason=reason, sentence=f"Told: {reason}.")


def called(house: House, number: int, at: datetime, state: str = "succeeded", **more: Any) -> None:
    outcome = {"sealed_result": "x"} if state == "succeeded" else {"error_code": "x"}
    Call.objects.bulk_create(
        Call(
            tenant=house.tenant, sealed_arguments="", state=state, created_at=at, started_at=at,
            finished_at=at + timedelta(milliseconds=10 * (count + 1)), **{"tool_name": "orders__pay"} | outcome | more,
        )
        for count in range(number)
    )  # fmt: skip


def test_when_all_is_well_it_says_so_and_each_number_leads_to_its_list(acme: House, signed_in: SignedIn) -> None:
    acme.connection("Orders", **READY)
    acme.connection("Stock", **REACHED)
    acme.connection("Old", enabled=False)
    client = signed_in(acme.admin)
    text = start(client)
    assert "<h1>acme</h1>" in text
    assert "All connections work" in text
    links = re.findall(r'href="(/admin/connections/connection/\?status=\w+)"><strong>(\d+)<', text)
    assert [number for _, number in links] == ["2", "1"]
    for link, number in links:
        assert client.get(link).content.decode().count('class="field-title"') == int(number)


def test_checks_that_are_overdue_are_said_to_whose_they_are(acme: House, rival: House, signed_in: SignedIn) -> None:
    acme.connection("Orders", **READY)
    acme.connection("Stock", **READY, next_probe_at=timezone.now() - timedelta(minutes=9))
    acme.connection("Old", enabled=False, next_probe_at=timezone.now() - timedelta(minutes=90))
    rival.connection("Theirs", **READY)
    text = start(signed_in(acme.admin))
    assert "The check of one connection is overdue: it should have begun 9 minutes ago." in text
    assert "All connections work" not in text
    assert "All connections work" in start(signed_in(rival.admin))


def test_what_needs_an_admin_comes_first_and_nothing_that_a_member_cannot_do(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Orders", **DEAD))
    acme.connection("Wiki", reachability_state="unreachable", reachability_reason="connect_timeout")
    client = signed_in(acme.admin)
    assert needs(client) == ["Wiki", "Orders"]
    text = start(client)
    assert "no firewall keeps us out" in text
    assert text.index("Needs you") < text.index("connections-heading")
    for user in (acme.member, acme.auditor):
        assert needs(signed_in(user)) == []
        assert "Unreachable" in start(signed_in(user))  # how things are, they see
    for number in range(5):
        acme.connection(f"Far {number}", f"https://far-{number}.example.com/mcp", reachability_state="unreachable")
    assert len(needs(client)) == 5
    assert "Everything in the inbox" in start(client)


def test_a_sign_in_that_is_resolved_or_disabled_or_no_oauth_any_more_needs_nobody(
    acme: House, signed_in: SignedIn
) -> None:
    noticed(acme.connection("Orders", **READY))
    Notice.objects.resolve(Notice.objects.get().created_at)
    noticed(acme.connection("Off", **DEAD | {"enabled": False}))
    noticed(acme.connection("Key", **READY | {"authorization": "api_key"}))
    assert needs(signed_in(acme.admin)) == []
    assert "All connections work" in start(signed_in(acme.admin))


def test_a_member_finds_their_own_connections_and_assignments(acme: House, rival: House, signed_in: SignedIn) -> None:
    acme.connection("Mail", **READY, sharing="personal")
    acme.connection("Calendar", **READY)
    mine = acme.assignment("My reports")
    mine.owner = acme.member
    mine.save()
    acme.assignment("Not mine")
    text = start(signed_in(acme.member))
    assert "Connect</h2>" in text
    assert ">Mail</a>" in text
    assert ">My reports</a>" in text
    assert "Not mine" not in text
    assert "calls-heading" not in text  # members do not see calls
    assert "Mail" not in start(signed_in(rival.member))


def test_nobody_is_asked_to_connect_for_assignments_that_they_do_not_have(acme: House, signed_in: SignedIn) -> None:
    acme.connection("Mail", **READY, sharing="personal")
    for person in (acme.admin, acme.member):
        assert "Your assignments use it" not in start(signed_in(person))
    acme.assignment("Of the admin")
    assert "Your assignments use it" in start(signed_in(acme.admin))
    assert "Your assignments use it" not in start(signed_in(acme.member))


def test_calls_of_a_day_and_a_week_as_bars_and_numbers(acme: House, rival: House, signed_in: SignedIn) -> None:
    now = timezone.now()
    nightly = acme.assignment()
    called(acme, 19, now - timedelta(minutes=1), assignment=nightly)
    called(acme, 1, now - timedelta(minutes=1), "failed", assignment=nightly)
    called(acme, 10, now - timedelta(days=2), tool_name="orders__list")
    called(acme, 5, now - timedelta(days=9))
    called(rival, 7, now)
    for user in (acme.admin, acme.auditor):
        text = start(signed_in(user))
        assert "<strong>20</strong> calls" in text
        assert "<strong>30</strong> calls" in text
        assert "failed</a> 5.0 %, p95 180 ms" in text
        assert "failed</a> 3.3 %" in text
        assert 'class="bar-failed"' in text
        assert re.findall(r"orders__\w+</a>", text) == ["orders__pay</a>", "orders__list</a>"]
        assert ">Nightly orders</a>" in text
    assert 'style="' not in start(signed_in(acme.admin))


def test_bars_stand_in_their_hour_and_day() -> None:
    hours = [
        recent.Hour(NOON.replace(minute=0), 10, 1, 9),
        recent.Hour(NOON.replace(minute=0) - timedelta(hours=23), 5, 0, 5),
        recent.Hour(NOON.replace(minute=0) - timedelta(hours=24), 1, 0, 1),
    ]
    day, week = charts.of_day(hours, NOON), charts.of_week(hours, NOON)
    assert (len(day.bars), day.calls, day.failed, day.ended) == (24, 15, 1, 14)
    assert (day.bars[-1].label, day.bars[-1].calls, day.bars[0].calls) == ("12:00", 10, 5)
    assert (day.bars[-1].height, day.bars[0].height, day.bars[1].height) == (charts.HEIGHT, charts.HEIGHT / 2, 0)
    assert [(bar.label, bar.calls) for bar in week.bars[-2:]] == [("Tue 24 Nov", 6), ("Wed 25 Nov", 10)]


def test_only_the_newest_calls_are_counted(acme: House, monkeypatch: pytest.MonkeyPatch, signed_in: SignedIn) -> None:
    monkeypatch.setattr(recent, "MOST", 10)
    now = timezone.now()
    called(acme, 10, now - timedelta(minutes=1))
    called(acme, 10, now - timedelta(hours=2))
    text = start(signed_in(acme.admin))
    assert "<strong>10</strong> calls" in text
    assert "There are more calls than are counted here" in text


def test_what_ends_soon_is_named_with_its_day(acme: House, rival: House, signed_in: SignedIn) -> None:
    soon = timezone.now() + timedelta(days=2)
    Notice.objects.create(
        connection=acme.connection("Calendar", **READY | {"credential_state": "expiring"}), reason="sign_in_ends",
        sentence="It ends.", until=soon,
    )  # fmt: skip
    AccessToken.issue(assignment=acme.assignment("Nightly"), expires_at=soon + timedelta(days=1))
    AccessToken.issue(assignment=acme.assignment("Later"), expires_at=soon + timedelta(days=90))
    text = start(signed_in(acme.admin))
    assert text.index("The sign-in of Calendar") < text.index("A token of Nightly")
    assert "A token of Later" not in text
    assert "Ends soon" not in start(signed_in(rival.admin))


def test_staff_see_the_connections_of_all_organizations_by_state_the_newest_trouble_first(
    acme: House, reviewer: User, superuser: User, signed_in: SignedIn
) -> None:
    crowd.gather(3, 12)
    for user in (reviewer, superuser):
        text = start(signed_in(user))
        assert "<h1>All organizations</h1>" in text
        newest = text.partition("Newest trouble")[2]
        assert re.findall(r'">(Server \d+)</a> <span class="quiet">', newest)[:2] == ["Server 0003", "Server 0004"]
        assert "<strong>4</strong> need attention" in text
        assert '?status=attention"' in text
        assert "Company 000 (company-000)" in text
    assert "Needs you" not in start(signed_in(reviewer))


def test_who_is_in_several_organizations_looks_at_one_at_a_time(
    acme: House, rival: House, superuser: User, signed_in: SignedIn
) -> None:
    acme.connection("Orders", **READY)
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role=Role.MEMBER)
    called(rival, 3, timezone.now())
    client = signed_in(acme.admin)
    assert "<h1>acme</h1>" in start(client)
    other = start(client, f"?organization={rival.tenant.pk}")
    assert "<h1>rival</h1>" in other
    assert "calls-heading" not in other  # only a member there
    stranger = signed_in(rival.auditor)
    assert "<h1>rival</h1>" in start(stranger, f"?organization={acme.tenant.pk}")
    assert "<h1>rival</h1>" in start(stranger, "?organization=all")
    Membership.objects.create(user=superuser, tenant=acme.tenant, role=Role.ADMIN)
    root = signed_in(superuser)
    assert "<h1>acme</h1>" in start(root)
    assert "<h1>All organizations</h1>" in start(root, "?organization=all")


def test_names_are_escaped(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("<script>x</script>", **DEAD))
    called(acme, 1, timezone.now(), tool_name="<script>y</script>")
    text = signed_in(acme.admin).get("/admin/").content.decode()
    assert "<script>x" not in text
    assert "<script>y" not in text


def test_the_page_asks_little(acme: House, superuser: User, signed_in: SignedIn) -> None:
    now = timezone.now()
    nightly = acme.assignment()
    called(acme, 5, now, assignment=nightly)
    waiting = {"state": "awaiting_approval", "waits_until": now + timedelta(hours=1)}
    Call.objects.create(tenant=acme.tenant, tool_name="x", sealed_arguments="", **waiting)
    noticed(acme.connection("Calendar", **DEAD))
    acme.connection("Billing", tools_state="changes_to_review")
    acme.connection("Wiki", reachability_state="unreachable")
    for user in (acme.admin, acme.member, acme.auditor, superuser):
        client = signed_in(user)
        with CaptureQueriesContext(database) as captured:
            assert client.get("/admin/").status_code == 200
        asked = [query["sql"][:100] for query in captured if "SAVEPOINT" not in query["sql"]]  # of the test itself
        assert len(asked) < 20, (user, asked)
