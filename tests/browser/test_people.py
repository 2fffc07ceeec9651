"""How people come in and leave, in a browser: accessible, and free of complaints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Company, Invitation, MailDomain, Membership
from connections.people import starting
from tests.browser.conftest import Visit, Visitor
from tests.conftest import PASSWORD, House
from tests.connections.people.links import last_link, path_of
from tests.servers.mail import MailServer
from tests.servers.openid import CLIENT, SECRET, OpenIdProvider

pytestmark = pytest.mark.browser

COLOURS = [(1280, "light"), (375, "dark")]
BEA = "bea@acme.example"


def looked_at(person: Visitor, name: str, folder: Path) -> None:
    """The page fits, and neither the browser nor axe, whose own styles it would complain about, has a complaint."""
    person.shoot(name, folder)
    assert person.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert person.complaints == []
    assert person.violations() == []
    person.complaints.clear()


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_an_admin_invites_by_mail_and_the_invited_comes_in_and_is_removed(
    acme: House, visit: Visit, mail_server: MailServer, width: int, colours: str, tmp_path: Path
) -> None:
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open("/admin/connections/membership/")
    ann.page.get_by_role("link", name="Invite", exact=True).click()
    looked_at(ann, "invite", tmp_path)
    ann.page.get_by_label("E-mail address").fill(BEA)
    ann.page.get_by_label("Role").select_option("Admin")
    ann.page.get_by_role("button", name="Invite").click()
    expect(ann.page.get_by_text(f"The mail with the link is on its way to {BEA}")).to_be_visible()
    looked_at(ann, "members", tmp_path)
    ann.page.get_by_role("link", name=BEA).click()
    looked_at(ann, "invitation", tmp_path)
    ann.page.get_by_role("button", name="Send again").click()

    bea = visit(None, width=width, colours=colours)
    bea.open(last_link(mail_server, BEA))
    looked_at(bea, "join", tmp_path)
    bea.page.get_by_label("Your name").fill("Bea Bright")
    bea.page.get_by_label("Password", exact=True).fill(PASSWORD)
    bea.page.get_by_label("Password again").fill("another")
    bea.page.get_by_role("button", name="Join").click()
    expect(bea.page.get_by_text("The two password fields didn’t match.")).to_be_visible()
    looked_at(bea, "join-refused", tmp_path)
    bea.page.get_by_label("Password", exact=True).fill(PASSWORD)
    bea.page.get_by_label("Password again").fill(PASSWORD)
    bea.page.get_by_role("button", name="Join").click()
    expect(bea.page.get_by_text("Welcome to acme")).to_be_visible()
    looked_at(bea, "home", tmp_path)

    ann.open("/admin/connections/membership/")
    ann.page.get_by_role("link", name=BEA).click()
    looked_at(ann, "member", tmp_path)
    ann.page.get_by_role("link", name="Remove").click()
    looked_at(ann, "remove", tmp_path)
    ann.page.get_by_role("button", name=f"Remove {BEA}").click()
    expect(ann.page.locator("#result_list").get_by_text(BEA)).to_have_count(0)
    bea.open("/admin/connections/membership/")
    expect(bea.page.get_by_role("heading", name="Sign in")).to_be_visible()
    looked_at(bea, "sign-in", tmp_path)


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_every_link_that_does_not_work_says_what_to_do(
    acme: House, rival: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    now = timezone.now()
    row = Invitation(tenant=acme.tenant, email=BEA, invited_by=acme.admin)
    link = f"/join/?key={row.new_key(now)}"
    row.save()
    bob = visit(rival.admin, width=width, colours=colours)
    bob.open("/join/?key=nothing")
    bob.complaints.clear()  # Chromium's console names each answer that is no success
    looked_at(bob, "unknown", tmp_path)
    bob.open(link)
    bob.complaints.clear()
    looked_at(bob, "another", tmp_path)
    bob.page.get_by_role("button", name="Sign out").click()
    expect(bob.page.get_by_role("heading", name="Join acme")).to_be_visible()
    for change, name in (({"expires_at": now}, "expired"), ({"accepted_at": now}, "taken")):
        Invitation.objects.update(**change)
        bob.open(link)
        bob.complaints.clear()
        looked_at(bob, name, tmp_path)


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_the_first_person_is_led_to_the_first_connection(
    visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    ada = visit(None, width=width, colours=colours)
    ada.open(path_of(starting.first_address(timezone.now()) or ""))
    looked_at(ada, "you", tmp_path)
    for label, value in (("Your e-mail address", "ada@acme.example"), ("Your name", "Ada")):
        ada.page.get_by_label(label).fill(value)
    for label in ("Password", "Password again"):
        ada.page.get_by_label(label, exact=True).fill(PASSWORD)
    ada.page.get_by_role("button", name="Go on").click()
    expect(ada.page.get_by_role("heading", name="Your organization")).to_be_visible()
    looked_at(ada, "organization", tmp_path)
    ada.page.get_by_label("Name").fill("Acme")
    ada.page.get_by_role("button", name="Go on").click()
    expect(ada.page.get_by_role("heading", name="The first steps")).to_be_visible()
    looked_at(ada, "first-steps", tmp_path)
    ada.page.get_by_role("link", name="Add a connection").click()
    expect(ada.page.get_by_role("heading", name="Add a connection")).to_be_visible()


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_who_belongs_to_two_goes_from_one_to_the_other(
    acme: House, rival: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="auditor")
    ann = visit(acme.admin, width=width, colours=colours)
    ann.page.get_by_text("2 organizations").click()
    looked_at(ann, "organizations", tmp_path)
    ann.page.get_by_role("button", name="rival").click()
    expect(ann.page.locator("#branding .organization summary")).to_contain_text("rival")
    looked_at(ann, "in-one", tmp_path)


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_an_admin_sets_up_the_company_s_own_sign_in(
    acme: House,
    visit: Visit,
    openid_provider: OpenIdProvider,
    settings: Any,
    width: int,
    colours: str,
    tmp_path: Path,
) -> None:
    ann = visit(acme.admin, width=width, colours=colours)
    settings.PUBLIC_URL = ann.base
    ann.open(f"/admin/connections/tenant/{acme.tenant.pk}/change/")
    ann.page.get_by_role("link", name="Set it up").click()
    looked_at(ann, "company", tmp_path)
    ann.page.get_by_label("Issuer").fill(openid_provider.issuer)
    ann.page.get_by_label("Client ID").fill(CLIENT)
    ann.page.get_by_label("Client secret").fill(SECRET)
    ann.page.get_by_role("button", name="Save").click()
    expect(ann.page.get_by_role("button", name="Remove the provider")).to_be_visible()
    MailDomain.objects.create(name="acme.example", company=Company.objects.get())
    bea = visit(None, width=width, colours=colours)
    bea.open("/admin/login/")
    bea.page.get_by_role("link", name="Sign in with your company").click()
    looked_at(bea, "way-in", tmp_path)
    bea.page.get_by_label("E-mail address").fill(BEA)
    bea.page.get_by_role("button", name="Go on").click()
    bea.page.wait_for_selector("#user-tools")
    assert acme.tenant.memberships.filter(user__username=BEA).exists()
    assert bea.complaints == []
