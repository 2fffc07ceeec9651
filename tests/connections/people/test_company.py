"""Signing in with one's company: the right people come in, everybody else hears why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from connections.models import AuditEvent, Company, CompanyIdentity, MailDomain, Membership, User
from connections.people import company, company_pages, resetting
from tests.conftest import PASSWORD, ActIn, House
from tests.connections.people.links import NEW, heading, invite
from tests.connections.people.test_second_factor import code, set_up
from tests.loopback import NO_TLS
from tests.servers.openid import CLIENT, SECRET, OpenIdProvider

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
WAY_IN = "/account/company/"
BEA = "bea@acme.example"


@pytest.fixture
def provider(acme: House, openid_provider: OpenIdProvider) -> OpenIdProvider:
    """Acme's provider, for addresses of acme.example."""
    row = Company(tenant=acme.tenant, issuer=openid_provider.issuer, client_id=CLIENT)
    row.seal_secret(SECRET)
    row.save()
    MailDomain.objects.create(name="acme.example", company=row)
    return openid_provider


def go(browser: Client, email: str = BEA, to: str = "") -> str:
    """Enter an address; return where the provider sends the browser back to."""
    answer = browser.post(WAY_IN, {"email": email, "next": to})
    assert answer.status_code == 302, answer.content.decode()
    return _visited(answer["Location"])


def _visited(address: str) -> str:
    with httpx2.Client(trust_env=False, verify=NO_TLS) as client:
        back = client.get(address).headers["location"]
    return back[back.index("/account/") :]


def is_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def refused(answer: Any) -> str:
    page = answer.content.decode()
    assert (answer.status_code, heading(answer.content)) == (403, "You are not signed in"), page
    return page.partition("Code: ")[2].partition("<")[0]


def test_who_comes_in_for_the_first_time_becomes_a_member(acme: House, provider: OpenIdProvider) -> None:
    browser = Client()
    answer = browser.get(go(browser, to="/admin/connections/connection/"))
    assert answer["Location"] == "/admin/connections/connection/"
    assert is_in(browser)
    bea = User.objects.get(username=BEA)
    assert (bea.email, bea.first_name, bea.has_usable_password()) == (BEA, "Bea Bright", False)
    assert acme.membership(bea).role == "member"
    created = AuditEvent.objects.get(action="membership.created")
    assert (created.actor, created.data) == (BEA, {"through": "company sign-in"})
    again = Client()
    again.get(go(again))
    assert is_in(again)
    assert (User.objects.filter(username=BEA).count(), CompanyIdentity.objects.count()) == (1, 1)


def test_who_has_an_account_already_comes_in_with_it(acme: House, provider: OpenIdProvider) -> None:
    provider.email, provider.subject = acme.auditor.email.upper(), "the auditor"
    browser = Client()
    browser.get(go(browser, acme.auditor.email))
    assert browser.get("/admin/").wsgi_request.user == acme.auditor
    assert acme.membership(acme.auditor).role == "auditor"
    provider.email = "renamed@acme.example"  # the same person under another address
    again = Client()
    again.get(go(again, acme.auditor.email))
    assert again.get("/admin/").wsgi_request.user == acme.auditor


def test_a_secret_in_the_body_is_sent_where_the_provider_wants_it(acme: House, provider: OpenIdProvider) -> None:
    provider.in_body = True
    browser = Client()
    browser.get(go(browser))
    assert is_in(browser)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"claims": {"iss": "https://other.example"}}, "other_issuer"),
        ({"claims": {"aud": "another client"}}, "other_audience"),
        ({"claims": {"aud": [CLIENT, "x"], "azp": "x"}}, "other_audience"),
        ({"claims": {"nonce": "of another visit"}}, "other_visit"),
        ({"claims": {"nonce": None}}, "other_visit"),
        ({"claims": {"exp": 1}}, "too_old"),
        ({"claims": {"exp": None}}, "too_old"),
        ({"claims": {"iat": 1}}, "of_no_time"),
        ({"claims": {"sub": None}}, "no_subject"),
        ({"claims": {"email": None}}, "no_address"),
        ({"claims": {"email": "a\0b@acme.example"}}, "no_address"),
        ({"claims": {"email": f"{'a' * 300}@acme.example"}}, "no_address"),
        ({"claims": {"email_verified": "false"}}, "no_address"),
        ({"claims": {"email_verified": 0}}, "no_address"),
        ({"claims": {"sub": "a\0b"}}, "no_subject"),
        ({"claims": {"exp": float("nan")}}, "too_old"),
        ({"claims": {"email_verified": False}}, "no_address"),
        ({"claims": {"email": "mallory@rival.example"}}, "other_domain"),
        ({"claims": {"email": "bea@sub.acme.example"}}, "other_domain"),
        ({"unsigned": True}, "bad_signature"),
        ({"signs_with_another_key": True}, "bad_signature"),
        ({"signs_with_the_secret": True}, "bad_signature"),
        ({"refuses": True}, "not_let_in"),
        ({"configuration": {"authorization_response_iss_parameter_supported": True}}, "other_sender"),
    ],
)
def test_what_does_not_fit_lets_nobody_in(
    acme: House, provider: OpenIdProvider, change: dict[str, Any], code: str
) -> None:
    for name, value in change.items():
        setattr(provider, name, value)
    browser = Client()
    assert refused(browser.get(go(browser))) == code
    assert not is_in(browser)
    assert User.objects.count() == 3
    event = AuditEvent.objects.get(action="company.sign_in_refused")
    assert (event.tenant, event.outcome) == (acme.tenant, code)


