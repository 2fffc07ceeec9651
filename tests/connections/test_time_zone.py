"""People read times in the time zone of their organization, which names it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from connections import audit, moments
from connections.models import AuditEvent, Membership, User
from tests.conftest import ActIn, House
from tests.connections.estate import Estate, rows
from tests.connections.isolation import PAGES
from tests.connections.test_audit_export import download
from tests.connections.test_organization_bounds import save
from tests.live import Api
from tests.servers.mail import MailServer
from tests.tools.calls.test_activity import called
from tools.calls import activity

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
AT = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def in_zone(house: House, name: str) -> None:
    house.tenant.time_zone = name
    house.tenant.save()


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("Europe/Berlin", "Europe/Berlin"), (" europe/berlin ", "Europe/Berlin"), ("america/new york", "America/New_York"),
     ("UTC", "UTC"), ("", "Asia/Tokyo")],
)  # fmt: skip
def test_its_admins_choose_the_zone(acme: House, signed_in: SignedIn, sent: str, stored: str) -> None:
    in_zone(acme, "Asia/Tokyo")
    assert save(signed_in(acme.admin), acme, time_zone=sent).status_code == 302
    acme.tenant.refresh_from_db()
    assert acme.tenant.time_zone == stored


@pytest.mark.parametrize("sent", ["Mars/Olympus", "../../etc/passwd", "Europe", "CET+1", "x" * 100])
def test_what_is_no_zone_is_refused_beside_its_field(acme: House, signed_in: SignedIn, sent: str) -> None:
    page = save(signed_in(acme.admin), acme, time_zone=sent)
    assert page.status_code == 200
    assert "No time zone has this name" in page.content.decode()
    acme.tenant.refresh_from_db()
    assert acme.tenant.time_zone == "UTC"


def test_the_form_offers_the_zones_of_places(acme: House, signed_in: SignedIn) -> None:
    page = signed_in(acme.admin).get(f"/admin/connections/tenant/{acme.tenant.pk}/change/").content.decode()
    assert '<option value="Europe/Berlin">' in page
    assert "Etc/GMT" not in page
    assert len(page) < 100_000


def test_history_tells_of_another_zone(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    save(client, acme, time_zone="Europe/Berlin")
    page = text_of(client.get(f"/admin/connections/tenant/{acme.tenant.pk}/history/").content.decode())
    assert "Changed time zone from UTC to Europe/Berlin" in page


def test_pages_are_in_the_zone_of_their_reader_and_say_so(
    acme: House, rival: House, reviewer: User, signed_in: SignedIn
) -> None:
    in_zone(acme, "Europe/Berlin")
    page = f"/admin/connections/tenant/{acme.tenant.pk}/history/"
    event = audit.record(acme.admin, "tenant.changed", acme.tenant, tenant=acme.tenant)
    local = timezone.localtime(event.at, moments.zone_of("Europe/Berlin"))
    seen = text_of(signed_in(acme.admin).get(page).content.decode())
    assert f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}" in seen
    assert "Times on this page are those of Europe/Berlin." in seen
    assert "Times on this page are those of Europe/Berlin." in signed_in(acme.admin).get("/account/").content.decode()
    for other in (rival.admin, reviewer):
        assert "Times on this page" not in signed_in(other).get("/admin/").content.decode()


def test_who_belongs_to_two_zones_reads_utc_until_they_choose_one(
    acme: House, rival: House, signed_in: SignedIn
) -> None:
    in_zone(acme, "Europe/Berlin")
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="member")
    client = signed_in(acme.admin)
    assert "Times on this page" not in client.get("/admin/").content.decode()
    client.post("/account/organization/", {"organization": str(acme.tenant.pk)})
    assert "Times on this page are those of Europe/Berlin." in client.get("/admin/").content.decode()


def test_staff_read_the_zone_of_the_organization_in_which_they_act(acme: House, act_in: ActIn) -> None:
    in_zone(acme, "Europe/Berlin")
    client = act_in(acme.tenant)
    assert "Times on this page are those of Europe/Berlin." in client.get("/admin/").content.decode()


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model.__name__)
def test_every_page_works_in_a_zone_far_away(
    model: type[Model], acme: House, estate: Estate, signed_in: SignedIn
) -> None:
    in_zone(acme, "Pacific/Chatham")
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    client = signed_in(acme.admin)
    for page, answers in PAGES[model].items():
        path = {"changelist": base, "add": f"{base}add/"}.get(page, f"{base}{rows(acme, estate)[model].pk}/{page}/")
        assert client.get(path).status_code == answers[1], path


def test_mails_are_in_the_organizations_zone(acme: House, signed_in: SignedIn, mail_server: MailServer) -> None:
    in_zone(acme, "Asia/Kolkata")
    invitation = {"email": "bea@acme.example", "role": "member", "days": "3"}
    assert signed_in(acme.admin).post("/admin/connections/invitation/add/", invitation).status_code == 302
    [mail] = [message for address, message in mail_server.taken if address == "bea@acme.example"]
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d IST", mail.get_content())


def test_files_stay_in_utc(acme: House, signed_in: SignedIn, api: Api) -> None:
    in_zone(acme, "Asia/Tokyo")
    event = audit.record(acme.admin, "tenant.changed", acme.tenant, tenant=acme.tenant)
    text = download(api, signed_in(acme.admin), "kind=csv").text
    told = {row["id"]: row["at"] for row in csv.DictReader(io.StringIO(text))}
    assert told[str(event.pk)] == event.at.astimezone(UTC).isoformat(timespec="milliseconds")


def test_activity_and_usage_tell_the_organizations_days(acme: House, signed_in: SignedIn, api: Api) -> None:
    in_zone(acme, "Asia/Tokyo")
    now = timezone.now()
    assignment, orders = acme.assignment(), acme.connection("Orders")
    at = activity.start_of(timezone.localdate(now, moments.zone_of("Asia/Tokyo")), moments.zone_of("Asia/Tokyo"))
    called(acme, assignment, orders, at=at - timedelta(minutes=1))
    called(acme, assignment, orders, at=at)
    activity.count_all(now)
    client = signed_in(acme.admin)
    page = client.get("/admin/tools/dailyuse/?by=day").content.decode()
    assert "Days are those of Asia/Tokyo." in text_of(page)
    links = re.findall(r'<td><a href="([^"]+)" aria-label="The calls of ([^"]+)">(\d+)</a>', page)
    assert [(day, number) for _, day, number in links] == [
        (f"{at - timedelta(days=1):%Y-%m-%d}", "1"), (f"{at:%Y-%m-%d}", "1"),
    ]  # fmt: skip
    for link, _, number in links:
        assert client.get(unescape(link)).context["cl"].result_count == int(number)
    told = api.as_(acme.token(assignment)).get("/v1/usage").json()
    assert told["time_zone"] == "Asia/Tokyo"
    assert (told["until"], told["total"]["calls"]) == (f"{at:%Y-%m-%d}", 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [("UTC", "2026-07-01 22:30 UTC"), ("Europe/Berlin", "2026-07-02 00:30 CEST"),
     ("Asia/Dubai", "2026-07-02 02:30 UTC+04"), ("Nowhere/Else", "2026-07-01 22:30 UTC")],
)  # fmt: skip
def test_a_moment_names_its_zone(name: str, words: str) -> None:
    assert moments.shown(AT, zone=moments.zone_of(name)) == words


def test_an_event_at_any_moment_is_found_by_its_day_in_the_zone(acme: House, signed_in: SignedIn) -> None:
    in_zone(acme, "Asia/Tokyo")
    audit.record(acme.admin, "tenant.changed", acme.tenant, tenant=acme.tenant)
    found = signed_in(acme.admin).get("/admin/connections/auditevent/").content.decode()
    today = re.search(r'href="(\?since=[^"]+)"[^>]*>Today', found)
    assert today is not None
    answer = signed_in(acme.admin).get(f"/admin/connections/auditevent/{unescape(today[1])}")
    assert answer.status_code == 200
    assert AuditEvent.objects.filter(tenant=acme.tenant).count() == answer.context["cl"].result_count
