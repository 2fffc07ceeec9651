"""The start page and the organization's page in a browser: accessible, and free of complaints."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Bulletin, Matter, Notice, User
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House
from tests.connections import crowd
from tests.servers.fixtures import StartReceiver
from tools.models import Assignment, Call

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
    acme.token(nightly := acme.assignment())
    Call.objects.bulk_create(
        Call(
            tenant=acme.tenant, assignment=nightly, tool_name=f"orders__{'pay' if number % 3 else 'list'}",
            sealed_arguments="", sealed_result="x" if number % 7 else "", error_code="" if number % 7 else "x",
            state="succeeded" if number % 7 else "failed", created_at=timezone.now() - timedelta(minutes=40 * number),
            started_at=timezone.now(), finished_at=timezone.now() + timedelta(milliseconds=20 * number),
        )
        for number in range(200)
    )  # fmt: skip
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
    expect(ann.page.get_by_role("heading", name="Needs you")).to_be_visible()
    clean(ann)
    ann.shoot("start", tmp_path)
    assert ann.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ann.page.get_by_text("As a table: Last 7 days").click()
    clean(ann)
    ann.shoot("table", tmp_path)
    ann.open("/admin/connections/notice/")
    clean(ann)
    ann.shoot("notices", tmp_path)
    ann.open("/admin/")
    ann.page.get_by_role("link", name="Order system", exact=True).click()
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
    page.get_by_role("link", name="Inbox (1)").click()
    expect(page.get_by_role("link", name="Stock", exact=True)).to_be_visible()
    clean(ann)
    membership.refresh_from_db()
    assert membership.unmailed == ["tools.to_review"]


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_the_start_pages_of_staff_of_a_member_and_of_a_new_organization(
    acme: House, reviewer: User, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    new = visit(acme.admin, width=width, colours=colours)
    new.open("/admin/")
    expect(new.page.get_by_role("heading", name="The first steps")).to_be_visible()
    clean(new)
    new.shoot("new", tmp_path)
    acme.connection("Mail", authorization="oauth", sharing="personal", reachability_state="reachable")
    Assignment.objects.create(tenant=acme.tenant, name="Of the member", owner=acme.member)
    member = visit(acme.member, width=width, colours=colours)
    member.open("/admin/")
    expect(member.page.get_by_role("heading", name="Connect", exact=True)).to_be_visible()
    clean(member)
    member.shoot("member", tmp_path)
    member.open("/admin/mails/")
    clean(member)
    member.shoot("mails", tmp_path)
    crowd.gather(20, 120)
    staff = visit(reviewer, width=width, colours=colours)
    staff.open("/admin/")
    expect(staff.page.get_by_role("heading", name="All organizations")).to_be_visible()
    assert staff.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    clean(staff)
    staff.shoot("staff", tmp_path)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_an_admin_sets_a_channel_and_sees_what_was_not_delivered(
    acme: House, visit: Visit, webhook_receiver: StartReceiver, width: int, colours: str, tmp_path: Path
) -> None:
    chat = webhook_receiver(statuses=[500])
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open(f"/admin/connections/tenant/{acme.tenant.pk}/change/")
    ann.page.get_by_label("Address of the channel").fill(chat.url)
    ann.page.get_by_role("button", name="Add the channel").click()
    ann.page.get_by_role("button", name="Send a test there").click()
    expect(ann.page.get_by_text("The chat answered with HTTP status 500.")).to_be_visible()
    clean(ann)
    ann.shoot("channel", tmp_path)
    wiki = acme.connection("Wiki", reachability_state="unreachable")
    row = Bulletin.objects.create(
        tenant=acme.tenant, kind="connection.unreachable", attempts=8, trouble="Channel: The chat answered 500."
    )
    Matter.objects.create(connection=wiki, kind=row.kind, bulletin=row)
    ann.open("/admin/connections/bulletin/")
    clean(ann)
    ann.shoot("messages", tmp_path)
    ann.page.get_by_role("link", name="Connections that cannot be reached: Wiki").click()
    expect(ann.page.get_by_role("button", name="Send again")).to_be_visible()
    clean(ann)
    ann.shoot("message", tmp_path)
    ann.page.get_by_role("button", name="Send again").click()
    expect(ann.page.get_by_text("What has failed is tried again within the minute.")).to_be_visible()
    assert ann.complaints == []
