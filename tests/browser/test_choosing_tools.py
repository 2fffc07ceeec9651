"""Whoever chooses an assignment's tools finds them by connection and by a part of their name."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_start_page import clean
from tests.conftest import House
from tools.models import Tool

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_tools_are_narrowed_down_and_what_is_chosen_stays(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    for name in ("Orders", "Warehouse"):
        connection = acme.connection(name)
        for number in range(12):
            Tool.objects.create(
                connection=connection, name=f"get_{number}", public_name=f"{connection.slug}__get_{number:02}",
                definition={}, digest="1", approved_digest="1", approved_definition={}, approved_at=timezone.now(),
            )  # fmt: skip
    row = acme.assignment(scope="chosen")
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open(f"/admin/tools/assignment/{row.pk}/change/")
    page = ann.page
    page.get_by_label("orders__get_03").check()
    expect(page.get_by_text("1 of 24 chosen")).to_be_visible()
    page.get_by_label("Narrow the tools down").fill("warehouse 07")
    expect(page.get_by_text("1 of 24 chosen, 1 shown")).to_be_visible()
    expect(page.get_by_label("orders__get_03")).to_be_hidden()
    page.get_by_label("Narrow the tools down").press("Enter")
    page.get_by_label("warehouse__get_07").check()
    ann.shoot("chosen", tmp_path)
    clean(ann)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("ul.messagelist")).to_be_visible()
    assert sorted(row.tools.values_list("public_name", flat=True)) == ["orders__get_03", "warehouse__get_07"]
