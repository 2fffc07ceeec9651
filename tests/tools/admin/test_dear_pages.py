"""Pages of definitions and calls that were made to be dear: they stay little work, and say what they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, User
from tests.conftest import House
from tests.servers.toolbox import Toolbox
from tests.tools.conftest import OpenShop, Shop
from tools.models import Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
BRACKETS = "[" * 60_000


def tool_of(connection: Connection, name: str, seen: Any, approved: Any = None) -> Tool:
    return Tool.objects.create(
        connection=connection, name=name, public_name=f"orders__{name}", definition=seen, digest="new",
        approved_definition=approved, approved_digest="old" if approved else "",
        approved_at=timezone.now() if approved else None, approved_by="ann" if approved else "",
    )  # fmt: skip


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


def test_the_pages_of_a_tool_whose_text_is_all_brackets_are_shown(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    deep = {"name": "ship", "description": BRACKETS, "inputSchema": {"default": nested(240, "x")}}
    tool = tool_of(connection, "ship", deep, {"name": "ship", "description": "Ships."})
    client = signed_in(acme.admin)
    page = client.get(f"/admin/tools/tool/{tool.pk}/change/")
    assert page.status_code == 200
    assert "What changed since the approval" in page.content.decode()
    chosen: dict[str, Any] = {"action": "approve_chosen", "_selected_action": [tool.pk]}
    assert client.post("/admin/tools/tool/", chosen).status_code == 200
    assert client.get("/admin/tools/tool/").status_code == 200
    assert client.get(f"/admin/connections/connection/{connection.pk}/change/").status_code == 200


def test_a_page_of_differences_shows_as_many_tools_as_it_can_hold(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    tools = [tool_of(connection, f"t{n:02}", {"name": f"t{n}", "description": "x" * 60_000}) for n in range(40)]
    chosen: dict[str, Any] = {"action": "approve_chosen", "_selected_action": [tool.pk for tool in tools]}
    page = signed_in(acme.admin).post("/admin/tools/tool/", chosen).content.decode()
    assert "These are the first 4 of 40." in page
    assert page.count('name="digest_') == 4


def test_a_long_argument_is_shown_as_what_it_is_the_beginning_and_can_be_had_whole(
    shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    shop.set_tool("echo", policy="ask")
    words = "word " * 200_000
    shop.call("echo", {"text": words}, headers={"Prefer": "wait=0"})
    client, page = signed_in(acme.admin), f"/admin/tools/call/{shop.row.pk}"
    shown = client.get(f"{page}/change/").content.decode()
    assert "only the beginning of the arguments" in shown
    assert len(shown) < 500_000
    whole = client.get(f"{page}/whole/")
    assert json.loads(whole.content) == {"arguments": {"text": words}, "result": None}
    assert whole["Content-Disposition"].startswith("attachment")


def test_arguments_that_would_unfold_into_megabytes_of_indentation_are_bounded(
    open_shop: OpenShop, acme: House, signed_in: SignedIn
) -> None:
    box = Toolbox()
    box.add("echo", input_schema={"type": "object"})
    shop = open_shop(box)
    shop.set_tool("echo", policy="ask")
    answer = shop.call("echo", {"deep": nested(200, [1] * 500_000)}, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202, answer.text
    page = signed_in(acme.admin).get(f"/admin/tools/call/{shop.row.pk}/change/")
    assert len(page.content) < 500_000


def test_a_tool_whose_schema_names_the_largest_number_is_shown_and_called(open_shop: OpenShop) -> None:
    box = Toolbox()
    box.add("echo", input_schema={"type": "object", "properties": {"n": {"type": "number", "maximum": 1e308}}})
    shop = open_shop(box)
    assert shop.call("echo", {"n": 1}).status_code == 200
    shown = shop.api.get("/v1/tools").json()["results"][0]["input_schema"]["properties"]["n"]["maximum"]
    assert float(shown) == 1e308  # the database writes it out, with 309 digits


def test_a_result_of_a_hundred_thousand_parts_is_a_page(open_shop: OpenShop, acme: House, signed_in: SignedIn) -> None:
    async def crumbs(_: dict[str, Any], __: Any) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "x"}] * 20_000}

    box = Toolbox()
    box.add("crumbs", crumbs)
    shop = open_shop(box)
    assert shop.call("crumbs", {"text": ""}).status_code == 200
    page = signed_in(acme.admin).get(f"/admin/tools/call/{shop.row.pk}/contents/").content.decode()
    assert "19800 further parts" in page
    assert "Download all of it" in page
    assert page.count('class="block"') == 201


def test_the_page_of_an_assignment_offers_what_a_page_can_hold(acme: House, signed_in: SignedIn) -> None:
    connection, assignment = acme.connection(), acme.assignment()
    Tool.objects.bulk_create(
        Tool(connection=connection, name=f"t{n:04}", public_name=f"orders__t{n:04}", definition={}, digest="a")
        for n in range(1_100)
    )
    assignment.tools.set([Tool.objects.get(name="t1099")])
    client, address = signed_in(acme.admin), f"/admin/tools/assignment/{assignment.pk}/change/"
    page = client.get(address).content.decode()
    assert page.count('name="tools"') == 251
    assert "orders__t1099" in page
    assert page.count("<label>Orders</label>") == 1, "those of a connection stand together"
    assert "The first 250 of 1,100 tools" in page
    assert len(page) < 100_000


def test_what_a_page_cannot_offer_is_chosen_by_its_name(acme: House, rival: House, signed_in: SignedIn) -> None:
    for name, connection in (("acme", acme.connection()), ("rival", rival.connection())):
        Tool.objects.bulk_create(
            Tool(connection=connection, name=f"t{n}", public_name=f"{name}__t{n:03}", definition={}, digest="a")
            for n in range(300)
        )
    assignment = acme.assignment(scope="chosen")
    client, address = signed_in(acme.admin), f"/admin/tools/assignment/{assignment.pk}/change/"
    sent = {
        "name": assignment.name, "enabled": "on", "scope": "chosen", "owner": acme.membership(acme.admin).pk,
        "tools": [Tool.objects.get(public_name="acme__t007").pk],
    }  # fmt: skip
    refused = client.post(address, sent | {"more_tools": "acme__t299\nrival__t299 acme__nothing"}).content.decode()
    assert "There is no tool “acme__nothing” and 1 more." in refused
    assert not assignment.tools.exists()
    assert client.post(address, sent | {"more_tools": " acme__t298\r\nacme__t299\n"}).status_code == 302
    chosen = ["acme__t007", "acme__t298", "acme__t299"]
    assert list(assignment.tools.values_list("public_name", flat=True)) == chosen
    event = AuditEvent.objects.get(action="assignment.changed")
    assert (event.data["fields"], event.data["changes"]) == (
        ["tools"], {"tools": {"added": chosen, "removed": []}},
    )  # fmt: skip
