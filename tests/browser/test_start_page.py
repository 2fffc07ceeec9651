"""The start page and the organization's page in a browser: accessible, and free of complaints."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from connections.models import Notice
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House
from tests.servers.fixtures import StartReceiver

pytestmark = pytest.mark.browser


def clean(person: Visitor) -> None:
    """The browser has no complaint about the page, nor has axe, whose own styles it would complain about."""
    assert person.complaints == []
    assert person.violations() == []
    person.complaints.clear()


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_the_start_page_is_accessible_with_trouble_and_without(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    reached = {"reachability_state": "reachable", "tools_state": "in_sync"}
    acme.connection("Stock", **reached)
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open("/admin/")
    expect(ann.page.get_by_role("heading", name="All connections work")).to_be_visible()
    clean(ann)
    ann.shoot("well", tmp_path)
    sign_in = acme.connection("Order system", authorization="oauth", credential_state="refused", **reached)
    Notice.objects.create(
        connection=sign_in, reason="sign_in_revoked", sentence="The provider no longer accepts the sign-in."
    )
    ends = acme.connection("Calendar", authorization="oauth", credential_state="expiring", **reached)
    sentence = "No refresh token: this sign-in ends at 14:05 UTC."
    Notice.objects.create(connection=ends, reason="sign_in_ends", sentence=sentence)
    acme.connection(
        "Wiki", reachability_state="unreachable", reachability_reason="connect_timeout",
        reachability_sentence="wiki.example.com did not accept the connection in time.",
    )  # fmt: skip
    ann.open("/admin/")
    expect(ann.page.get_by_role("heading", name="What needs you")).to_be_visible()
    clean(ann)
    ann.shoot("trouble", tmp_path)
    ann.open("/admin/connections/notice/")
    clean(ann)
    ann.shoot("notices", tmp_path)
    ann.open("/admin/")
    ann.page.get_by_role("link", name="Order system").click()
    expect(ann.page.locator("h1")).to_have_text("Order system")
    assert ann.complaints == []


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_an_admin_sets_a_webhook_copies_its_secret_and_tests_it(
    acme: House, visit: Visit, webhook_receiver: StartReceiver, width: int, colours: str, tmp_path: Path
) -> None:
    receiver = webhook_receiver()
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(f"/admin/connections/tenant/{acme.tenant.pk}/change/")
    page.get_by_label("Webhook URL").fill(receiver.url)
    page.get_by_role("button", name="Save").click()
    secret = page.locator(".token code").inner_text()
    clean(ann)
    ann.shoot("secret", tmp_path)
    page.get_by_role("link", name="I have copied it").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("The webhook's receiver has taken the test.")).to_be_visible()
    assert receiver.verified(secret) == [True]
    assert secret not in page.content()
    clean(ann)
    ann.shoot("organization", tmp_path)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_an_admin_sees_how_much_waits_and_chooses_what_mails_are_about(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    acme.connection(
        "Stock", reachability_state="reachable", tools_state="changes_to_review", tools_sentence="1 is new."
    )
    ann = visit(acme.admin, width=width, colours=colours)
    page, membership = ann.page, acme.membership(acme.admin)
    ann.open(f"/admin/connections/membership/{membership.pk}/change/")
    page.get_by_label("Tools that wait for a review").check()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    clean(ann)
    ann.shoot("member", tmp_path)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="1 waiting for you").click()
    expect(page.get_by_role("link", name="Stock")).to_be_visible()
    clean(ann)
    membership.refresh_from_db()
    assert membership.unmailed == ["tools.to_review"]
