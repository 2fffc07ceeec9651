"""A call waits for a login: its owner finds it on the start page and in the inbox, connects, and it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_inbox import clean
from tests.conftest import House
from tests.tools.calls.test_logins import run_all
from tests.tools.conftest import OpenShop
from tools.models import Call

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("width", "colours"), [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")], ids=str
)
def test_the_owner_connects_from_the_inbox_and_the_call_goes_on(
    acme: House, open_shop: OpenShop, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    shop = open_shop()
    shop.set(authorization="api_key", sharing="personal")
    for _ in range(2):
        assert shop.call("echo", {"text": "x"}, headers={"Prefer": "wait-for-login"}).status_code == 202
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    said = page.get_by_text("2 calls of Nightly orders wait until you have connected, and are made then.")
    expect(said).to_be_visible()
    clean(ann)
    ann.shoot("needs", tmp_path)
    call = Call.objects.order_by("created_at")[0]
    ann.open(f"/admin/tools/call/{call.pk}/change/")
    expect(page.locator('[data-part="state"]')).to_have_text("Waits for a login")
    expect(page.get_by_text("It waits until admin@acme.example has connected to Orders")).to_be_visible()
    clean(ann)
    ann.shoot("waiting", tmp_path)
    page.get_by_role("link", name="Inbox (1)").click()
    expect(said).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    clean(ann)
    ann.shoot("logins", tmp_path)
    page.get_by_role("link", name="Connect Orders").click()
    page.get_by_label("Your API key").fill("k3y-0123456789")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_text("You are connected")).to_be_visible()
    run_all()
    assert set(Call.objects.values_list("state", flat=True)) == {"succeeded"}
    ann.open("/admin/inbox/")
    expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
    ann.open("/admin/tools/call/")
    ann.shoot("calls", tmp_path)
