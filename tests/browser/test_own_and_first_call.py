"""A member connects with their own key, a developer makes a first call, and an admin looks at what was called."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Credential
from tests.browser.conftest import Visit
from tests.browser.test_start_page import clean
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.tools.calls.test_activity import called
from tools.calls import activity
from tools.models import AccessToken, Assignment

pytestmark = pytest.mark.browser
LOOKS = pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])


@LOOKS
def test_a_member_is_led_to_connect(
    acme: House, mcp_server: StartServer, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    acme.tenant.members_own = True
    acme.tenant.save()
    row = acme.connection("Warehouse", mcp_server("modern").url, authorization="api_key", sharing="personal")
    Assignment.objects.create(tenant=acme.tenant, name="Of the member", owner=acme.member)
    acme.assignment("Of the admin")
    member = visit(acme.member, width=width, colours=colours)
    clean(member)
    member.shoot("start", tmp_path)
    member.page.get_by_role("link", name="Warehouse").first.click()
    expect(member.page.get_by_role("heading", name="Connect to Warehouse")).to_be_visible()
    clean(member)
    member.shoot("connect", tmp_path)
    member.page.get_by_label("Your API key").fill("key-of-the-member")
    member.page.get_by_role("button", name="Connect").click()
    expect(member.page.get_by_text("You are connected")).to_be_visible()
    assert Credential.objects.get(connection=row).owner == acme.member
    clean(member)
    member.shoot("connected", tmp_path)
    admin = visit(acme.admin, width=width, colours=colours)
    admin.open(f"/admin/connections/connection/{row.pk}/change/")
    expect(admin.page.get_by_text("1 of 2 can use it: ask admin@acme.example to connect.").first).to_be_visible()
    clean(admin)
    admin.shoot("admin", tmp_path)


@LOOKS
def test_the_page_of_a_new_token_waits_and_turns_into_the_call(
    acme: House, api: Any, mcp_server: StartServer, probed: Any, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    probed(acme.connection("Orders", mcp_server("modern").url))
    assignment = acme.assignment()
    admin = visit(acme.admin, width=width, colours=colours)
    admin.open(f"/admin/tools/assignment/{assignment.pk}/change/")
    clean(admin)
    admin.shoot("assignment", tmp_path)
    admin.page.get_by_role("button", name="Make a token").click()
    expect(admin.page.get_by_text("Waiting for your first call…")).to_be_visible()
    expect(admin.page.get_by_role("button", name="Copy").first).to_be_visible()
    clean(admin)
    admin.shoot("token", tmp_path)
    token = admin.page.get_by_label("Token", exact=True).input_value()
    api.as_(token).call("orders__echo", {"text": "x"})
    expect(admin.page.get_by_text(re.compile("Your first call: orders__echo, succeeded"))).to_be_visible()
    admin.shoot("called", tmp_path)
    admin.page.reload()
    assert AccessToken.objects.count() == 1
    assert admin.complaints == []


@LOOKS
def test_activity_and_the_audit_trail(acme: House, visit: Visit, width: int, colours: str, tmp_path: Path) -> None:
    now, orders = timezone.now(), acme.connection("Orders")
    for days in range(6):
        for number in range(days * 3 + 1):
            state = "failed" if number % 4 == 3 else "succeeded"
            called(acme, acme.tenant.assignments.first() or acme.assignment(), orders, at=now - timedelta(days=days),
                   tool=f"orders__tool_{number % 3}", state=state)  # fmt: skip
    activity.count_all(now)
    admin = visit(acme.admin, width=width, colours=colours)
    for name, path in (
        ("activity", "/admin/tools/dailyuse/"), ("tools", "/admin/tools/dailyuse/?by=tool"),
        ("audit", "/admin/connections/auditevent/"),
    ):  # fmt: skip
        admin.open(path)
        clean(admin)
        admin.shoot(name, tmp_path)
    admin.open("/v1/docs")
    admin.page.locator(".opblock").first.wait_for()
    admin.shoot("docs", tmp_path)
