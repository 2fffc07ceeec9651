"""An admin invites by mail, and whoever was meant comes in: once, in time, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Invitation, Membership, User
from connections.people import inviting
from connections.tasks import forget_sessions
from tests.conftest import PASSWORD, House
from tests.connections.people.links import NEW, heading, invite, last_link, path_of
from tests.servers.mail import MailServer

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
BEA = "bea@acme.example"
MEMBERS = "/admin/connections/membership/"


@pytest.fixture
def link(acme: House, signed_in: SignedIn, mail_server: MailServer) -> str:
    """The link that Bea was mailed."""
    answer: Any = invite(signed_in(acme.admin), BEA, "admin")
    assert (answer.status_code, answer["Location"]) == (302, MEMBERS)
    return last_link(mail_server, BEA)


def test_the_invited_makes_an_account_and_is_in(acme: House, link: str, mail_server: MailServer) -> None:
    browser = Client()
    assert heading(browser.get(link).content) == "Join acme"
    answer = browser.post(link, NEW, follow=True)
    assert answer.redirect_chain == [("/admin/", 302)]
    assert "Welcome to acme" in answer.content.decode()
    bea = User.objects.get(username=BEA)
    assert (bea.email, bea.first_name, bea.check_password(PASSWORD), bea.is_superuser) == (
        BEA,
        "Bea Bright",
        True,
        False,
    )
    assert acme.membership(bea).role == "admin"
    [mail] = [message for address, message in mail_server.taken if address == BEA]
    assert "admin@acme.example invites you to acme" in mail["Subject"]
    assert set(AuditEvent.objects.filter(tenant=acme.tenant).values_list("actor", "action")) == {
        (acme.admin.username, "invitation.created"), (BEA, "invitation.accepted"), (BEA, "membership.created"),
        (BEA, "user.signed_in"),
    }  # fmt: skip


def test_a_link_works_once(acme: House, link: str) -> None:
    assert Client().post(link, NEW).status_code == 302
    for answer in (Client().get(link), Client().post(link, NEW | {"name": "Mallory"})):
        assert (answer.status_code, heading(answer.content)) == (410, "This link was used")
        assert BEA not in answer.content.decode()
    assert acme.tenant.memberships.count() == 4


def test_a_link_works_for_so_many_days_and_then_says_whom_to_ask(acme: House, link: str) -> None:
    left = Invitation.objects.get().expires_at - timezone.now()
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    Invitation.objects.update(expires_at=timezone.now())
    answer = Client().post(link, NEW)
    assert (answer.status_code, heading(answer.content)) == (410, "This link has expired")
    assert f"Ask {acme.admin.username} to send it again" in answer.content.decode()
    assert not User.objects.filter(username=BEA).exists()


def test_who_is_signed_in_as_somebody_else_is_told_so_and_does_not_come_in(
    acme: House, rival: House, link: str, signed_in: SignedIn
) -> None:
    mallory = signed_in(rival.admin)
    for answer in (mallory.get(link), mallory.post(link)):
        assert (answer.status_code, heading(answer.content)) == (403, "This invitation is for somebody else")
    assert not acme.tenant.memberships.filter(user=rival.admin).exists()
    out = mallory.post("/admin/logout/", {"next": link})
    assert (out.status_code, out["Location"]) == (302, link)
    assert heading(mallory.get(link).content) == "Join acme"


def test_who_has_an_account_signs_in_with_it_and_joins(
    acme: House, rival: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    invite(signed_in(acme.admin), rival.member.email.upper(), "auditor")
    link = last_link(mail_server, rival.member.email)
    browser = Client()
    page = browser.get(link).content.decode()
    assert "has an account already" in page
    assert "password1" not in page
    assert browser.post(link, NEW).status_code == 200  # makes no second account
    entered = {"username": rival.member.username, "password": PASSWORD, "next": link}
    assert browser.post("/admin/login/", entered)["Location"] == link
    assert "your role will be auditor" in browser.get(link).content.decode()
    assert not acme.tenant.memberships.filter(user=rival.member).exists()  # looking at a link changes nothing
    assert browser.post(link)["Location"] == "/admin/"
    assert acme.membership(rival.member).role == "auditor"
    assert User.objects.filter(email__iexact=rival.member.email).count() == 1


@pytest.mark.parametrize("query", ["", "?key=", "?key=x", f"?key={'x' * 5000}", "?key=%ED%A0%80", "?key=a%00b"])
def test_a_link_that_was_never_sent_opens_nothing(link: str, query: str) -> None:
    for answer in (Client().get(f"/join/{query}"), Client().post(f"/join/{query}", NEW)):
        assert (answer.status_code, heading(answer.content)) == (404, "This link opens nothing")


def test_a_link_that_is_sent_again_is_a_new_one(
    acme: House, link: str, signed_in: SignedIn, mail_server: MailServer
) -> None:
    row = Invitation.objects.get()
    Invitation.objects.update(expires_at=timezone.now())
    answer = signed_in(acme.admin).post(f"/admin/connections/invitation/{row.pk}/send/")
    assert (answer.status_code, answer["Location"]) == (302, MEMBERS)
    new = last_link(mail_server, BEA)
    assert new != link
    assert Client().get(link).status_code == 404
    assert Client().post(new, NEW).status_code == 302


def test_inviting_an_address_again_sends_a_new_link_with_the_new_role(
    acme: House, link: str, signed_in: SignedIn, mail_server: MailServer
) -> None:
    invite(signed_in(acme.admin), BEA, "auditor", days=2)
    row = Invitation.objects.get()
    assert (row.role, row.days) == ("auditor", 2)
    Client().post(last_link(mail_server, BEA), NEW)
    assert acme.membership(User.objects.get(username=BEA)).role == "auditor"


def test_a_withdrawn_link_opens_nothing(acme: House, link: str, signed_in: SignedIn) -> None:
    row = Invitation.objects.get()
    assert signed_in(acme.admin).post(f"/admin/connections/invitation/{row.pk}/withdraw/").status_code == 302
    assert Client().get(link).status_code == 404
    assert AuditEvent.objects.filter(action="invitation.withdrawn", object_label=str(row)).exists()


def test_the_pending_are_listed_above_the_members_for_those_who_may_see_them(
    acme: House, rival: House, link: str, signed_in: SignedIn
) -> None:
    page = signed_in(acme.admin).get(MEMBERS).content.decode()
    assert page.index(BEA) < page.index(acme.auditor.username)
    assert 'href="/admin/connections/invitation/add/"' in page
    shown = signed_in(acme.auditor).get(MEMBERS).content.decode()
    assert BEA in shown
    assert "Withdraw" not in shown
    assert "invitation/add" not in shown
    for stranger in (acme.member, rival.admin):
        assert BEA not in signed_in(stranger).get(MEMBERS).content.decode()
    Client().post(link, NEW)
    assert "not here yet" not in signed_in(acme.admin).get(MEMBERS).content.decode()


@pytest.mark.parametrize("email", ["member@acme.example", "MEMBER@acme.example"])
def test_a_member_is_not_invited(acme: House, email: str, signed_in: SignedIn, mail_server: MailServer) -> None:
    answer: Any = invite(signed_in(acme.admin), email)
    assert "is a member already, as member" in answer.content.decode()
    assert mail_server.taken == []


@pytest.mark.parametrize("wrong", [{"email": "bea"}, {"role": "owner"}, {"days": 0}, {"days": 31}, {"email": ""}])
def test_what_makes_no_sense_is_refused(
    acme: House, wrong: dict[str, object], signed_in: SignedIn, mail_server: MailServer
) -> None:
    form = {"email": BEA, "role": "member", "days": 7} | wrong
    answer = signed_in(acme.admin).post("/admin/connections/invitation/add/", form)
    assert answer.status_code == 200
    assert list(answer.context["form"].errors) == list(wrong)
    assert not Invitation.objects.exists()


def test_nobody_invites_into_an_organization_that_is_not_theirs(
    acme: House, rival: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    invite(signed_in(acme.admin), "mallory@rival.example", tenant=str(rival.tenant.pk))
    assert Invitation.objects.get().tenant == acme.tenant
    for person in (acme.member, acme.auditor):
        answer: Any = invite(signed_in(person), BEA)
        assert answer.status_code == 403


def test_who_is_an_admin_of_two_says_into_which(
    acme: House, rival: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="admin")
    asked: Any = invite(signed_in(acme.admin), BEA)
    assert list(asked.context["form"].errors.values()) == [["Choose the organization that it is to belong to."]]
    invite(signed_in(acme.admin), BEA, tenant=str(rival.tenant.pk))
    assert Invitation.objects.get().tenant == rival.tenant


def test_a_mail_server_that_refuses_is_said_and_the_invitation_stays(
    acme: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    mail_server.refusals[BEA] = b"550 No such user"
    answer = signed_in(acme.admin).post(
        "/admin/connections/invitation/add/", {"email": BEA, "role": "member", "days": 7}, follow=True
    )
    assert "The mail server refuses this address" in answer.content.decode()
    row = Invitation.objects.get()
    assert row.mailed_at is None
    mail_server.refusals.clear()
    signed_in(acme.admin).post(f"/admin/connections/invitation/{row.pk}/send/")
    assert Client().get(last_link(mail_server, BEA)).status_code == 200


def test_a_mail_server_that_is_away_is_said(
    acme: House, signed_in: SignedIn, mail_server: MailServer, settings: Any
) -> None:
    settings.EMAIL_PORT = 1
    client = signed_in(acme.admin)
    invite(client, BEA)
    assert "The mail server did not take the mail" in client.get(MEMBERS).content.decode()


def test_without_a_mail_server_the_admin_hands_the_link_over(acme: House, signed_in: SignedIn, settings: Any) -> None:
    settings.EMAIL_BACKEND = settings.NO_MAIL
    client = signed_in(acme.admin)
    answer: Any = invite(client, BEA)
    assert "no-store" in answer["Cache-Control"]
    link = path_of(answer.context["link"])
    assert "key=" not in client.get(MEMBERS).content.decode()
    assert Client().post(link, NEW).status_code == 302
    assert acme.membership(User.objects.get(username=BEA)).role == "member"


def test_the_database_keeps_no_link(link: str) -> None:
    key = link.partition("key=")[2]
    row = Invitation.objects.get()
    assert key not in str(Invitation.objects.values())
    assert Client().get("/join/", {"key": row.digest}).status_code == 404


def test_so_many_mails_and_no_more_leave_us(
    acme: House, signed_in: SignedIn, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inviting, "OF_ADDRESS", (2, 1 / 1000))
    client = signed_in(acme.admin)
    answers: list[Any] = [invite(client, "cyd@acme.example") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [302, 302, 429]
    assert mail_server.readers == ["cyd@acme.example"] * 2


def test_what_is_over_is_forgotten_after_90_days(link: str) -> None:
    long_ago = timezone.now() - timedelta(days=91)
    Invitation.objects.update(expires_at=long_ago)
    forget_sessions()
    assert not Invitation.objects.exists()
