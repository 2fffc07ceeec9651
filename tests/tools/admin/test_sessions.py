"""Live sessions on the pages of people: whose they are, and the button that ends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, User
from tests.conftest import House
from tools.models import Assignment, McpSession

SignedIn = Callable[[User], Client]


@pytest.fixture
def connection(acme: House) -> Connection:
    return acme.connection("Browser")


def session(house: House, connection: Connection, assignment: Assignment, name: str = "", **more: Any) -> McpSession:
    now = timezone.now()
    row = McpSession(
        tenant=house.tenant, connection=connection, assignment=assignment, name=name, revision=1,
        server_key=f"{connection.pk}/1", opened_at=now, used_at=now, idle_until=now, calls=7, **more,
    )  # fmt: skip
    row.sealed_session = row.seal({"id": "secret-id", "version": "2025-11-25", "cookies": {}, "url": "", "headers": []})
    row.save()
    return row


def page(connection: Connection) -> str:
    return f"/admin/connections/connection/{connection.pk}/change/"


def test_the_connections_page_shows_them_with_a_button_for_admins(
    acme: House, connection: Connection, signed_in: SignedIn
) -> None:
    row = session(acme, connection, acme.assignment(), "job-7")
    for person, ends in ((acme.admin, True), (acme.member, False), (acme.auditor, False)):
        html = signed_in(person).get(page(connection)).content.decode()
        assert "Nightly orders" in html
        assert "job-7" in html
        assert (f"/mcpsession/{row.pk}/end/" in html) == ends
        assert "secret-id" not in html


def test_a_connection_without_sessions_says_nothing_of_them(
    acme: House, connection: Connection, signed_in: SignedIn
) -> None:
    assert "Live sessions" not in signed_in(acme.admin).get(page(connection)).content.decode()


def test_an_admin_ends_a_session(acme: House, connection: Connection, signed_in: SignedIn) -> None:
    row = session(acme, connection, acme.assignment())
    answer = signed_in(acme.admin).post(f"/admin/tools/mcpsession/{row.pk}/end/", follow=True)
    assert "Sessions ended: 1" in answer.content.decode()
    row.refresh_from_db()
    assert (row.end_reason, row.ended_at is not None, row.due_at is not None) == ("admin", True, True)
    event = AuditEvent.objects.get(action="mcpsession.ended")
    assert (event.actor, event.data["assignment"]) == (acme.admin.get_username(), "Nightly orders")


def test_nobody_else_ends_it(acme: House, rival: House, connection: Connection, signed_in: SignedIn) -> None:
    row = session(acme, connection, acme.assignment())
    for person, refusal in ((acme.member, 403), (acme.auditor, 403), (rival.admin, 404)):
        assert signed_in(person).post(f"/admin/tools/mcpsession/{row.pk}/end/").status_code == refusal
        chosen = {"action": "end_chosen", "_selected_action": [str(row.pk)]}
        signed_in(person).post("/admin/tools/mcpsession/", chosen)
    assert signed_in(acme.admin).get(f"/admin/tools/mcpsession/{row.pk}/end/").status_code == 405
    row.refresh_from_db()
    assert row.ended_at is None


def test_many_sessions_are_ended_together_from_their_list(
    acme: House, connection: Connection, signed_in: SignedIn
) -> None:
    assignment = acme.assignment()
    rows = [session(acme, connection, assignment, f"job-{number}") for number in range(12)]
    client = signed_in(acme.admin)
    assert "All 12 live sessions" in client.get(page(connection)).content.decode()
    chosen = {"action": "end_chosen", "_selected_action": [str(row.pk) for row in rows[:5]]}
    assert "Sessions ended: 5" in client.post("/admin/tools/mcpsession/", chosen, follow=True).content.decode()
    assert McpSession.objects.live().count() == 7
