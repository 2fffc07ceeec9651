"""The lists of a large platform in a browser: the first row is seen at once, and the filters can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib import admin
from playwright.sync_api import expect

from connections.models import Tenant, User
from tests.browser.conftest import Visit
from tests.connections import crowd

pytestmark = pytest.mark.browser

# What stands wholly above the one that the keyboard comes to before it.
UPWARDS = """() => {
    const reached = "a[href], button, input:not([type=hidden]), select, summary";
    const all = [...document.querySelectorAll(`#changelist :is(${reached})`)];
    const seen = all.filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0);
    const boxes = seen.map((one) => one.getBoundingClientRect());
    return seen.filter((_, at) => at && boxes[at].bottom < boxes[at - 1].top).map((one) => one.textContent || one.name);
}"""


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_the_first_row_is_above_the_fold(
    superuser: User, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    crowd.gather(205, 1_358)
    root = visit(superuser, width=width, colours=colours)
    for place in ("connections/connection", "tools/tool"):
        root.open(f"/admin/{place}/")
        row = root.page.locator("#result_list tbody tr").first
        expect(row).to_be_visible()
        box = row.bounding_box()
        assert box is not None
        if width == 1280:
            assert box["y"] + box["height"] <= 900, place
        assert root.complaints == []
        assert root.violations() == []
        root.complaints.clear()
        root.shoot(place.partition("/")[2], tmp_path)
    root.open("/admin/connections/connection/?status=attention")
    some = Tenant.objects.get(name="Company 004")
    root.page.get_by_label("By organization").select_option(str(some.pk))
    root.page.get_by_role("button", name="Show").first.click()
    expect(root.page.locator("#result_list tbody tr").first).to_contain_text("Server ")
    root.page.wait_for_url(lambda url: "status=attention" in url and str(some.pk) in url)
    root.open("/admin/tools/tool/")
    root.page.get_by_label("By connection").fill("Server 0007")
    root.page.get_by_label("By connection").press("Enter")
    expect(root.page.locator("#result_list tbody tr")).to_have_count(1)
    root.shoot("searched", tmp_path)


@pytest.mark.parametrize("width", [1280, 375])
def test_every_list_begins_above_the_fold_and_fits_the_window(
    superuser: User, visit: Visit, width: int, tmp_path: Path
) -> None:
    crowd.work(crowd.gather(205, 1_358), 500)
    root = visit(superuser, width=width)
    lower, wider, empty = {}, {}, []
    for model in admin.site._registry:
        place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        root.open(place)
        row = root.page.locator("#result_list tbody tr").first
        root.shoot(model.__name__, tmp_path)
        if row.count() == 0:
            empty.append(model.__name__)
            continue
        box = row.bounding_box()
        assert box is not None, place
        if box["y"] + min(box["height"], 60) > 900:
            lower[place] = box["y"]
        over = root.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if over > 0:
            wider[place] = over
        told = row.locator("td:visible:not(.action-checkbox)").first.evaluate(
            "cell => [cell.dataset.column, getComputedStyle(cell, '::before').content]"
        )
        assert told[0], f"{place}: its cells do not say of which column they are"
        assert (told[1] == "none") == (width == 1280), f"{place}: {told}"
        assert root.complaints == [], place
    assert (lower if width == 1280 else {}, wider) == ({}, {})
    assert set(empty) <= {"DailyUse", "Invitation"}, "every other list has rows here"


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")])
def test_a_list_that_nobody_counts_is_read_page_by_page(
    superuser: User, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    crowd.work(crowd.gather(3, 12), 120)
    root = visit(superuser, width=width, colours=colours)
    root.open("/admin/tools/call/")
    pages = root.page.locator(".paginator")
    expect(pages).to_contain_text("1 to 50")
    root.page.get_by_role("link", name="Older").click()
    expect(pages).to_contain_text("51 to 100")
    expect(root.page.get_by_role("link", name="Newer")).to_be_visible()
    assert root.complaints == []
    assert root.violations() == []
    pages.scroll_into_view_if_needed()
    root.shoot("pages", tmp_path)
    root.page.locator("#searchbar").fill("find")
    root.page.locator("#searchbar").press("Enter")
    expect(root.page.locator("#toolbar")).to_contain_text("50+ found")
    root.shoot("found", tmp_path)


@pytest.mark.parametrize("width", [1280, 375])
def test_the_keyboard_comes_to_things_in_the_order_of_sight(superuser: User, visit: Visit, width: int) -> None:
    crowd.work(crowd.gather(12, 60), 60)
    root, upwards = visit(superuser, width=width), {}
    for model in admin.site._registry:
        place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        root.open(place)
        upwards[place] = root.page.evaluate(UPWARDS)
    assert {place: found for place, found in upwards.items() if found} == {}
