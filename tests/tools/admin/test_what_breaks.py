"""Before something is deleted, the page says what breaks, by name; a connection's page says who uses it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Connection, User
from tests.conftest import House
from tools.models import Assignment, Call, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"
ASSIGNMENTS = "/admin/tools/assignment/"


def text_of(client: Client, path: str) -> str:
    page = html.unescape(client.get(path).content.decode())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<h1")[2]))


def tool(connection: Connection, name: str, **more: object) -> Tool:
    return Tool.objects.create(
        connection=connection, name=name, public_name=f"{connection.slug}__{name}", definition={}, digest="1",
        approved_digest="1", approved_definition={}, approved_at=timezone.now(), **more,
    )  # fmt: skip


@pytest.fixture
def orders(acme: House, rival: House) -> Connection:
    """A connection with four tools, an assignment that may use all of them, one that may use two, and others."""
    orders, other = acme.connection(), acme.connection("Warehouse")
    tools = [tool(orders, name) for name in ("a", "b", "c", "d")]
    tool(orders, "gone", gone_at=timezone.now())
    tool(orders, "denied", policy="deny")
    acme.assignment("Everything")
    acme.assignment("Two of them", scope="chosen").tools.set([*tools[:2], tool(other, "x")])
    acme.assignment("Elsewhere", scope="chosen").tools.set(Tool.objects.filter(connection=other))
    acme.assignment("Disabled", enabled=False)
    rival.assignment("Of the rival")
    return orders


def test_the_page_of_a_connection_says_who_uses_it(orders: Connection, acme: House, signed_in: SignedIn) -> None:
    text = text_of(signed_in(acme.member), f"{LIST}{orders.pk}/change/").partition("Who uses it")[2]
    assert "Everything admin@acme.example 4 tools: orders__a , orders__b , orders__c and 1 more" in text
    assert "Two of them admin@acme.example 2 tools: orders__a , orders__b " in text
    for other in ("Elsewhere", "Disabled", "Of the rival", "orders__gone", "orders__denied"):
        assert other not in text


def test_it_says_so_when_nobody_does_and_while_it_is_disabled(
    orders: Connection, acme: House, reviewer: User, signed_in: SignedIn
) -> None:
    orders.enabled = False
    orders.save()
    assert "Nobody while it is disabled" in text_of(signed_in(acme.admin), f"{LIST}{orders.pk}/change/")
    lonely = acme.connection("Lonely")
    assert "No assignment may use one of its tools." in text_of(signed_in(acme.admin), f"{LIST}{lonely.pk}/change/")
    assert "Who uses it" not in text_of(signed_in(reviewer), f"{LIST}{orders.pk}/change/")


def test_before_a_connection_is_deleted_its_page_says_which_assignments_lose_which_tools(
    orders: Connection, acme: House, signed_in: SignedIn
) -> None:
    Call.objects.create(
        tenant=acme.tenant, connection=orders, assignment=Assignment.objects.get(name="Everything"),
        tool_name="orders__a", sealed_arguments="x",
    )  # fmt: skip
    client = signed_in(acme.admin)
    text = text_of(client, f"{LIST}{orders.pk}/delete/")
    assert "2 assignments lose tools: Everything" in text
    assert "Two of them admin@acme.example 2 tools: orders__a , orders__b" in text
    assert "1 call that waits or runs ends" in text
    assert "Elsewhere" not in text
    chosen = {"action": "delete_selected", "_selected_action": [str(orders.pk)]}
    asked = html.unescape(client.post(LIST, chosen).content.decode())
    assert "2 assignments lose tools" in asked
    assert acme.tenant.connections.filter(pk=orders.pk).exists()
    client.post(LIST, chosen | {"post": "yes"})
    assert not acme.tenant.connections.filter(pk=orders.pk).exists()


def test_before_an_assignment_is_deleted_its_page_says_what_ends(
    orders: Connection, acme: House, signed_in: SignedIn
) -> None:
    row = Assignment.objects.get(name="Everything")
    acme.token(row)
    client = signed_in(acme.admin)
    assert "1 token works no longer" in text_of(client, f"{ASSIGNMENTS}{row.pk}/delete/")
    chosen = {"action": "delete_selected", "_selected_action": [str(row.pk)]}
    assert "1 token works no longer" in client.post(ASSIGNMENTS, chosen).content.decode()
    client.post(f"{ASSIGNMENTS}{row.pk}/delete/", {"post": "yes"})
    assert not Assignment.objects.filter(name="Everything").exists()


def test_many_who_use_it_are_counted(acme: House, signed_in: SignedIn) -> None:
    orders = acme.connection()
    tool(orders, "a")
    for number in range(12):
        acme.assignment(f"Job {number:02}")
    text = text_of(signed_in(acme.admin), f"{LIST}{orders.pk}/delete/")
    assert "12 assignments lose tools" in text
    assert "and 2 more assignments" in text
