"""Staff who act in an organization, 90 days of a connection, saved filters and a time zone, in a browser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Connection, StateMove, User
from connections.states import CredentialState, ReachabilityState, ToolsState
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House
from tools.models import CheckDay

pytestmark = pytest.mark.browser


def clean(visitor: Visitor) -> None:
    assert visitor.complaints == []
    assert visitor.violations() == []


def with_a_past(house: House) -> Connection:
    """A connection of 80 days that was unreachable once, and waited for a review once."""
    now = timezone.now()
    since = now - timedelta(days=80)
    row = house.connection(
        "Orders", credential_state=CredentialState.NOT_NEEDED, reachability_state=ReachabilityState.REACHABLE,
        tools_state=ToolsState.IN_SYNC, credential_since=since, reachability_since=since, tools_since=since,
        created_at=since,
    )  # fmt: skip
    story = [
        ("reachability", 30, "reachable", "unreachable"), ("reachability", 28, "unreachable", "reachable"),
        ("tools", 12, "in_sync", "changes_to_review"), ("tools", 11, "changes_to_review", "in_sync"),
    ]  # fmt: skip
    for of, back, was, state in story:
        at = now - timedelta(days=back)
        StateMove.objects.create(connection=row, of=of, was=was, state=state, at=at, lasted=at - since)
    for back in range(79):
        day = CheckDay.objects.create(connection=row, day=(now - timedelta(days=back)).date())
        for took in (180 + back * 3, 260, 900 if back % 17 == 0 else 240):
            day.add(took)
    return row


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (1280, "dark"), (375, "dark"), (375, "light")])
def test_staff_act_visibly_and_a_connection_shows_its_past(
    acme: House, superuser: User, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    row = with_a_past(acme)
    root = visit(superuser, width=width, colours=colours)
    root.open(f"/admin/connections/connection/{row.pk}/change/")
    expect(root.page.get_by_text("You only look at this.")).to_be_visible()
    clean(root)
    root.shoot("looked-at", tmp_path)
    root.page.get_by_role("link", name="act in acme (acme)").click()
    expect(root.page.get_by_role("heading", name="Act in acme")).to_be_visible()
    clean(root)
    root.shoot("act", tmp_path)
    root.page.locator("#id_act_reason").fill("They asked for help: ticket 4711")
    root.page.get_by_role("button", name="Act in acme").click()
    expect(root.page.get_by_text("You act in acme now, as its admins do.")).to_be_visible()
    clean(root)
    root.shoot("acting", tmp_path)
    root.page.get_by_label("Time zone").fill("Europe/Berlin")
    root.page.get_by_role("button", name="Save", exact=True).first.click()
    expect(root.page.get_by_text("Times on this page are those of Europe/Berlin.")).to_be_visible()
    root.open(f"/admin/connections/connection/{row.pk}/change/")
    expect(root.page.locator("section.days rect.unreachable")).to_have_count(3)
    root.page.get_by_text("As a table").click()
    expect(root.page.locator("section.days tbody tr").first).to_be_visible()
    clean(root)
    root.shoot("days", tmp_path)
    root.page.get_by_role("button", name="Stop").click()
    expect(root.page.get_by_text("You only look at it again.")).to_be_visible()
    root.open(f"/admin/connections/tenant/{acme.tenant.pk}/history/")
    clean(root)
    root.shoot("history", tmp_path)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_a_filter_is_saved_and_found_again_without_a_script(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    with_a_past(acme)
    ann = visit(acme.admin, width=width, colours=colours, script=False)
    ann.open("/admin/connections/connection/?status=connected")
    ann.page.get_by_text("Saved", exact=True).click()
    ann.page.get_by_label("Save what you see as").fill("Working ones")
    ann.page.get_by_role("button", name="Save", exact=True).click()
    expect(ann.page.get_by_text("Saved as “Working ones”.")).to_be_visible()
    ann.open("/admin/connections/connection/")
    ann.page.get_by_text("Saved (1)").click()
    ann.shoot("saved", tmp_path)
    ann.page.get_by_role("link", name="Working ones").click()
    ann.page.wait_for_url("**/?status=connected")
    ann.page.get_by_text("Saved (1)").click()
    ann.shoot("chosen", tmp_path)
    ann.page.get_by_role("button", name="Remove Working ones").click()
    expect(ann.page.get_by_text("“Working ones” is removed.")).to_be_visible()
    lit = visit(acme.admin, width=width, colours=colours)
    lit.open("/admin/connections/connection/?status=connected")
    lit.page.get_by_text("Saved", exact=True).click()
    clean(lit)
    lit.shoot("list", tmp_path)
