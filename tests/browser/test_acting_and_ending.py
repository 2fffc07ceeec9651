"""Whom an owner lets act, every token of an organization, a gone asker and a suspension, as people see them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from connections.models import Membership, User
from tests.browser.conftest import Visit
from tests.browser.test_start_page import clean
from tests.conftest import PASSWORD, House
from tools.calls import acting
from tools.models import AccessToken, Call, Consent, Tool

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_an_owner_consents_is_told_and_sees_every_token(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    bob = User.objects.create_user("bob@acme.example", "bob@acme.example", PASSWORD)
    Membership.objects.create(user=bob, tenant=acme.tenant, role="admin")
    acme.connection("Calendar", authorization="oauth", sharing="personal")
    assignment = acme.assignment("Nightly orders")
    acme.token(assignment)
    ann, page = visit(acme.admin, width=width, colours=colours), f"/admin/tools/assignment/{assignment.pk}/change/"
    ann.open(page)
    ann.page.get_by_role("button", name="Let them act in my name").click()
    expect(ann.page.get_by_text("bob@acme.example may act in your name here.")).to_be_visible()
    consent = Consent.objects.get()
    row = AccessToken.issue(assignment=assignment, by=consent.person.user)[0]
    acting.notify_owner(assignment, consent.person.user, f"issued the token {row}")
    ann.open("/admin/")
    expect(ann.page.get_by_role("heading", name="Done in your name")).to_be_visible()
    clean(ann)
    ann.shoot("told", tmp_path)
    ann.open(page)
    clean(ann)
    ann.shoot("owner", tmp_path)
    ann.page.get_by_role("button", name="I have seen this").click()
    ann.page.get_by_text("Withdraw…").click()
    clean(ann)
    ann.shoot("asked", tmp_path)
    ann.page.get_by_role("button", name="Withdraw the consent to bob@acme.example").click()
    expect(ann.page.get_by_text("bob@acme.example may no longer act in your name here.")).to_be_visible()
    ann.open("/admin/tools/accesstoken/")
    clean(ann)
    ann.shoot("tokens", tmp_path)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_a_gone_asker_and_a_suspension_are_said(
    acme: House, visit: Visit, superuser: User, width: int, colours: str, tmp_path: Path
) -> None:
    assignment, now = acme.assignment("Nightly orders"), timezone.now()
    token = AccessToken.issue(assignment=assignment, by=acme.admin)[0]
    definition = {"name": "ship", "inputSchema": {"type": "object"}}
    tool = Tool.objects.create(
        connection=acme.connection("Orders"), name="ship", public_name="orders__ship", digest="d",
        definition=definition, approved_definition=definition, approved_digest="d", approved_at=now, policy="ask",
    )  # fmt: skip
    call = Call(
        tenant=acme.tenant, assignment=assignment, token=token, tool=tool, connection=tool.connection,
        tool_name="orders__ship", state="awaiting_approval", waits_until=now + timedelta(hours=3),
        tool_digest="d", server_url=tool.connection.server_url,
    )  # fmt: skip
    call.sealed_arguments = call.seal({"order": 7})
    call.save()
    token.revoke()
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open(f"/admin/tools/call/{call.pk}/change/")
    expect(ann.page.get_by_text("The token that asked for it was revoked.")).to_be_visible()
    expect(ann.page.get_by_role("button", name="Approve")).to_have_count(0)
    clean(ann)
    ann.shoot("gone", tmp_path)
    root = visit(superuser, width=width, colours=colours)
    root.open(f"/admin/connections/tenant/{acme.tenant.pk}/change/")
    root.page.locator("#id_reason").fill("The last invoice is unpaid.")
    root.page.get_by_role("button", name="Suspend").click()
    expect(root.page.get_by_role("button", name="Resume")).to_be_visible()
    clean(root)
    root.shoot("suspended", tmp_path)
    ann.open("/admin/")
    expect(ann.page.get_by_text("The last invoice is unpaid.")).to_be_visible()
    clean(ann)
    ann.shoot("banner", tmp_path)
