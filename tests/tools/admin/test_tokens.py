"""API tokens end: at their day, with their person's password, and whenever an admin of their organization says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Tenant, User
from tests.conftest import PASSWORD, House
from tests.live import Api
from tools import callers
from tools.models import AccessToken

SignedIn = Callable[[User | None], Client]
TOKENS = "/admin/tools/accesstoken/"


def opens(api: Api, token: str) -> bool:
    callers.principals.clear()
    return api.as_(token).get("/v1/connections").status_code == 200


def days(token: AccessToken) -> float:
    assert token.expires_at is not None
    return (token.expires_at - token.created_at) / timedelta(days=1)


@pytest.mark.django_db
def test_a_token_lives_as_long_as_its_organization_lets_it(acme: House, signed_in: SignedIn) -> None:
    Tenant.objects.update(max_token_days=90)
    assignment, client = acme.assignment(), signed_in(acme.admin)
    path = f"/admin/tools/assignment/{assignment.pk}"
    assert "Leave blank for the longest time: 90 days." in client.get(f"{path}/change/").content.decode()
    client.post(f"{path}/tokens/", {"label": "blank"})
    assert days(AccessToken.objects.get()) == 90
    too_late = f"{timezone.now() + timedelta(days=100):%Y-%m-%d}"
    refused = client.post(f"{path}/tokens/", {"expires_on": too_late}, follow=True).content.decode()
    assert "lets a token live for 90 days" in refused
    own = client.post(f"{TOKENS}add/", {"membership": acme.membership(acme.admin).pk, "expires_on": too_late})
    assert "lets a token live for 90 days" in own.content.decode()
    assert AccessToken.objects.count() == 1
    client.post(f"{TOKENS}add/", {"membership": acme.membership(acme.admin).pk})
    assert {days(token) for token in AccessToken.objects.all()} == {90}


def test_a_shorter_life_ends_the_tokens_that_are_older(
    acme: House, api: Api, rival: House, signed_in: SignedIn
) -> None:
    old, new, others = (house.member_token(house.admin) for house in (acme, acme, rival))
    AccessToken.objects.filter(digest=callers.digest_of(old)).update(created_at=timezone.now() - timedelta(40))
    form = {"name": "acme", "retention_days": "30", "decision_hours": "24", "max_token_days": "30"}
    answer = signed_in(acme.admin).post(f"/admin/connections/tenant/{acme.tenant.pk}/change/", form)
    assert answer.status_code == 302
    assert [opens(api, token) for token in (old, new, others)] == [False, True, True]
    assert AuditEvent.objects.get(action="tenant.tokens_shortened").data == {"count": 2}


def test_a_new_password_ends_the_persons_tokens(acme: House, api: Api, signed_in: SignedIn) -> None:
    token, others = acme.member_token(acme.member), acme.member_token(acme.admin)
    assert opens(api, token)
    form = {"old_password": PASSWORD, "new_password1": "a whole new staple", "new_password2": "a whole new staple"}
    assert signed_in(acme.member).post("/admin/password_change/", form).status_code == 302
    assert not opens(api, token)
    assert opens(api, others)
    assert "the password was changed" in AccessToken.objects.get(membership__user=acme.member).state(timezone.now())
    assert opens(api, acme.member_token(acme.member))


def test_a_password_that_staff_set_or_take_away_ends_them_too(
    acme: House, api: Api, superuser: User, signed_in: SignedIn
) -> None:
    token = acme.member_token(acme.member)
    form = {"password1": "a whole new staple", "password2": "a whole new staple", "usable_password": "true"}
    client = signed_in(superuser)
    assert client.post(f"/admin/connections/user/{acme.member.pk}/password/", form).status_code == 302
    assert not opens(api, token)
    again = acme.member_token(acme.member)
    assert opens(api, again)
    User.objects.get(pk=acme.member.pk).set_unusable_password()
    person = User.objects.get(pk=acme.member.pk)
    person.set_unusable_password()
    person.save()
    assert not opens(api, again)


def test_a_stronger_hash_of_the_same_password_ends_no_token(acme: House, api: Api, settings: object) -> None:
    token = acme.member_token(acme.member)
    User.objects.filter(pk=acme.member.pk).update(
        password="pbkdf2_sha256$1$salt$" + "hVBf0zCpQVbXTbMzYyLyBp5LzWcH4mqlMjLVqV0Zf0g="
    )
    person = User.objects.get(pk=acme.member.pk)
    person._password = None
    person.save(update_fields=["password"])  # what Django does when it hashes a password anew
    assert opens(api, token)


def test_an_admin_sees_and_revokes_every_token_of_the_organization(
    acme: House, rival: House, api: Api, signed_in: SignedIn
) -> None:
    members, assignments = acme.member_token(acme.member), acme.token()
    theirs = rival.member_token(rival.member)
    client = signed_in(acme.admin)
    page = client.get(TOKENS).content.decode()
    rows = {
        row.membership_id is None: row
        for row in AccessToken.objects.filter(prefix__in=(members[:12], assignments[:12]))
    }
    assert all(row.prefix in page for row in rows.values())
    assert "member@acme.example" in page
    assert theirs[:12] not in page
    assert client.post(f"{TOKENS}{AccessToken.objects.get(prefix=theirs[:12]).pk}/revoke/").status_code == 404
    for row in rows.values():
        assert client.post(f"{TOKENS}{row.pk}/revoke/").status_code == 302
    assert not opens(api, members)
    assert not opens(api, assignments)
    assert opens(api, theirs)
    client.get(TOKENS)  # says that they are revoked
    assert members[:12] not in client.get(TOKENS).content.decode(), "the list shows live ones"
    assert members[:12] in client.get(f"{TOKENS}?state=ended").content.decode()
    revoked = AuditEvent.objects.filter(action__endswith="revoked").order_by("action").values_list("action", flat=True)
    assert list(revoked) == ["accesstoken.revoked", "assignment.token_revoked"], "each where its history is looked for"


@pytest.mark.django_db
@pytest.mark.parametrize("who", ["member", "auditor"])
def test_others_see_their_own_tokens_only(who: str, acme: House, signed_in: SignedIn) -> None:
    person = getattr(acme, who)
    own, admins, programs = acme.member_token(person), acme.member_token(acme.admin), acme.token()
    page = signed_in(person).get(f"{TOKENS}?state=all").content.decode()
    assert own[:12] in page
    assert admins[:12] not in page
    assert programs[:12] not in page
