"""The help pages in a browser: accessible, without complaints, and never wider than the window."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from duvo import help_pages
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House

pytestmark = pytest.mark.browser

SCROLLS = "block => block.scrollWidth > block.clientWidth"


def clean(person: Visitor) -> None:
    """Neither the browser nor axe complains, and only tables and code scroll sideways."""
    assert person.complaints == []
    assert person.violations() == []


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_every_page_can_be_read(visit: Visit, width: int, colours: str, tmp_path: Path) -> None:
    visitor = visit(None, width=width, colours=colours)
    visitor.open("/help/")
    expect(visitor.page.get_by_role("heading", name="Help")).to_be_visible()
    clean(visitor)
    for name in help_pages.NAMES:
        answer = visitor.open(f"/help/{name}/")
        assert answer is not None
        assert answer.status == 200
        clean(visitor)
    visitor.shoot(name, tmp_path)
    if width < 1280:
        scrolling = visitor.page.locator("article .scroll").evaluate_all(f"all => all.some({SCROLLS})")
        assert scrolling, "a table is squeezed instead of scrolling"


def test_a_problem_and_the_admin_lead_into_the_middle_of_a_page(acme: House, visit: Visit) -> None:
    ann = visit(acme.admin)
    page = ann.page
    ann.open("/help/errors/#tool_changed")
    expect(page.locator("#tool_changed")).to_be_in_viewport()
    ann.open("/admin/tools/assignment/add/")
    page.get_by_role("link", name="Help: Assignments").click()
    expect(page.get_by_role("heading", name="Assignments", exact=True)).to_be_in_viewport()
    ann.open("/admin/")
    page.get_by_role("link", name="Help", exact=True).click()
    page.get_by_role("link", name="Connect a server").click()
    page.get_by_role("navigation", name="Previous and next page").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("People and sign-in")
    assert ann.complaints == []
