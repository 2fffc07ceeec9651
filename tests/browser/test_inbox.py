"""The inbox in a browser: its keys, its number on every page, and what is done leaves by itself."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Connection, Membership, Notice, Role, User
from tests.browser.conftest import Visit, Visitor
from tests.conftest import PASSWORD, House
from tests.tools.conftest import OpenShop
from tools.models import Call

pytestmark = pytest.mark.browser

AWAY = {
    "reachability_state": "unreachable", "reachability_reason": "connect_timeout",
    "reachability_sentence": "wiki.example.com did not accept the connection in time.",
}  # fmt: skip
LONGEST = 2_000  # milliseconds from one poll to the next, as a person watches


def clean(person: Visitor) -> None:
    """The browser has no complaint about the page, nor has axe, whose own styles it would complain about."""
    assert person.complaints == []
    assert person.violations() == []
    person.complaints.clear()


def fill(acme: House, open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.set_tool("echo", policy="ask")
    for number in range(2):
        shop.call("echo", {"text": f"EUR 1,20{number}"}, headers={"Prefer": "wait=0"})
    reached = {"reachability_state": "reachable", "tools_state": "in_sync"}
    calendar = acme.connection("Calendar", authorization="oauth", credential_state="expiring", **reached)
    Notice.objects.create(
        connection=calendar, reason="sign_in_ends", sentence="No refresh token: this sign-in ends soon.",
        until=timezone.now() + timedelta(hours=3),
    )  # fmt: skip
    acme.connection("Billing", **reached | {"tools_state": "changes_to_review"}, tools_sentence="1 tool is new.")
    for number in range(40):
        acme.connection(f"Wiki {number:02}", f"https://wiki.example.com/{number}", **AWAY)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_the_inbox_is_compact_accessible_and_decides_by_keys(
    acme: House, open_shop: OpenShop, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    fill(acme, open_shop)
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    page.get_by_role("link", name="Inbox (5)").click()
    expect(page.locator(".thing")).to_have_count(5)
    expect(page.get_by_role("link", name="40 connections to wiki.example.com", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    clean(ann)
    ann.shoot("inbox", tmp_path)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".thing .open").first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")  # the newer of the two calls
    expect(page.locator(".thing .open").nth(3)).to_be_focused()
    page.keyboard.press("a")
    expect(page.get_by_text('{"text":"EUR 1,201"}')).to_be_visible()
    clean(ann)
    ann.shoot("asked", tmp_path)
    page.get_by_role("button", name="Approve: send exactly this").click()
    expect(page.get_by_text("Approved: the call is on its way.")).to_be_visible()
    expect(page.locator(".thing")).to_have_count(4)
    page.get_by_role("link", name="Give Billing").click()
    expect(page.get_by_label("Who has it")).to_be_visible()
    clean(ann)
    ann.shoot("giving", tmp_path)
    page.get_by_label("Who has it").select_option("admin@acme.example")
    page.get_by_role("button", name="Give", exact=True).click()
    expect(page.get_by_text("admin@acme.example has it", exact=True)).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/connections/connection/?status=attention*")
    ann.open("/admin/inbox/?whose=others")
    expect(page.get_by_text("Nothing of this kind waits for others.")).to_be_visible()
    assert ann.complaints == []


def test_the_number_falls_in_a_second_browser_within_two_seconds(
    acme: House, open_shop: OpenShop, visit: Visit
) -> None:
    shop = open_shop()
    shop.set_tool("echo", policy="ask")
    shop.call("echo", {"text": "x"}, headers={"Prefer": "wait=0"})
    bob = User.objects.create_user("bob@acme.example", "bob@acme.example", PASSWORD)
    Membership.objects.create(user=bob, tenant=acme.tenant, role=Role.ADMIN)
    ann, other, reading = visit(acme.admin), visit(bob), visit(bob)
    reading.open("/admin/inbox/")
    expect(reading.page.locator(".thing")).to_have_count(1)
    other.open("/admin/connections/connection/")
    link = other.page.locator("#inbox-count")
    expect(link).to_have_text("Inbox (1)")
    polls: list[float] = []
    other.page.on("request", lambda request: polls.append(1) if request.url.endswith("/inbox/count/") else None)
    other.page.evaluate("performance.setResourceTimingBufferSize(1000)")
    ann.open(f"/admin/tools/call/{Call.objects.get().pk}/change/")
    ann.page.get_by_role("button", name="Approve").click()
    expect(ann.page.get_by_text("Approved: the call is on its way.")).to_be_visible()
    decided = other.page.evaluate("performance.now()")
    expect(link).to_have_text("Inbox")
    # However slow this machine is: the first look after the decision, or the one that was under way, has shown it.
    looks = other.page.evaluate(
        "performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('/inbox/count/'))"
        ".map((entry) => [entry.startTime, entry.responseEnd])"
    )
    after = [start for start, _ in looks if start > decided]
    assert len(after) <= 1, looks
    pauses = [start - end for (_, end), (start, _) in pairwise(looks)]
    assert not pauses or min(pauses) < LONGEST
    expect(reading.page.get_by_text("Nothing waits for you.")).to_be_visible()
    assert [person.complaints for person in (ann, other, reading)] == [[], [], []]


def test_without_scripts_the_number_is_that_of_the_page(acme: House, visit: Visit, tmp_path: Path) -> None:
    acme.connection("Wiki", **AWAY)
    ann = visit(acme.admin, script=False)
    ann.page.get_by_role("link", name="Inbox (1)").click()
    expect(ann.page.locator(".thing")).to_have_count(1)
    ann.page.get_by_role("button", name="Take Wiki").click()
    expect(ann.page.get_by_text("admin@acme.example has it", exact=True)).to_be_visible()
    Connection.objects.update(reachability_state="reachable", tools_state="in_sync")
    ann.open("/admin/inbox/")
    expect(ann.page.get_by_text("Nothing waits for you.")).to_be_visible()
    assert ann.page.locator("#inbox-keys").is_hidden()
    ann.shoot("empty", tmp_path)
