"""From an empty database to the first call, by browser only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Tenant, User
from connections.people import starting
from tests.browser.conftest import Visit, Visitor
from tests.browser.test_people import BEA
from tests.browser.test_second_factor import code
from tests.conftest import PASSWORD
from tests.connections.people.links import last_link, path_of
from tests.servers.mail import MailServer

pytestmark = pytest.mark.browser


def test_from_an_empty_database_to_the_first_call(
    visit: Visit,
    worker: None,
    order_system: tuple[str, str],
    open_egress: None,
    mail_server: MailServer,
    settings: Any,
    live_server_url: str,
    tmp_path: Path,
) -> None:
    settings.PUBLIC_URL = live_server_url
    assert not User.objects.exists()
    assert not Tenant.objects.exists()
    ada, bea = visit(None), visit(None)
    begin(ada)
    invite(ada)
    come_in(bea, last_link(mail_server, BEA))
    connect(ada, *order_system)
    printed = assign(ada)
    assert call(printed)["state"] == "succeeded"
    expect(ada.page.get_by_text("Your first call:")).to_be_visible()
    ada.open("/admin/")
    expect(ada.page.get_by_role("heading", name="The first steps")).to_have_count(0)
    ada.shoot("home", tmp_path)
    assert (ada.complaints, bea.complaints) == ([], [])


def begin(ada: Visitor) -> None:
    """You, and your organization."""
    page = ada.page
    ada.open(path_of(starting.first_address(timezone.now()) or ""))
    page.get_by_label("Your e-mail address").fill("ada@acme.example")
    page.get_by_label("Your name").fill("Ada")
    for label in ("Password", "Password again"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("Acme")
    page.get_by_role("button", name="Go on").click()


def invite(ada: Visitor) -> None:
    ada.page.get_by_role("link", name="Members", exact=True).first.click()
    ada.page.get_by_role("link", name="Invite", exact=True).click()
    ada.page.get_by_label("E-mail address").fill(BEA)
    ada.page.get_by_role("button", name="Invite").click()
    expect(ada.page.get_by_text("The mail with the link is on its way")).to_be_visible()


def come_in(bea: Visitor, link: str) -> None:
    """Join, and set a second factor up."""
    page = bea.page
    bea.open(link)
    page.get_by_label("Your name").fill("Bea")
    for label in ("Password", "Password again"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.get_by_role("link", name=BEA).click()
    page.get_by_role("link", name="Set up an app").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    secret = page.locator("code").inner_text()
    page.get_by_label("Code that the app shows").fill(code(secret))
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()


def connect(ada: Visitor, url: str, key: str) -> None:
    """The first connection."""
    page = ada.page
    ada.open("/admin/")
    page.get_by_role("link", name="Add a connection").click()
    page.get_by_label("Name", exact=True).fill("Order system")
    page.get_by_label("Server URL").fill(url)
    page.get_by_role("radio", name="API key").check()
    page.locator("#id_api_key").fill(key)
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator("[data-part=headline]")).to_have_text("Connected")
    expect(page.get_by_role("link", name="order-system__search_products")).to_be_visible()


def assign(ada: Visitor) -> str:
    """An assignment and its token; return the call in a shell that the page prints."""
    page = ada.page
    ada.open("/admin/")
    page.get_by_role("link", name="Add an assignment").click()
    page.get_by_label("Name", exact=True).fill("Nightly orders")
    page.get_by_role("button", name="Save", exact=True).click()
    ada.open("/admin/")
    page.get_by_role("link", name="Open Nightly orders").click()
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_text("Waiting for your first call…")).to_be_visible()
    return page.get_by_label("In a shell", exact=True).input_value()


def call(printed: str) -> dict[str, Any]:
    """Call a tool as the page says, word for word."""
    run = subprocess.run(["bash", "-c", printed], check=True, capture_output=True, text=True, timeout=120)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer
