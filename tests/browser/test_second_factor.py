"""Second factors in a browser: an app, and a passkey that Chromium itself makes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import expect

from connections.models import Tenant
from tests.browser.conftest import Visit, Visitor
from tests.browser.test_people import COLOURS, looked_at
from tests.conftest import PASSWORD, House

pytestmark = pytest.mark.browser


def sign_out(person: Visitor) -> None:
    person.page.get_by_role("button", name="Sign out").click()
    person.open("/admin/login/")


def enter(person: Visitor, name: str) -> None:
    person.page.get_by_label("E-mail address or user name").fill(name)
    person.page.get_by_label("Password").fill(PASSWORD)
    person.page.get_by_role("button", name="Sign in", exact=True).click()


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_a_member_is_led_to_set_an_app_up_and_signs_in_with_it(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    Tenant.objects.update(require_second_factor=True)
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open("/admin/")
    expect(page.get_by_text("Set one up, and everything is there again.")).to_be_visible()
    looked_at(ann, "account", tmp_path)
    page.get_by_role("link", name="Set up an app").click()
    looked_at(ann, "confirm", tmp_path)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    looked_at(ann, "app", tmp_path)
    secret = page.locator("code").inner_text()
    page.get_by_label("Code that the app shows").fill("000000")
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_text("Incorrect code.")).to_be_visible()
    secret = page.locator("code").inner_text()
    page.get_by_label("Code that the app shows").fill(code(secret))
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    looked_at(ann, "codes", tmp_path)
    page.get_by_role("link", name="I have copied them").click()
    looked_at(ann, "set-up", tmp_path)
    ann.open("/admin/")
    sign_out(ann)
    looked_at(ann, "sign-in", tmp_path)
    page.get_by_role("link", name="Forgot your password?").click()
    looked_at(ann, "forgotten", tmp_path)
    page.get_by_role("link", name="Back to the sign-in").click()
    enter(ann, acme.admin.username)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    looked_at(ann, "second-factor", tmp_path)
    page.get_by_label("Code").fill(code(secret, steps=1))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#user-tools")
    assert ann.complaints == []


def test_a_passkey_opens_alone_and_after_the_password(acme: House, visit: Visit, settings: Any, tmp_path: Path) -> None:
    ann = visit(None)
    ann.base = ann.base.replace("127.0.0.1", "localhost")  # browsers make passkeys for names only
    settings.PUBLIC_URL = ann.base
    page = ann.page
    key = page.context.new_cdp_session(page)
    key.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    key.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    ann.open("/admin/")
    enter(ann, acme.admin.username)
    ann.open("/account/")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("My laptop")
    page.get_by_label("Sign in with it alone").check()
    looked_at(ann, "add-passkey", tmp_path)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("link", name="I have copied them").click()
    expect(page.get_by_text("My laptop", exact=True).first).to_be_visible()
    looked_at(ann, "with-passkey", tmp_path)

    sign_out(ann)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_selector("#user-tools")

    sign_out(ann)
    enter(ann, acme.admin.username)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_selector("#user-tools")
    assert ann.complaints == []


def code(secret: str, *, steps: int = 0) -> str:
    """The code that an app shows now, or so many half minutes from now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))
