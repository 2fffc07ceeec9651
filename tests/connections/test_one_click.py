"""Nothing that cannot be taken back happens on one click: the button stands behind a sentence that says what ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from django.db.models import Model
from django.test import Client
from django.urls import resolve, reverse
from django.utils import timezone

from connections.models import Channel, Credential, User
from tests.conftest import House
from tests.connections.estate import Estate, rows
from tests.connections.isolation import BUTTONS
from tools.models import Call

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def behind(page: str, action: str) -> str:
    """The text of what is to be opened before the button with this action is seen."""
    for details in re.findall(r"<details.*?</details>", page, re.DOTALL):
        if action in details:
            assert " open" not in details.partition(">")[0]
            assert page.count(action) == 1
            return re.sub(r"<[^>]*>", " ", details)
    return ""


# What ends with these cannot be had again, or others stand still for it.
LASTING = {
    "connections_connection_disconnect", "connections_invitation_withdraw", "connections_tenant_channel_remove",
    "connections_tenant_webhook_secret", "connections_user_without_factor", "tools_accesstoken_revoke",
    "tools_assignment_revoke", "tools_assignment_withdraw", "tools_call_again", "tools_call_cancel",
    "tools_mcpsession_end",
}  # fmt: skip
OTHERS = {
    "connections_connection_check", "connections_connection_use_address", "connections_tenant_webhook_test",
    "connections_tenant_act", "connections_tenant_leave", "connections_tenant_suspend",  # asks for a reason
    "connections_tenant_resume", "connections_invitation_send", "connections_tenant_channel",
    "connections_tenant_channel_test", "connections_notice_again", "connections_bulletin_again", "tools_tool_approve",
    "tools_tool_policy", "tools_tool_description", "tools_tool_placement", "tools_assignment_token",
    "tools_assignment_consent", "tools_assignment_seen",
    "tools_call_approve", "tools_call_refuse", "tools_call_answer",  # decisions, below what is decided
}  # fmt: skip


def test_every_button_is_known_for_what_it_does() -> None:
    assert set(BUTTONS) == LASTING | OTHERS
    assert not LASTING & OTHERS


def test_what_lasts_stands_behind_a_sentence_on_every_page(
    acme: House, estate: Estate, superuser: User, signed_in: SignedIn
) -> None:
    acme.tenant.webhook_url = "https://hooks.example.com/x"
    acme.tenant.save()
    channel = Channel(tenant=acme.tenant)
    channel.set_url("https://hooks.example.com/y")
    channel.save()
    ended = Call.objects.create(
        tenant=acme.tenant, assignment=estate.assignment, tool_name="orders__pay", sealed_arguments="x",
        state="failed", error_code="x", error_sentence="x", finished_at=timezone.now(),
    )  # fmt: skip
    own = acme.connection("Own", authorization="api_key", sharing="personal")
    Credential(connection=own, owner=acme.admin, kind="api_key").set("k", by=acme.admin)
    Authenticator.objects.create(user=acme.member, type=Authenticator.Type.TOTP, data={})
    pages = [
        ("/admin/connections/membership/", acme.admin),
        (f"/admin/connections/user/{acme.member.pk}/change/", superuser),
    ]
    pages += [
        (address(row), acme.admin) for row in [*rows(acme, estate).values(), ended, own] if not isinstance(row, User)
    ]
    seen = set()
    for page, person in pages:
        text = signed_in(person).get(page, follow=True).content.decode()
        for details in re.findall(r"<details.*?</details>", text, re.DOTALL):
            if "<p" in details and " open" not in details.partition(">")[0]:
                seen |= actions(details)
                text = text.replace(details, "")
        assert not actions(text) & LASTING, page
    assert seen & LASTING == LASTING


def address(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def actions(text: str) -> set[str]:
    """The names of the addresses to which forms and buttons of a page lead."""
    return {resolve(found).url_name or "" for found in re.findall(r'action="(/admin/[^"?]+)"', text)}


def test_a_call_is_cancelled_after_it_was_said_what_that_means(acme: House, signed_in: SignedIn) -> None:
    row = Call.objects.create(tenant=acme.tenant, tool_name="orders__pay", sealed_arguments="x")
    page = signed_in(acme.admin).get(f"/admin/tools/call/{row.pk}/change/").content.decode()
    assert "nothing is sent" in behind(page, f"/admin/tools/call/{row.pk}/cancel/")
    assert "/cancel/" not in signed_in(acme.auditor).get(f"/admin/tools/call/{row.pk}/change/").content.decode()


def test_a_token_is_revoked_and_ones_own_key_forgotten_likewise(acme: House, signed_in: SignedIn) -> None:
    row = acme.assignment()
    acme.token(row)
    client = signed_in(acme.admin)
    page = client.get(f"/admin/tools/assignment/{row.pk}/change/").content.decode()
    assert "turned away" in behind(page, f"/tokens/{row.access_tokens.get().pk}/revoke/")
    own = acme.connection(authorization="api_key", sharing="personal")
    Credential(connection=own, owner=acme.admin, kind="api_key").set("k", by=acme.admin)
    page = client.get(f"/admin/connections/connection/{own.pk}/change/").content.decode()
    assert "until you enter it again" in behind(page, f"/admin/connections/connection/{own.pk}/disconnect/")