def test_an_answer_belongs_to_one_visit_of_one_browser(acme: House, provider: OpenIdProvider) -> None:
    browser, mallory = Client(), Client()
    back = go(browser)
    assert refused(mallory.get(back)) == "other_browser"
    go(mallory)
    assert refused(mallory.get(back)) == "other_browser"  # with a visit of its own
    assert refused(browser.get("/account/company/callback?code=x&state=x")) == "other_browser"
    assert refused(browser.get(back)) == "other_browser"  # the visit is over
    assert not is_in(browser)


def test_staff_and_the_deactivated_and_the_removed_do_not_come_in(
    acme: House, provider: OpenIdProvider, signed_in: SignedIn
) -> None:
    def try_as(email: str, subject: str) -> str:
        provider.email, provider.subject = email, subject
        browser = Client()
        return refused(browser.get(go(browser)))

    User.objects.create_superuser("root", "root@acme.example", PASSWORD)
    assert try_as("root@acme.example", "root") == "staff"
    User.objects.filter(pk=acme.auditor.pk).update(is_active=False)
    assert try_as(acme.auditor.email, "auditor") == "deactivated"
    browser = Client()
    provider.email, provider.subject = acme.member.email, "member"
    browser.get(go(browser))
    assert is_in(browser)
    membership = acme.membership(acme.member)
    signed_in(acme.admin).post(f"/admin/connections/membership/{membership.pk}/delete/", {"post": "yes"})
    assert not is_in(browser)
    assert try_as(acme.member.email, "member") == "removed"
    Membership.objects.create(user=acme.member, tenant=acme.tenant, role="member")  # invited again
    again = Client()
    again.get(go(again))
    assert is_in(again)


def test_an_account_that_a_stranger_made_for_an_address_is_not_joined(
    acme: House, rival: House, provider: OpenIdProvider, signed_in: SignedIn, settings: Any
) -> None:
    """Rival's admin invites Bea of acme, takes the link that was to be handed over, and waits for her with a password.

    So it is where no mail is sent; a mailed link shows whose the address is.
    """
    settings.EMAIL_BACKEND = settings.NO_MAIL
    answer: Any = invite(signed_in(rival.admin), BEA, "member")
    link = re.search(r"/join/\?key=[\w-]+", answer.content.decode())
    assert link, answer.content.decode()
    mallory = Client()
    mallory.post(link[0], NEW)
    assert is_in(mallory)
    set_up(mallory)
    browser = Client()
    assert refused(browser.get(go(browser))) == "unproved_address"
    assert not acme.tenant.memberships.filter(user__email=BEA).exists()
    assert refused(browser.get(go(browser))) == "unproved_address", "not at the second try either"
    bea = User.objects.get(email=BEA)
    prove(bea, Client())
    browser.get(go(browser))
    assert is_in(browser)
    assert not Authenticator.objects.exists(), "Mallory's second factor would be asked of Bea"
    assert not is_in(mallory), "a new password ends the browsers that knew the old one"


def prove(user: User, browser: Client) -> None:
    """Set a new password by a link that only the mailbox has."""
    path = f"/account/new-password/?{urlencode({'key': resetting.key_of(user)})}"
    answer = browser.post(path, {"password1": "another correct horse", "password2": "another correct horse"})
    assert answer.status_code == 302, answer.content.decode()


def test_an_address_of_no_company_is_told_so(acme: House, provider: OpenIdProvider) -> None:
    for email in ("bea@rival.example", "bea@sub.acme.example", "bea@acme.example.org"):
        answer = Client().post(WAY_IN, {"email": email})
        assert "No organization signs in with its company at this address" in answer.content.decode()
    Company.objects.all().delete()
    assert "No organization" in Client().post(WAY_IN, {"email": BEA}).content.decode()


def test_nobody_is_sent_to_another_site_afterwards(acme: House, provider: OpenIdProvider) -> None:
    browser = Client()
    assert browser.get(go(browser, to="https://evil.example/"))["Location"] == "/admin/"


def test_a_provider_that_is_away_is_said(acme: House, provider: OpenIdProvider) -> None:
    Company.objects.update(issuer="http://127.0.0.1:1")
    answer = Client().post(WAY_IN, {"email": BEA})
    assert (answer.status_code, heading(answer.content)) == (403, "You are not signed in")


def test_the_database_keeps_the_secret_sealed_and_for_one_provider(acme: House, provider: OpenIdProvider) -> None:
    row = Company.objects.get()
    assert SECRET not in str(Company.objects.values())
    Company.objects.update(issuer=f"{provider.issuer.replace('127.0.0.1', 'localhost')}")
    row.refresh_from_db()
    with pytest.raises(Exception, match="entered for another provider"):
        row.secret()


