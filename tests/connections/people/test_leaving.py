"""Who is removed is out at once, everywhere; and an organization never loses its last admin, whoever is quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection as database
from django.db import connections as databases
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Invitation, Membership, Tenant, User
from connections.people import inviting
from tests.conftest import PASSWORD, House
from tests.tools.conftest import eventually

SignedIn = Callable[[User | None], Client]
ON_POSTGRESQL = pytest.mark.skipif("sqlite" in str(databases.settings), reason="one writer at a time there")


def page(house: House, user: User, name: str = "delete") -> str:
    return f"/admin/connections/membership/{house.membership(user).pk}/{name}/"


def is_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def remove(browser: Client, house: House, user: User) -> Any:
    return browser.post(page(house, user), {"post": "yes"})


@pytest.mark.django_db
def test_who_is_removed_has_no_browser_and_no_token_left(
    acme: House, rival: House, api: Any, signed_in: SignedIn
) -> None:
    Membership.objects.create(user=acme.member, tenant=rival.tenant, role="member")
    here, there, admin = signed_in(acme.member), signed_in(acme.member), signed_in(acme.admin)
    token = acme.member_token(acme.member)
    assert (is_in(here), is_in(there)) == (True, True)
    shown = admin.get(page(acme, acme.member)).content.decode()
    assert "1 API token of theirs works no longer" in shown
    assert "Their account stays" in shown
    assert remove(admin, acme, acme.member).status_code == 302
    assert (is_in(here), is_in(there), is_in(admin)) == (False, False, True)
    assert api.as_(token).get("/v1/connections").status_code == 401
    event = AuditEvent.objects.get(action="membership.deleted")
    assert (event.actor, event.data["tokens_ended"]) == (acme.admin.username, 1)
    again = Client()
    again.post("/admin/login/", {"username": acme.member.username, "password": PASSWORD})
    assert is_in(again)  # a member of the other organization as before
    assert "acme" not in again.get("/admin/connections/tenant/").content.decode().replace("member@acme", "")


@pytest.mark.django_db
def test_a_role_that_is_taken_away_counts_from_the_next_click_on(acme: House, signed_in: SignedIn) -> None:
    admin, member = signed_in(acme.admin), signed_in(acme.member)
    add = "/admin/connections/connection/add/"
    assert member.get(add).status_code == 403
    admin.post(page(acme, acme.member, "change"), {"role": "admin"})
    assert member.get(add).status_code == 200
    admin.post(page(acme, acme.member, "change"), {"role": "auditor"})
    assert member.get(add).status_code == 403
    roles = [event.data["changes"]["role"] for event in AuditEvent.objects.filter(action="membership.changed")]
    assert sorted(roles) == [["Admin", "Auditor"], ["Member", "Admin"]]


@pytest.mark.django_db
def test_who_belongs_nowhere_is_told_so_at_the_door(acme: House, signed_in: SignedIn) -> None:
    remove(signed_in(acme.admin), acme, acme.member)
    browser = Client()
    answer = browser.post(
        "/admin/login/", {"username": acme.member.username, "password": PASSWORD, "next": "/admin/"}, follow=True
    )
    page = answer.content.decode()
    assert "You belong to no organization" in page
    assert "Sign out" in page


@pytest.mark.django_db
def test_an_admin_who_cannot_sign_in_is_no_admin_that_stays(acme: House, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=acme.member).update(role="admin")
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    remove(signed_in(acme.admin), acme, acme.admin)
    assert acme.membership(acme.admin)


@pytest.mark.django_db
def test_staff_do_not_delete_somebody_who_is_an_only_admin(acme: House, superuser: User, signed_in: SignedIn) -> None:
    client = signed_in(superuser)
    path = f"/admin/connections/user/{acme.admin.pk}/delete/"
    assert "acme has no other admin" in client.get(path).content.decode()
    client.post(path, {"post": "yes"})
    assert User.objects.filter(pk=acme.admin.pk).exists()
    Membership.objects.filter(user=acme.member).update(role="admin")
    client.post(path, {"post": "yes"})
    assert not User.objects.filter(pk=acme.admin.pk).exists()


# --- two at once ---


def waiting(number: int) -> bool:
    """Whether so many wait for somebody else's row."""
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0]) >= number


@contextmanager
def locked(tenant: Tenant) -> Iterator[None]:
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        yield


def at_once(tenant: Tenant, *asks: Callable[[], Any]) -> list[Any]:
    """Have all of them wait for the organization's row, and then go on at the same moment."""

    def closed(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        finally:
            databases.close_all()

    with ThreadPoolExecutor(len(asks)) as pool:
        with locked(tenant):
            answers = [pool.submit(closed, ask) for ask in asks]
            eventually(lambda: waiting(len(asks)), "all wait for the row")
        return [answer.result(timeout=60) for answer in answers]


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
def test_two_admins_who_remove_each_other_leave_one(acme: House, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=acme.member).update(role="admin")
    ann, bob = signed_in(acme.admin), signed_in(acme.member)
    at_once(acme.tenant, lambda: remove(ann, acme, acme.member), lambda: remove(bob, acme, acme.admin))
    assert acme.tenant.memberships.filter(role="admin").count() == 1


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
def test_two_admins_who_step_down_at_once_leave_one(acme: House, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=acme.member).update(role="admin")
    answers: list[HttpResponse] = at_once(
        acme.tenant,
        lambda: signed_in(acme.admin).post(page(acme, acme.admin, "change"), {"role": "member"}),
        lambda: signed_in(acme.member).post(page(acme, acme.member, "change"), {"role": "member"}),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert acme.tenant.memberships.filter(role="admin").count() == 1


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
def test_two_who_open_one_link_at_once_are_one_member(acme: House) -> None:
    row = Invitation(tenant=acme.tenant, email="bea@acme.example")
    row.new_key(timezone.now())
    row.save()
    bea = User.objects.create_user("bea", "bea@acme.example", PASSWORD)

    def join() -> bool:
        try:
            return inviting.join(row, bea, timezone.now()) is not None
        except inviting.LinkIsOver:
            return False

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            Invitation.objects.select_for_update().get(pk=row.pk)
            answers = [pool.submit(lambda: (join(), databases.close_all())[0]) for _ in range(2)]
            eventually(lambda: waiting(2), "both wait for the row")
        assert sorted(answer.result(timeout=60) for answer in answers) == [False, True]
    assert acme.tenant.memberships.filter(user=bea).count() == 1
