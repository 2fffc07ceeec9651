"""Superusers look at every organization; to change what is its own they act in it, which its admins see."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from connections import tasks
from connections.models import AuditEvent, StaffVisit, User
from connections.notices import audit_feed
from tests.conftest import ActIn, House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def page_of(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/"


def act(client: Client, house: House, reason: str = "Ticket 7") -> None:
    assert client.post(f"{page_of(house)}act/", {"reason": reason}).status_code == 302


def switches(client: Client, house: House) -> bool:
    """Whether this browser can disable the organization's connection, or enable it."""
    connection = house.tenant.connections.get()
    action = "disable" if connection.enabled else "enable"
    client.post(LIST, {"action": action, "_selected_action": str(connection.pk)})
    return bool(house.tenant.connections.get().enabled != connection.enabled)


def history(house: House) -> str:
    client = Client()
    client.force_login(house.admin)
    return text_of(client.get(f"{page_of(house)}history/").content.decode())


def test_a_superuser_changes_nothing_of_an_organization_until_they_act_in_it(
    acme: House, rival: House, superuser: User, signed_in: SignedIn
) -> None:
    for house in (acme, rival):
        house.connection("Orders")
    client = signed_in(superuser)
    connection = acme.tenant.connections.get()
    page = text_of(client.get(f"{LIST}{connection.pk}/change/").content.decode())
    assert "You only look at this. To change it, act in acme (acme)" in page
    assert not switches(client, acme)
    act(client, acme)
    assert switches(client, acme)
    assert not switches(client, rival)
    assert "Orders" in client.get(f"{LIST}?q=Orders").content.decode(), "they look at all of them meanwhile"


