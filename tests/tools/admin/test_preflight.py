"""The page of an assignment says how many of its tools are ready, what keeps the others from it, and where to go."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Connection, Credential, User
from tests.conftest import House
from tools.assigning import preflight
from tools.models import Assignment, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
WELL = {"reachability_state": "reachable", "tools_state": "in_sync", "credential_state": "ready"}


def tools(connection: Connection, *names: str, **more: Any) -> None:
    for name in names:
        known = {"digest": "1", "approved_digest": "1", "approved_definition": {}, "approved_at": timezone.now()}
        Tool.objects.create(
            connection=connection, name=name, public_name=f"{connection.slug}__{name}", definition={}, **(known | more)
        )


def card(client: Client, row: Assignment) -> str:
    page = html.unescape(client.get(f"/admin/tools/assignment/{row.pk}/change/").content.decode())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition('id="preflight"')[2].partition("</section>")[0]))


def test_when_all_is_ready_it_says_so_and_how_many_ask(acme: House, signed_in: SignedIn) -> None:
    orders = acme.connection(**WELL)
    tools(orders, "a", "b")
    tools(orders, "pay", policy="ask")
    tools(orders, "gone", gone_at=timezone.now())
    text = card(signed_in(acme.admin), acme.assignment())
    assert "3 of 3 tools are ready" in text
    assert "1 of them waits for an admin's approval at each call." in text
    assert "not ready" not in text


def test_each_connection_that_keeps_tools_from_it_is_named_with_the_reason(acme: House, signed_in: SignedIn) -> None:
    tools(acme.connection("Fine", **WELL), "a")
    changed = acme.connection("Changed", **WELL)
    tools(changed, "b")
    tools(changed, "c", approved_digest="old")
    tools(changed, "d", policy="deny")
    tools(acme.connection("Off", enabled=False, **WELL), "e")
    away = {"reachability_state": "unreachable", "reachability_sentence": "Nobody answers at mcp.example.com."}
    tools(acme.connection("Away", **WELL | away), "f")
    died = {"authorization": "oauth", "credential_state": "needs_sign_in", "credential_sentence": "The sign-in ended."}
    tools(acme.connection("Ended", **WELL | died), "g", "h")
    page = card(signed_in(acme.auditor), acme.assignment())
    assert "2 of 8 tools are ready" in page
    for line in (
        "Changed 2 tools not ready 1 waits for a review, 1 is denied.",
        "Off 1 tool not ready The connection is disabled.",
        "Away 1 tool not ready Nobody answers at mcp.example.com.", "Ended 2 tools not ready The sign-in ended.",
    ):  # fmt: skip
        assert line in page, line
    assert "Fine" not in page


def test_at_a_personal_connection_its_owner_is_named_and_led_to_connect(acme: House, signed_in: SignedIn) -> None:
    own = acme.connection("Own", **WELL, authorization="api_key", sharing="personal")
    tools(own, "a")
    row = acme.assignment()
    assert "admin@acme.example has to connect. Connect" in card(signed_in(acme.admin), row)
    assert "Connect" not in card(signed_in(acme.auditor), row).partition("has to connect.")[2]
    Credential(connection=own, owner=acme.admin, kind="api_key").set("k", by=acme.admin)
    assert "1 of 1 tool is ready" in card(signed_in(acme.admin), row)
    Connection.objects.update(server_url="https://moved.example.com/mcp")
    assert "admin@acme.example has to connect. Connect" in card(signed_in(acme.admin), row), "it is of another server"
    Assignment.objects.update(owner=None)
    assert "It has no owner who may act" in card(signed_in(acme.admin), row)


def test_without_tools_it_says_what_is_missing(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    assert "There is no connection with tools yet." in card(client, acme.assignment("All"))
    assert "No tool is chosen for it" in card(client, acme.assignment("Some", scope="chosen"))
    assert "It is disabled" in card(client, acme.assignment("Off", enabled=False))


def test_it_asks_as_little_of_many_connections_as_of_one(acme: House, django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        tools(acme.connection(f"Server {number}", **WELL, authorization="api_key", sharing="personal"), "a", "b")
    with django_assert_max_num_queries(6):
        found = preflight.of(acme.assignment())
    assert (found.total, found.ready, len(found.lacks)) == (40, 0, 20)
