"""The page Activity and `GET /v1/usage`: the same numbers, of one's own organization, for any days."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Membership, User
from tests.conftest import House
from tests.live import Api
from tests.tools.calls.test_activity import called
from tools.calls import activity
from tools.models import DailyUse

SignedIn = Callable[[User | None], Client]
PAGE = "/admin/tools/dailyuse/"


@pytest.fixture
def busy(acme: House, rival: House) -> House:
    now = timezone.now()
    orders, nightly = acme.connection("Orders"), acme.assignment("Nightly")
    for days in (0, 0, 3, 40):
        called(acme, nightly, orders, at=now - timedelta(days=days))
    called(acme, nightly, orders, state="failed", tool="=cmd()")
    called(acme, acme.assignment("Other"), orders, at=now, tool="orders__stock")
    called(rival, rival.assignment("Theirs"), rival.connection("Theirs"), at=now, tool="theirs__secret")
    DailyUse.objects.all().delete()
    activity.count_all(now)
    return acme


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_it_shows_the_last_week_and_leads_to_the_calls(busy: House, signed_in: SignedIn) -> None:
    client = signed_in(busy.auditor)
    page = client.get(PAGE).content.decode()
    assert "Calls 4 " in text_of(page)
    assert "theirs" not in page.lower()
    by_tool = client.get(f"{PAGE}?by=tool").content.decode()
    assert "orders__stock" in by_tool
    pages = page + by_tool + client.get(f"{PAGE}?by=connection").content.decode()
    links = re.findall(r'<td><a href="([^"]+)" aria-label="The calls of [^"]+">(\d+)</a>', pages)
    assert links
    for link, number in links:
        assert client.get(unescape(link)).context["cl"].result_count == int(number), link
    assert "Nightly" in client.get(f"{PAGE}?by=assignment").content.decode()
    assert "admin@acme.example" in client.get(f"{PAGE}?by=owner").content.decode()


def test_any_days_and_one_thing_only(busy: House, signed_in: SignedIn) -> None:
    client = signed_in(busy.admin)
    since = f"{timezone.now() - timedelta(days=60):%Y-%m-%d}"
    assert "Calls 5 " in text_of(client.get(f"{PAGE}?since={since}").content.decode())
    nightly = DailyUse.objects.filter(assignment_name="Nightly").values_list("assignment", flat=True)[0]
    narrowed = text_of(client.get(f"{PAGE}?since={since}&assignment={nightly}&by=tool").content.decode())
    assert "Only assignment Nightly." in narrowed
    assert "Calls 4 " in narrowed
    for wrong, words in (
        ("since=2026-02-01&until=2026-01-01", "after the last one"),
        ("since=2020-01-01&until=2026-01-01", "more than 400 days"),
        ("since=0001-01-01", "greater than or equal"), ("until=9999-12-31", "less than or equal"),
        ("since=soon", "valid date"), ("by=weather", "valid choice"), ("assignment=x", "valid UUID"),
    ):  # fmt: skip
        answer = client.get(f"{PAGE}?{wrong}")
        assert answer.status_code == 200
        assert words in answer.content.decode().replace("&#x27;", "'"), wrong


def test_the_file_has_the_same_numbers_and_no_formula(busy: House, signed_in: SignedIn) -> None:
    since = "2026-06-01"
    client = signed_in(busy.admin)
    answer = client.get(f"{PAGE}?since={since}&until={timezone.now():%Y-%m-%d}&by=tool&as=csv")
    table = {row["tool"]: row for row in csv.DictReader(io.StringIO(answer.content.decode()))}
    assert answer["Content-Disposition"].startswith("attachment;")
    assert table["orders__echo"]["calls"] == "4"
    assert table["orders__echo"]["p95 ms"].isdigit()
    assert table["'=cmd()"]["failures"] == "1"


def test_who_is_in_several_organizations_chooses_and_staff_see_all(
    busy: House, rival: House, signed_in: SignedIn, superuser: User
) -> None:
    Membership.objects.create(user=rival.admin, tenant=busy.tenant, role="auditor")
    client = signed_in(rival.admin)
    assert "Calls 5 " in text_of(client.get(PAGE).content.decode())
    assert "Calls 1 " in text_of(client.get(f"{PAGE}?organization={rival.tenant.pk}").content.decode())
    assert "Calls 5 " in text_of(signed_in(superuser).get(PAGE).content.decode())
    stranger = signed_in(busy.admin).get(f"{PAGE}?organization={rival.tenant.pk}&by=tool").content.decode()
    assert "theirs__secret" not in stranger


def test_the_pages_of_what_was_called_lead_there_for_those_who_see_calls(busy: House, signed_in: SignedIn) -> None:
    connection, assignment = busy.tenant.connections.get(), busy.tenant.assignments.get(name="Nightly")
    for path in (
        f"/admin/connections/connection/{connection.pk}/change/",
        f"/admin/tools/assignment/{assignment.pk}/change/",
    ):
        seen = signed_in(busy.auditor).get(path).content.decode()
        assert f"{PAGE}?" in seen
        assert "/admin/tools/call/?" in seen
        for link in re.findall(rf'href="({re.escape(PAGE)}\?[^"]+)"', seen):
            assert signed_in(busy.auditor).get(link.replace("&amp;", "&")).status_code == 200
        assert f"{PAGE}?" not in signed_in(busy.member).get(path).content.decode()


def test_an_assignment_reads_its_own_use(api: Api, busy: House) -> None:
    nightly = busy.tenant.assignments.get(name="Nightly")
    said = api.as_(busy.token(nightly)).get("/v1/usage?by=tool").json()
    assert said["total"]["calls"] == 3
    assert [(use["name"], use["calls"]) for use in said["results"]] == [("orders__echo", 3)]
    assert said["total"]["p95_ms"] is not None
    whole = api.as_(busy.member_token(busy.auditor)).get("/v1/usage?by=assignment").json()
    assert {use["name"]: use["calls"] for use in whole["results"]} == {"Nightly": 3, "Other": 1}
    assert api.as_(busy.member_token(busy.member)).get("/v1/usage").status_code == 403
    clipped = api.as_(busy.token(nightly)).get("/v1/usage?since=2020-01-01&until=2026-06-30").json()
    assert (clipped["since"], clipped["until"]) == ("2025-05-27", "2026-06-30"), "the answer says which days it tells"
    for wrong in ("by=weather", "since=soon"):
        assert api.as_(busy.token(nightly)).get(f"/v1/usage?{wrong}").status_code == 400
    assert (
        api.as_(busy.token(nightly)).get("/v1/usage?since=2026-06-01&until=2026-06-30").json()["total"]["failures"] == 1
    )


def test_the_page_asks_few_questions(busy: House, signed_in: SignedIn, django_assert_max_num_queries: Any) -> None:
    client = signed_in(busy.admin)
    with django_assert_max_num_queries(20):
        client.get(f"{PAGE}?by=tool")