# --- required ---


def test_where_it_is_required_a_password_alone_shows_nothing(acme: House, provider: OpenIdProvider) -> None:
    Company.objects.update(required=True)
    acme.connection("Orders")
    browser = Client()
    browser.post("/admin/login/", {"username": acme.admin.username, "password": PASSWORD})
    answer = browser.get("/admin/connections/connection/")
    assert answer["Location"].startswith(f"{WAY_IN}?organization={acme.tenant.pk}&next=%2Fadmin%2Fconnections")
    assert "lets people in through its own sign-in only" in browser.get(answer["Location"]).content.decode()
    assert browser.post("/admin/connections/connection/add/", {"name": "x"}).status_code == 302
    provider.email, provider.subject = acme.admin.email, "admin"
    begun = browser.post(answer["Location"], {"next": "/admin/connections/connection/"})
    assert browser.get(_visited(begun["Location"]))["Location"] == "/admin/connections/connection/"
    assert "Orders" in browser.get("/admin/connections/connection/").content.decode()


def test_a_second_factor_here_is_asked_for_as_well(acme: House, provider: OpenIdProvider, signed_in: SignedIn) -> None:
    secret = set_up(signed_in(acme.admin))
    Company.objects.update(required=True)
    provider.email, provider.subject = acme.admin.email, "admin"
    browser = Client()
    assert browser.get(go(browser))["Location"] == "/account/second-factor/"
    assert not is_in(browser)
    browser.post("/account/second-factor/", {"code": code(secret, steps=1)})
    assert is_in(browser)


def test_who_goes_on_where_somebody_else_stopped_has_not_come_in_through_the_company(
    acme: House, provider: OpenIdProvider, signed_in: SignedIn
) -> None:
    set_up(signed_in(acme.admin))
    Company.objects.update(required=True)
    provider.email, provider.subject = acme.admin.email, "admin"
    browser = Client()
    assert browser.get(go(browser))["Location"] == "/account/second-factor/"
    browser.post("/admin/login/", {"username": acme.member.username, "password": PASSWORD})
    assert browser.get("/admin/")["Location"].startswith(WAY_IN)


# --- setting it up ---


def page(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/company/"


def test_an_admin_sets_the_provider_up_and_staff_say_whose_the_domain_is(
    acme: House, rival: House, act_in: ActIn, openid_provider: OpenIdProvider, signed_in: SignedIn
) -> None:
    form = {"issuer": openid_provider.issuer, "client_id": CLIENT, "client_secret": SECRET, "default_role": "auditor"}
    admin, staff = signed_in(acme.admin), act_in(acme.tenant)
    assert admin.post(page(acme), form | {"domains": "acme.example"}).status_code == 302
    assert not MailDomain.objects.exists()
    assert SECRET not in admin.get(page(acme)).content.decode()
    assert (
        staff.post(page(acme), form | {"client_secret": "", "domains": "acme.example, @ACME.test"}).status_code == 302
    )
    assert sorted(MailDomain.objects.values_list("name", flat=True)) == ["acme.example", "acme.test"]
    taken = act_in(rival.tenant).post(page(rival), form | {"domains": "acme.example"})
    assert "is another organization" in taken.content.decode()
    browser = Client()
    browser.get(go(browser))
    assert acme.membership(User.objects.get(username=BEA)).role == "auditor"


def test_what_does_not_work_is_not_saved(acme: House, openid_provider: OpenIdProvider, signed_in: SignedIn) -> None:
    form = {"issuer": openid_provider.issuer, "client_id": CLIENT, "client_secret": SECRET, "default_role": "member"}
    admin = signed_in(acme.admin)
    for change, field in (
        ({"issuer": "http://127.0.0.1:1"}, "issuer"), ({"issuer": f"{openid_provider.issuer}/x"}, "issuer"),
        ({"issuer": "ftp://x"}, "issuer"), ({"client_secret": ""}, "client_secret"), ({"required": "on"}, "required"),
    ):  # fmt: skip
        answer = admin.post(page(acme), form | change)
        assert list(answer.context["form"].errors) == [field]
    assert not Company.objects.exists()


def test_nobody_else_sees_or_changes_the_provider(
    acme: House, rival: House, provider: OpenIdProvider, reviewer: User, signed_in: SignedIn
) -> None:
    people = ((acme.member, 403), (acme.auditor, 403), (rival.admin, 404), (reviewer, 404), (None, 302))
    for who, status in people:
        browser = signed_in(who)
        assert browser.get(page(acme)).status_code == status
        assert browser.post(page(acme), {"remove": "yes"}).status_code == status
    assert Company.objects.exists()
    assert signed_in(acme.admin).post(page(acme), {"remove": "yes"}).status_code == 302
    assert not Company.objects.exists()


def test_only_so_many_visits_are_begun(acme: House, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company_pages, "OF_ADDRESS", (2, 1 / 1000))
    answers = [Client().post(WAY_IN, {"email": BEA}).status_code for _ in range(3)]
    assert answers == [302, 302, 429]
    assert company.redirect_uri().endswith("/account/company/callback")
