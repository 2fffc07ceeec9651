"""The audit trail as a file and for programs: whole, of one's own organization only, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.test import Client
from django.utils import timezone

from connections import audit, audit_pages, spreadsheets
from connections.models import AuditEvent, User
from tests.conftest import House
from tests.live import Api
from tests.loopback import NO_TLS

SignedIn = Callable[[User | None], Client]
FORMULA = '=HYPERLINK("https://evil.example","x")'


def download(api: Api, client: Client, query: str) -> httpx2.Response:
    """Fetch the file from the running product, which sends it as it is made."""
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60, cookies=cookies) as browser:
        return browser.get(f"{api.base}/admin/connections/auditevent/export/?{query}")


def test_the_whole_trail_is_downloaded_in_parts(
    api: Api, acme: House, rival: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_pages, "_AT_ONCE", 7)
    connection = acme.connection()
    connection.name = FORMULA
    connection.save()
    for number in range(20):
        audit.record(acme.admin, "connection.changed", connection, tenant=acme.tenant, number=number)
    audit.record(rival.admin, "connection.changed", rival.connection("Theirs"), tenant=rival.tenant)
    client = signed_in(acme.auditor)
    answer = download(api, client, "kind=jsonl")
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    events = [json.loads(line) for line in answer.text.splitlines()]
    numbers = [event["data"]["number"] for event in events if event["action"] == "connection.changed"]
    assert numbers == list(range(20))
    assert {event["organization"] for event in events} == {"acme"}
    assert len({event["id"] for event in events}) == len(events)
    table = list(csv.DictReader(io.StringIO(download(api, client, "kind=csv").text)))
    changed = [row for row in table if row["action"] == "connection.changed"]
    assert [json.loads(row["data"])["number"] for row in changed] == list(range(20))
    assert {row["object_label"] for row in changed} == {f"'{FORMULA}"}
    assert AuditEvent.objects.filter(action="auditevent.exported", tenant=acme.tenant).count() == 2


def test_days_narrow_it_down_and_what_is_no_day_is_told(api: Api, acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    for days in (400, 10, 0):
        AuditEvent.objects.create(
            tenant=acme.tenant, at=timezone.now() - timedelta(days=days), actor="x", action="connection.changed",
            object_type="connection", object_id=str(connection.pk), object_label=str(days),
        )  # fmt: skip
    client = signed_in(acme.admin)
    since = f"{timezone.now() - timedelta(days=11):%Y-%m-%d}"
    until = f"{timezone.now() - timedelta(days=9):%Y-%m-%d}"
    labels = [
        json.loads(line)["object_label"]
        for line in download(api, client, f"kind=jsonl&since={since}&until={until}").text.splitlines()
    ]
    assert labels == ["10"]
    for wrong in ("since=yesterday", "until=9999-12-31"):
        page = client.get(f"/admin/connections/auditevent/export/?kind=jsonl&{wrong}", follow=True)
        assert "Nothing was downloaded." in page.content.decode()


def test_a_stranger_names_no_other_organization(acme: House, rival: House, signed_in: SignedIn) -> None:
    address = f"/admin/connections/auditevent/export/?kind=csv&organization={acme.tenant.pk}"
    answer = signed_in(rival.admin).get(address)
    assert answer.status_code == 302
    assert answer["Location"] == "/admin/connections/auditevent/"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1"])
def test_no_text_begins_as_a_formula(text: str) -> None:
    assert spreadsheets.cell(text) == f"'{text}"


@pytest.mark.parametrize(("value", "expected"), [(-5, "-5"), (1.5, "1.5"), (None, ""), ("a=b", "a=b"), (True, "True")])
def test_everything_else_stays(value: Any, expected: str) -> None:
    assert spreadsheets.cell(value) == expected


# --- programs -------------------------------------------------------------------------------------------------------


def test_a_program_reads_it_in_order_with_a_cursor(api: Api, acme: House, rival: House) -> None:
    connection = acme.connection()
    for number in range(5):
        audit.record(acme.admin, "connection.changed", connection, tenant=acme.tenant, number=number)
    audit.record(rival.admin, "connection.changed", rival.connection("Theirs"), tenant=rival.tenant)
    program, path, seen = (
        api.as_(acme.member_token(acme.auditor)),
        "/v1/audit-events?limit=2&action=connection.changed",
        [],
    )
    while path:
        page = program.get(path).json()
        seen += page["results"]
        path = page["next"].partition("/v1/")[2] and f"/v1/{page['next'].partition('/v1/')[2]}" if page["next"] else ""
    assert [event["data"]["number"] for event in seen] == [0, 1, 2, 3, 4]
    later = program.get("/v1/audit-events", params={"since": seen[3]["at"], "action": "connection.changed"}).json()
    assert [event["data"]["number"] for event in later["results"]] == [3, 4]
    assert program.get("/v1/audit-events?since=soon").status_code == 400
    assert program.get("/v1/audit-events?actor=%00").status_code == 400
    for token in (acme.token(), acme.member_token(acme.member)):
        assert api.as_(token).get("/v1/audit-events").status_code == 403
