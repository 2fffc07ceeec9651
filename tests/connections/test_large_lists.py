"""Lists of tables that grow without end: a page at a time, without a count, and what is older is found by narrowing."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import audit, large_lists
from connections.models import User
from tests.conftest import House
from tools.models import Call

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/tools/call/"


def called(house: House, count: int) -> list[Call]:
    """Leave so many calls, the newest last."""
    now = timezone.now()
    return Call.objects.bulk_create(
        Call(
            tenant=house.tenant, tool_name=f"t-{number:03}", state="cancelled", error_code="x", sealed_arguments="x",
            created_at=now - timedelta(minutes=count - number), finished_at=now,
        )
        for number in range(count)
    )  # fmt: skip


def shown(page: str) -> list[str]:
    return re.findall(r"t-\d{3}", "".join(re.findall(r'<th class="field-tool_name">.*?</th>', page)))


def test_pages_follow_each_other_and_nothing_is_counted(acme: House, signed_in: SignedIn) -> None:
    called(acme, 120)
    client, found, address = signed_in(acme.admin), list[str](), "?"
    words = []
    while address:
        with CaptureQueriesContext(database) as asked:
            page = client.get(f"{LIST}{address}").content.decode()
        of_calls = [query["sql"] for query in asked if 'FROM "tools_call"' in query["sql"]]
        assert not [sql for sql in of_calls if "COUNT(" in sql]
        assert not [sql for sql in of_calls if "sealed_result" in sql or "sealed_arguments" in sql]
        found += shown(page)
        words += re.findall(r"(\d+ to \d+|\d+ calls)", page.partition('class="paginator"')[2])
        older = re.search(r'<a href="([^"]*)">Older</a>', page)
        address = older.group(1) if older else ""
    assert found == [f"t-{number:03}" for number in reversed(range(120))]
    assert words == ["1 to 50", "51 to 100", "101 to 120"]
    assert "Newer" in page


def test_a_list_on_one_page_says_how_many_there_are(acme: House, signed_in: SignedIn) -> None:
    called(acme, 3)
    page = signed_in(acme.admin).get(LIST).content.decode()
    assert "3 calls" in page
    assert "Older" not in page


def test_there_is_one_order_and_a_page_that_is_not_there_leads_back(acme: House, signed_in: SignedIn) -> None:
    called(acme, 60)
    client = signed_in(acme.admin)
    assert shown(client.get(f"{LIST}?o=1").content.decode())[0] == "t-059"
    for page in ("3", "0", "-1", "99999999", "x"):
        answer = client.get(f"{LIST}?p={page}")
        assert answer.status_code == (200 if page == "x" else 302), page


def test_the_last_page_says_how_to_get_to_what_is_older(
    acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_lists, "MOST_PAGES", 1)
    called(acme, 60)
    page = signed_in(acme.admin).get(LIST).content.decode()
    assert "Older</a>" not in page
    assert "when you narrow the list" in page


def test_a_search_looks_at_the_newest_and_finds_any_id(
    acme: House, rival: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_lists, "SEARCHED", 10)
    mine, theirs = called(acme, 20), called(rival, 1)
    client = signed_in(acme.admin)
    assert shown(client.get(f"{LIST}?q=t-01").content.decode()) == [f"t-{number:03}" for number in range(19, 9, -1)]
    assert shown(client.get(f"{LIST}?q=t-003").content.decode()) == []
    assert shown(client.get(f"{LIST}?q={mine[3].pk}").content.decode()) == ["t-003"]
    assert shown(client.get(f"{LIST}?q={theirs[0].pk}").content.decode()) == []
    Call.objects.filter(pk=mine[15].pk).update(request_id=str(theirs[0].pk))
    assert shown(client.get(f"{LIST}?q={theirs[0].pk}").content.decode()) == ["t-015"]
    assert "10 found" in client.get(f"{LIST}?q=t-01").content.decode()


def test_events_of_an_object_are_found_by_its_id(
    acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_lists, "SEARCHED", 1)
    connection = acme.connection()
    for _ in range(3):
        audit.record(acme.admin, "connection.changed", connection, tenant=acme.tenant)
        audit.record(acme.admin, "connection.changed", acme.tenant, tenant=acme.tenant)
    page = signed_in(acme.admin).get(f"/admin/connections/auditevent/?q={connection.pk}").content.decode()
    assert page.count("Connection: changed") == 3


def test_actions_are_for_the_rows_that_are_shown(acme: House, signed_in: SignedIn) -> None:
    called(acme, 60)
    page = signed_in(acme.admin).get(LIST).content.decode()
    assert "across all pages" not in page
    assert "0 of 50 selected" in page
