"""Who approved what last month: the audit trail by person, kind and days, on its page and as a file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from connections import large_lists
from connections.models import AuditEvent, User
from tests.conftest import House
from tests.connections.test_audit_export import download
from tests.live import Api

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/auditevent/"
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)


def happened(house: House, label: str, action: str, *, at: datetime = AT, actor: str = "ada@acme.example") -> None:
    AuditEvent.objects.create(
        tenant=house.tenant, at=at, actor=actor, action=action, object_type=action.partition(".")[0],
        object_id=label, object_label=label,
    )  # fmt: skip


@pytest.fixture
def trail(acme: House, rival: House) -> House:
    happened(acme, "Approved", "call.approved")
    happened(acme, "Reviewed", "tool.approved", actor="bea@acme.example")
    happened(acme, "Opened", "call.read")
    happened(acme, "Renamed", "connection.changed")
    happened(acme, "Invited", "invitation.created")
    happened(acme, "April", "call.approved", at=datetime(2026, 3, 31, 22, 30, tzinfo=UTC))
    happened(rival, "Theirs", "call.approved")
    return acme


def labels(client: Client, **asked: str) -> list[str]:
    page = client.get(f"{LIST}?{urlencode(asked)}").content.decode()
    return re.findall(r'field-about[^"]*"[^>]*>([^<]+)</td>', page)


MARCH = {"since": "2026-03-01", "until": "2026-03-31"}


@pytest.mark.django_db
def test_by_person_kind_and_days(trail: House, signed_in: SignedIn) -> None:
    client = signed_in(trail.auditor)
    for asked, found in (
        ({"what": "decisions"}, ["April", "Reviewed", "Approved"]),
        ({"what": "decisions", "until": "2026-03-30"}, ["Reviewed", "Approved"]),
        ({"what": "decisions", "who": "BEA@"}, ["Reviewed"]),
        ({"what": "read"}, ["Opened"]),
        ({"what": "people"} | MARCH, ["Invited"]),
        ({"what": "connections", "who": "bea"}, []),
        ({"q": "Renamed"} | MARCH, ["Renamed"]),
    ):
        assert labels(client, **asked) == found, asked


@pytest.mark.django_db
def test_what_happened_is_said_in_words(trail: House, signed_in: SignedIn) -> None:
    page = signed_in(trail.auditor).get(f"{LIST}?what=decisions").content.decode()
    assert "Call: approved" in page
    assert "Tool: approved" in page
    assert "Nothing matches." in signed_in(trail.auditor).get(f"{LIST}?who=nobody").content.decode()


@pytest.mark.django_db
def test_days_are_those_of_the_organization(trail: House, signed_in: SignedIn) -> None:
    assert "April" in labels(signed_in(trail.auditor), **MARCH)
    trail.tenant.time_zone = "Europe/Berlin"
    trail.tenant.save()
    client = signed_in(trail.auditor)
    assert "April" not in labels(client, **MARCH)
    assert "April" in labels(client, since="2026-04-01")
    assert "Days are those of Europe/Berlin." in client.get(LIST).content.decode()


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.django_db
def test_last_month_is_one_click_and_keeps_the_rest(acme: House, signed_in: SignedIn) -> None:
    happened(acme, "Lately", "call.approved", at=timezone.now())
    first = timezone.localdate().replace(day=1)
    happened(
        acme,
        "Before",
        "call.approved",
        at=timezone.make_aware(datetime.combine(first, datetime.min.time())) - timedelta(hours=1),
    )
    client = signed_in(acme.auditor)
    page = html.unescape(client.get(f"{LIST}?what=decisions").content.decode())
    found = re.search(r'href="(\?[^"]*)"[^>]*>Last month<', page)
    assert found is not None
    asked = dict(pair.split("=") for pair in found[1].removeprefix("?").split("&"))
    assert asked["what"] == "decisions"
    assert labels(client, **asked) == ["Before"]


@pytest.mark.django_db
def test_what_is_no_day_finds_nothing_and_says_why(trail: House, signed_in: SignedIn) -> None:
    client = signed_in(trail.auditor)
    for wrong in ({"since": "yesterday"}, {"what": "everything"}, {"since": "0001-01-01"}, {"who": "x" * 300}):
        page = client.get(f"{LIST}?{urlencode(wrong)}")
        assert page.status_code == 200
        assert "errorlist" in page.content.decode()
        assert labels(client, **wrong) == []


@pytest.mark.django_db
def test_person_and_kind_look_at_the_newest_of_the_days(
    trail: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_lists, "SEARCHED", 2)
    client = signed_in(trail.auditor)
    assert labels(client, what="people") == []
    assert "Approved" in labels(client, until="2026-03-30"), "days alone need no bound"


def test_the_file_has_what_the_list_shows(api: Api, trail: House, signed_in: SignedIn) -> None:
    client = signed_in(trail.auditor)
    page = client.get(f"{LIST}?{urlencode({'what': 'decisions', 'who': 'ada'} | MARCH)}").content.decode()
    form = page.partition('id="export-heading"')[2]
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    days = dict(re.findall(r'type="date" name="(\w+)" value="([^"]*)"', form))
    assert (hidden["what"], hidden["who"], days) == ("decisions", "ada", MARCH)
    lines = download(api, client, urlencode({"kind": "jsonl"} | hidden | days)).text.splitlines()
    events: list[Any] = [json.loads(line) for line in lines]
    assert [event["object_label"] for event in events] == ["Approved", "April"]
    noted = AuditEvent.objects.get(action="auditevent.exported").data
    assert (noted["who"], noted["what"], noted["since"]) == ("ada", "decisions", "2026-03-01")
