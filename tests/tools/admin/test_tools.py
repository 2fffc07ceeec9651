"""The pages of tools, assignments, tokens and calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, User
from tests.conftest import House
from tools.models import AccessToken, Tool
from tools.models.assignments import digest_of

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
APPROVED = {"name": "ship", "description": "Ships an order."}
SEEN = {"name": "ship", "description": "Ships an order to the\u202e moon. <script>alert(1)</script>"}


def tool_of(connection: Connection, name: str = "ship", digest: str = "new", approved: str = "old") -> Tool:
    return Tool.objects.create(
        connection=connection, name=name, public_name=f"orders__{name}", definition=SEEN, digest=digest,
        approved_definition=APPROVED, approved_digest=approved, approved_at=timezone.now(), approved_by="ann",
    )  # fmt: skip


def url(tool: Tool, page: str) -> str:
    return f"/admin/tools/tool/{tool.pk}/{page}/"


def test_a_changed_tool_is_shown_with_its_difference_and_hidden_characters(acme: House, signed_in: SignedIn) -> None:
    text = signed_in(acme.admin).get(url(tool_of(acme.connection()), "change")).content.decode()
    assert "the server changed its definition" in text
    assert "<code>description</code>" in text
    assert "⟨U+202E⟩" in text
    assert "<script>alert" not in text
    assert "\u202e" not in text


def test_an_admin_approves_exactly_what_was_shown(acme: House, signed_in: SignedIn) -> None:
    tool = tool_of(connection := acme.connection(tools_state="changes_to_review"))
    client = signed_in(acme.admin)
    late = client.post(url(tool, "approve"), {"digest": "older"}, follow=True)
    assert "has changed again" in late.content.decode()
    tool.refresh_from_db()
    assert tool.approved_digest == "old"
    client.post(url(tool, "approve"), {"digest": "new"})
    tool.refresh_from_db()
    connection.refresh_from_db()
    assert (tool.approved_digest, tool.approved_by, tool.approved_definition) == ("new", "admin@acme.example", SEEN)
    assert connection.tools_state == "in_sync"
    assert AuditEvent.objects.get(action="tool.approved").data == {"digest": "new"}


def test_many_tools_are_approved_after_their_differences_were_shown(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    first, second = tool_of(connection, "ship"), tool_of(connection, "bill")
    client = signed_in(acme.admin)
    chosen: dict[str, Any] = {"action": "approve_chosen", "_selected_action": [first.pk, second.pk]}
    page = client.post("/admin/tools/tool/", chosen).content.decode()
    assert page.count("⟨U+202E⟩") == 2
    sent = dict(re.findall(r'name="(digest_[^"]+)" value="([^"]+)"', page))
    Tool.objects.filter(pk=second.pk).update(digest="newer")
    answer = client.post("/admin/tools/tool/", {**chosen, **sent, "confirmed": "1"}, follow=True).content.decode()
    assert "Approved: 1." in answer
    assert "rders__bill has changed again" in answer
    assert list(Tool.objects.usable()) == [first]


def test_an_admin_denies_and_allows_a_tool(acme: House, signed_in: SignedIn) -> None:
    tool = tool_of(acme.connection(), digest="old")
    client = signed_in(acme.admin)
    client.post(url(tool, "policy"), {"policy": "deny"})
    assert not Tool.objects.usable().exists()
    assert client.post(url(tool, "policy"), {"policy": "nonsense"}).status_code == 404
    client.post(url(tool, "policy"), {"policy": "allow"})
    assert Tool.objects.usable().exists()


def test_an_admin_has_each_call_of_a_tool_approved(acme: House, signed_in: SignedIn) -> None:
    tool = tool_of(acme.connection(), digest="old")
    client = signed_in(acme.admin)
    client.post(url(tool, "policy"), {"policy": "ask"})
    page = client.get(url(tool, "change")).content.decode()
    assert "an organization admin approves each call" in page
    assert re.search(r'value="ask" class="choice" aria-pressed="true"', page)
    assert "Asks first" in client.get("/admin/tools/tool/").content.decode()
    assert AuditEvent.objects.filter(action="tool.set_to_ask").count() == 1
    client.post("/admin/tools/tool/", {"action": "allow_chosen", "_selected_action": [tool.pk]})
    client.post("/admin/tools/tool/", {"action": "ask_chosen", "_selected_action": [tool.pk]})
    tool.refresh_from_db()
    assert (tool.policy, AuditEvent.objects.filter(action="tool.set_to_ask").count()) == ("ask", 2)


def test_an_admin_sets_where_calls_of_a_tool_run_and_how_long(acme: House, signed_in: SignedIn) -> None:
    tool = tool_of(acme.connection(), digest="old")
    until = timezone.now() + timedelta(hours=1)
    Tool.objects.filter(pk=tool.pk).update(slow_until=until)
    client = signed_in(acme.admin)
    assert f"in the queue until {until:%Y-%m-%d %H:%M}" in client.get(url(tool, "change")).content.decode()
    wrong = client.post(url(tool, "placement"), {"placement": "queue", "idle_timeout": "601"})
    assert "less than or equal to 600" in wrong.content.decode()
    client.post(url(tool, "placement"), {"placement": "at_once", "idle_timeout": "5", "call_timeout": ""})
    tool.refresh_from_db()
    assert (tool.placement, tool.idle_timeout, tool.call_timeout, tool.slow_until) == ("at_once", 5, None, None)
    assert AuditEvent.objects.filter(action="tool.placement_set").count() == 1


def test_tools_are_filtered_by_standing(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    tool_of(connection, "usable", digest="old")
    tool_of(connection, "changed")
    Tool.objects.filter(pk=tool_of(connection, "asked", digest="old").pk).update(policy="ask")
    Tool.objects.filter(pk=tool_of(connection, "denied", digest="old").pk).update(policy="deny")
    Tool.objects.filter(pk=tool_of(connection, "broken").pk).update(broken="Its schema is not one.")
    Tool.objects.filter(pk=tool_of(connection, "gone").pk).update(gone_at=timezone.now())
    client = signed_in(acme.admin)
    for availability, names in {
        "usable": ["asked", "usable"], "ask": ["asked"], "review": ["changed"], "denied": ["denied"],
        "broken": ["broken"], "gone": ["gone"],
    }.items():  # fmt: skip
        text = client.get(f"/admin/tools/tool/?availability={availability}").content.decode()
        assert re.findall(r">orders__(\w+)<", text) == names


def made_token(text: str) -> str:
    return re.findall(r"duvo_[A-Za-z0-9_-]{40,}", text)[0]


def test_a_token_is_shown_once_and_kept_nowhere(acme: House, signed_in: SignedIn) -> None:
    assignment = acme.assignment()
    client = signed_in(acme.admin)
    path = f"/admin/tools/assignment/{assignment.pk}"
    day = f"{timezone.now() + timedelta(days=30):%Y-%m-%d}"
    answer = client.post(f"{path}/tokens/", {"label": "nightly", "expires_on": day})
    assert "no-store" in answer.headers["Cache-Control"]
    token = made_token(answer.content.decode())
    row = assignment.access_tokens.get()
    assert (row.digest, row.label, row.created_by) == (digest_of(token), "nightly", acme.admin)
    assert row.expires_at is not None
    assert row.expires_at.isoformat().startswith(f"{day}T23:59:59")
    page = client.get(f"{path}/change/").content.decode()
    assert token not in page
    assert row.prefix in page
    assert all(token not in str(session.get_decoded()) for session in Session.objects.all())
    assert token not in str(list(AuditEvent.objects.values()))


def test_a_token_that_would_be_over_already_is_not_made(acme: House, signed_in: SignedIn) -> None:
    assignment = acme.assignment()
    path = f"/admin/tools/assignment/{assignment.pk}/tokens/"
    answer = signed_in(acme.admin).post(path, {"expires_on": "2020-01-01"}, follow=True)
    assert "Choose a day in the future" in answer.content.decode()
    assert not AccessToken.objects.exists()


def test_an_admin_revokes_a_token_of_this_assignment_only(acme: House, signed_in: SignedIn) -> None:
    assignment, other = acme.assignment(), acme.assignment("Other")
    token, _ = AccessToken.issue(assignment=assignment)
    client = signed_in(acme.admin)
    assert client.post(f"/admin/tools/assignment/{other.pk}/tokens/{token.pk}/revoke/").status_code == 404
    client.post(f"/admin/tools/assignment/{assignment.pk}/tokens/{token.pk}/revoke/")
    assert not AccessToken.objects.live(timezone.now()).exists()
    assert AuditEvent.objects.get(action="assignment.token_revoked").data == {"prefix": token.prefix, "calls_ended": 0}


def test_people_make_and_revoke_tokens_of_their_own(acme: House, rival: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.member)
    add = "/admin/tools/accesstoken/add/"
    refused = client.post(add, {"membership": rival.membership(rival.member).pk, "label": "x"})
    assert refused.status_code == 200
    assert not AccessToken.objects.exists()
    answer = client.post(add, {"membership": acme.membership(acme.member).pk, "label": "scripts"})
    row = AccessToken.objects.get()
    assert row.digest == digest_of(made_token(answer.content.decode()))
    assert "no-store" in answer.headers["Cache-Control"]
    assert signed_in(rival.admin).post(f"/admin/tools/accesstoken/{row.pk}/revoke/").status_code == 404
    client.post(f"/admin/tools/accesstoken/{row.pk}/revoke/")
    row.refresh_from_db()
    assert row.revoked_at is not None


@pytest.mark.smoke
def test_an_admin_adds_an_assignment(acme: House, signed_in: SignedIn) -> None:
    data = {"name": "Nightly orders", "instructions": "Ship them.", "enabled": "on", "scope": "all", "max_rate": "60"}
    client = signed_in(acme.admin)
    client.post("/admin/tools/assignment/add/", data)
    assignment = acme.tenant.assignments.get()
    assert (assignment.name, assignment.owner, assignment.max_rate) == ("Nightly orders", acme.admin, 60)
    assert (
        "Another assignment of this organization has this name"
        in client.post("/admin/tools/assignment/add/", data).content.decode()
    )