def test_every_page_says_where_staff_act_until_they_stop(acme: House, superuser: User, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    client = signed_in(superuser)
    act(client, acme, reason="Ticket <7>")
    for path in ("/admin/", LIST, page_of(acme) + "change/", "/admin/inbox/", "/account/"):
        page = client.get(path).content.decode()
        assert "You act in acme as staff until" in text_of(page), path
        assert "Ticket &lt;7&gt;" in page, path
        assert "Staff: acts in acme" in page, path
    client.post(f"{page_of(acme)}leave/")
    assert "You act in" not in client.get(LIST).content.decode()
    assert not switches(client, acme)


def test_its_admins_read_who_acted_why_and_what_was_done(acme: House, superuser: User, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    client = signed_in(superuser)
    act(client, acme, reason="Ticket 7")
    assert switches(client, acme)
    client.post(f"{page_of(acme)}leave/")
    told = list(AuditEvent.objects.filter(tenant=acme.tenant).order_by("at").values_list("action", "data__by_staff"))
    assert told == [
        ("tenant.staff_began_to_act", True), ("connection.disabled", True), ("tenant.staff_stopped_acting", True),
    ]  # fmt: skip
    lines = history(acme)
    assert "root@duvo.example (staff)" in lines
    assert "Staff began to act" in lines
    assert "Ticket 7" in lines
    assert "Staff stopped acting" in lines


def test_what_staff_do_without_it_is_marked_too_and_what_its_own_people_do_is_not(
    acme: House, superuser: User, signed_in: SignedIn
) -> None:
    acme.connection("Orders")
    assert switches(signed_in(acme.admin), acme)
    assert signed_in(superuser).post(f"{page_of(acme)}suspend/", {"reason": "Unpaid"}).status_code == 302
    told = dict(AuditEvent.objects.filter(tenant=acme.tenant).values_list("action", "data__by_staff"))
    assert told == {"connection.disabled": None, "tenant.suspended": True}


def test_it_is_over_after_an_hour_by_itself(acme: House, superuser: User, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    client = signed_in(superuser)
    act(client, acme)
    visit = StaffVisit.objects.get()
    assert timedelta(minutes=59) < visit.ends_at - timezone.now() <= timedelta(hours=1)
    tasks.end_staff_visits()
    assert switches(client, acme)
    StaffVisit.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert not switches(client, acme)
    assert "You act in" not in client.get(LIST).content.decode()
    for _ in range(2):
        tasks.end_staff_visits()
    ended = AuditEvent.objects.get(tenant=acme.tenant, action="tenant.staff_stopped_acting")
    assert (ended.actor, ended.data) == (superuser.username, {"why": "after an hour", "by_staff": True})
    assert not StaffVisit.objects.exists()


def test_signing_out_ends_it(acme: House, act_in: ActIn) -> None:
    act_in(acme.tenant).post("/admin/logout/")
    assert not StaffVisit.objects.exists()
    assert AuditEvent.objects.filter(tenant=acme.tenant, action="tenant.staff_stopped_acting").count() == 1


def test_it_holds_in_one_browser_of_one_superuser(
    acme: House, superuser: User, act_in: ActIn, signed_in: SignedIn
) -> None:
    acme.connection("Orders")
    acting = act_in(acme.tenant)
    assert not switches(signed_in(superuser), acme)
    superuser.is_superuser = False
    superuser.save(update_fields=["is_superuser"])
    assert not switches(acting, acme)


def test_acting_elsewhere_ends_the_visit_before(acme: House, rival: House, superuser: User, act_in: ActIn) -> None:
    client = act_in(acme.tenant)
    act(client, rival)
    assert StaffVisit.objects.get().tenant == rival.tenant
    assert AuditEvent.objects.filter(tenant=acme.tenant, action="tenant.staff_stopped_acting").count() == 1
    assert not AuditEvent.objects.filter(tenant=rival.tenant, action="tenant.staff_stopped_acting").exists()


def test_who_acts_in_one_organization_adds_nothing_to_another(acme: House, rival: House, act_in: ActIn) -> None:
    client, there = act_in(acme.tenant), {"tenant": str(rival.tenant.pk), "name": "Trojan", "enabled": "on"}
    client.post(
        "/admin/connections/connection/add/", there | {"server_url": "https://8.8.8.8/mcp", "authorization": "none"}
    )
    client.post("/admin/tools/assignment/add/", there | {"scope": "all"})
    assert (acme.tenant.connections.count(), acme.tenant.assignments.count()) == (1, 1), "it is added where they act"
    assert not rival.tenant.connections.exists()
    assert not rival.tenant.assignments.exists()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 301])
def test_it_takes_a_reason(acme: House, superuser: User, signed_in: SignedIn, reason: str) -> None:
    client = signed_in(superuser)
    answer = client.post(f"{page_of(acme)}act/", {"reason": reason}, follow=True)
    assert "Say why, as its admins read it." in answer.content.decode()
    assert not StaffVisit.objects.exists()


def test_quotas_and_suspension_need_no_visit_and_nothing_else_of_the_form_is_taken(
    acme: House, superuser: User, signed_in: SignedIn
) -> None:
    client = signed_in(superuser)
    audit_feed.start(acme.tenant)
    sent = {
        "name": "Renamed", "webhook_url": "https://localhost/other", "members_own": "on", "retention_days": "3",
        "max_concurrency": "7", "max_connections": "8", "max_assignments": "9", "max_tokens": "10",
        "max_open_calls": "11", "max_sessions": "12", "max_stored": "13",
    }  # fmt: skip
    assert client.post(f"{page_of(acme)}change/", sent).status_code == 302
    acme.tenant.refresh_from_db()
    assert (acme.tenant.name, acme.tenant.webhook_url, acme.tenant.retention_days) == ("acme", "", 30)
    assert (acme.tenant.max_concurrency, acme.tenant.max_connections, acme.tenant.max_stored) == (7, 8, 13)
    assert audit_feed.is_on(acme.tenant), "what a page does not show is not taken away by saving it"


def test_what_staff_add_is_owned_by_nobody_who_does_not_belong_there(acme: House, act_in: ActIn) -> None:
    client = act_in(acme.tenant)
    sent = {"tenant": acme.tenant.pk, "name": "Made by staff", "scope": "all", "enabled": "on"}
    assert client.post("/admin/tools/assignment/add/", sent).status_code == 302
    assert acme.tenant.assignments.get(name="Made by staff").owner is None


def test_tokens_that_staff_issue_end_with_their_visit(acme: House, act_in: ActIn) -> None:
    assignment, client = acme.assignment(), act_in(acme.tenant)
    page = f"/admin/tools/assignment/{assignment.pk}"
    once = re.search(r'name="once" value="([^"]+)"', client.get(f"{page}/change/").content.decode())
    assert once
    answer = client.post(f"{page}/tokens/", {"once": unescape(once[1]), "label": "Looking into it"})
    assert answer.status_code in {200, 302}, answer.content
    token, visit = assignment.access_tokens.get(), StaffVisit.objects.get()
    assert token.expires_at == visit.ends_at
    client.post(f"{page_of(acme)}leave/")
    token.refresh_from_db()
    assert token.revoked_at is not None, "and with its end before that"


def test_nobody_changes_what_is_suspended(acme: House, superuser: User, act_in: ActIn, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    client = act_in(acme.tenant)
    acme.tenant.suspend("Unpaid")
    assert not switches(client, acme)
    assert not switches(signed_in(acme.admin), acme)


def test_who_is_a_member_needs_no_visit_there(acme: House, superuser: User, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    acme.tenant.memberships.create(user=superuser, role="admin")
    assert switches(signed_in(superuser), acme)
    assert AuditEvent.objects.get(tenant=acme.tenant, action="connection.disabled").data.get("by_staff") is None


def test_nobody_else_acts_as_staff(acme: House, rival: House, reviewer: User, signed_in: SignedIn) -> None:
    for user, status in ((acme.admin, 403), (rival.admin, 404), (reviewer, 404), (None, 302)):
        answer = signed_in(user).post(f"{page_of(acme)}act/", {"reason": "Why not"})
        assert answer.status_code == status, user
    assert not StaffVisit.objects.exists()


def test_what_staff_change_of_a_person_stands_in_the_trail_of_their_organizations(
    acme: House, superuser: User, signed_in: SignedIn
) -> None:
    """Else who can sign in as an organization's admin could be changed without its knowing."""
    page = f"/admin/connections/user/{acme.member.pk}/change/"
    sent = {"username": acme.member.username, "email": "other@acme.example", "is_active": "on"}
    assert signed_in(superuser).post(page, sent).status_code == 302
    told = AuditEvent.objects.get(tenant=acme.tenant, action="user.changed")
    assert (told.actor, told.data["by_staff"]) == (superuser.username, True)
    assert "other@acme.example" not in str(told.data)
