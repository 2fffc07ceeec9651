"""Who belongs to several organizations sees in which one a page is, and goes to another."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from connections.models import Membership, User
from tests.conftest import House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"


@pytest.fixture
def of_both(acme: House, rival: House) -> User:
    """Acme's admin, who is a member of rival, too."""
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="member")
    acme.connection("Orders of acme")
    rival.connection("Orders of rival")
    return acme.admin


def choose(browser: Client, house: House | None) -> None:
    answer = browser.post("/account/organization/", {"organization": str(house.tenant.pk) if house else ""})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def header(browser: Client) -> str:
    page = browser.get("/admin/").content.decode()
    found = re.search(r'class="organization[^"]*">(?:<summary>)?([^<]*)', page)
    return found[1] if found else ""


def test_every_page_says_in_which_organization_it_is(
    acme: House, superuser: User, reviewer: User, signed_in: SignedIn
) -> None:
    people = (acme.admin, acme.auditor, superuser, reviewer)
    assert [header(signed_in(person)) for person in people] == [
        "acme", "acme", "Staff: all organizations", "Reviewer",
    ]  # fmt: skip


def test_who_chooses_one_sees_and_does_only_what_is_of_that_one(
    acme: House, rival: House, of_both: User, signed_in: SignedIn
) -> None:
    browser = signed_in(of_both)
    assert header(browser) == "2 organizations"
    both = browser.get(LIST).content.decode()
    assert "Orders of acme" in both
    assert "Orders of rival" in both
    choose(browser, rival)
    assert header(browser) == "rival"
    page = browser.get(LIST).content.decode()
    assert "Orders of rival" in page
    assert "Orders of acme" not in page
    acmes = acme.tenant.connections.get()
    assert browser.get(f"{LIST}{acmes.pk}/change/").status_code == 404
    assert browser.get(f"{LIST}add/").status_code == 403  # a member there
    choose(browser, acme)
    assert browser.get(f"{LIST}add/").status_code == 200
    choose(browser, None)
    assert header(browser) == "2 organizations"


def test_nobody_chooses_what_is_not_theirs_and_who_leaves_sees_the_rest(
    acme: House, rival: House, of_both: User, signed_in: SignedIn
) -> None:
    stranger, browser = signed_in(acme.member), signed_in(of_both)
    choose(stranger, rival)
    assert header(stranger) == "acme"
    assert "Orders of rival" not in stranger.get(LIST).content.decode()
    choose(browser, rival)
    rival.tenant.memberships.filter(user=of_both).delete()
    assert header(browser) == "acme"
    assert "Orders of rival" not in browser.get(LIST).content.decode()


def test_a_choice_is_of_one_browser(acme: House, rival: House, of_both: User, signed_in: SignedIn) -> None:
    here, there = signed_in(of_both), signed_in(of_both)
    choose(here, rival)
    assert (header(here), header(there)) == ("rival", "2 organizations")
