"""Tools that cannot be used are counted where a person looks, and the page leads to each reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections.models import Connection, User
from tests.conftest import House
from tests.live import Api
from tests.servers.fixtures import StartServer
from tests.servers.kinds import only_on, says
from tests.servers.toolbox import furnished
from tools.models import Probe

pytestmark = pytest.mark.django_db

Probed = Callable[[Connection], Probe]
SignedIn = Callable[[User | None], Client]


def test_the_status_counts_what_is_set_aside_and_the_page_leads_there(
    acme: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn
) -> None:
    server = mcp_server("broken schema")
    connection = acme.connection("Orders", server.url)
    assert "4 set aside because they cannot be used" in probed(connection).stages[-1]["sentence"]
    connection.refresh_from_db()
    assert (connection.tools_state, connection.tools_reason) == ("in_sync", "tools_set_aside")
    assert connection.tools_sentence == "Set aside because they cannot be used: 4 of 11 tools."
    assert connection.next_step.startswith("Open Tools: each tool that cannot be used says why")

    browser = signed_in(acme.admin)
    counted = browser.get("/admin/connections/connection/").content.decode()
    assert re.search(r'7 in use</a>, <a href="/admin/tools/tool/\?[^"]+availability=broken">4 set aside</a>', counted)
    page = browser.get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert "Set aside because they cannot be used: 4 of 11 tools." in page
    assert "Set aside: inputSchema: The schema is invalid" in page
    (link,) = re.findall(r'href="([^"]+)">Set aside because they cannot be used: 4</a>', page)
    listed = browser.get(link.replace("&amp;", "&")).content.decode()
    assert "orders__broken" in listed
    assert "Set aside: inputSchema: The schema is invalid" in listed
    assert "orders__echo" not in listed
    live = browser.get(f"/admin/tools/probe/report/{connection.pk}/").json()["tools"]
    assert (live["set_aside"], live["set_aside_url"]) == (4, link.replace("&amp;", "&"))


def test_what_waits_for_review_and_what_is_set_aside_are_both_told(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("broken schema")
    connection = acme.connection(url=server.url)
    probed(connection)
    server.toolbox.add("fresh")
    probed(connection)
    connection.refresh_from_db()
    assert (connection.tools_state, connection.tools_reason) == ("changes_to_review", "tools_to_review")
    sentence = "1 tool waits for review. Set aside because they cannot be used: 4 of 12 tools."
    assert connection.tools_sentence == sentence


def test_a_server_without_such_tools_is_in_sync_and_nothing_more_is_said(
    acme: House, mcp_server: StartServer, probed: Probed, signed_in: SignedIn
) -> None:
    connection = acme.connection(url=mcp_server("modern").url)
    probed(connection)
    connection.refresh_from_db()
    assert (connection.tools_reason, connection.tools_sentence, connection.next_step) == ("", "", "")
    page = signed_in(acme.admin).get(f"/admin/connections/connection/{connection.pk}/change/")
    assert 'data-part="set-aside" hidden' in page.content.decode()


def test_tools_that_are_mended_or_gone_are_counted_no_more(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("broken schema")
    connection = acme.connection(url=server.url)
    probed(connection)
    for name in ("broken", "remote", "x" * 200):
        server.toolbox.remove(name)
    server.toolbox.change("headers", inputSchema={"type": "object"})
    probed(connection)
    connection.refresh_from_db()
    assert connection.tools_sentence == "1 tool waits for review.", "it was never approved"


BROKEN: dict[str, list[dict[str, Any]]] = {
    "a type that is none": [{"name": "a", "inputSchema": {"type": "object", "properties": {"b": {"type": "strin"}}}}],
    "a schema that leads elsewhere": [{"name": "a", "inputSchema": {"type": "object", "$ref": "https://x.example/s"}}],
    "a name that is too long": [{"name": "x" * 200, "inputSchema": {"type": "object"}}],
    "several of them": [
        {"name": "a", "inputSchema": {"type": "object", "properties": {"b": {"type": 7}}}},
        {"name": "y" * 200, "inputSchema": {"type": "object"}},
    ],
}


@pytest.mark.parametrize("tools", BROKEN.values(), ids=BROKEN.keys())
def test_a_connection_without_a_tool_that_can_be_used_is_not_just_connected(
    acme: House, api: Api, mcp_server: StartServer, probed: Probed, signed_in: SignedIn, tools: list[dict[str, Any]]
) -> None:
    server = mcp_server("modern")
    server.rules.append(only_on("tools/list", says({"resultType": "complete", "tools": tools})))
    connection = acme.connection("Orders", server.url)
    assert probed(connection).outcome == "passed"
    count = len(tools)
    assert (connection.headline, connection.tools_state, connection.tools_reason) == (
        "action_required", "set_aside", "all_set_aside",
    )  # fmt: skip
    assert connection.tools_sentence == f"Set aside because they cannot be used: {count} of {count} tools."
    assert connection.next_step.startswith("Open Tools: each tool says why it cannot be used")
    shown = api.as_(acme.member_token(acme.admin)).get(f"/v1/connections/{connection.pk}").json()
    assert (shown["status"], shown["tools"]["reason"]) == ("action_required", "all_set_aside")
    browser = signed_in(acme.admin)
    assert connection.tools_sentence in browser.get("/admin/").content.decode()
    page = browser.get(f"/admin/connections/connection/{connection.pk}/change/").content.decode()
    assert f">Set aside because they cannot be used: {count}</a>" in page
    server.rules.pop()
    probed(connection)
    assert connection.tools_state == "changes_to_review", "the tools that came since wait for a person"


PHP: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "inputSchema": {
        "$schema": "https://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"city": {"type": "string", "pattern": "[^]"}, "days": {"type": "integer"}, "more": []},
        "required": {"0": "city"},
        "$defs": [],
    },
    "outputSchema": {"$ref": "https://attacker.example/schema.json"},
    "annotations": {"readOnlyHint": "yes"},
    "icons": {},
    "_meta": [],
}


def test_a_tool_with_odd_members_is_called_and_its_arguments_are_checked(
    acme: House, api: Api, mcp_server: StartServer, probed: Probed, signed_in: SignedIn
) -> None:
    box = furnished()
    box.add("weather")
    server = mcp_server("modern", box)
    tools = [PHP, {"name": "odd", "inputSchema": []}]
    server.rules.append(only_on("tools/list", says({"resultType": "complete", "tools": tools})))
    connection = acme.connection("Orders", server.url)
    assert probed(connection).outcome == "passed"
    api = api.as_(acme.token())

    assert api.call("orders__weather", {"city": "Graz", "more": 1}).status_code == 200
    refusal = api.call("orders__weather", {"days": "two"})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "arguments_invalid")
    assert {fault["pointer"] for fault in refusal.json()["errors"]} == {"/arguments", "/arguments/days"}
    shown = api.get("/v1/tools/orders__weather").json()
    assert (shown["annotations"], shown["output_schema"]) == ({}, None)
    assert shown["input_schema"]["required"] == ["city"]

    pages = {
        tool.name: signed_in(acme.admin).get(f"/admin/tools/tool/{tool.pk}/change/").content.decode()
        for tool in connection.tools.all()
    }
    assert "Arguments are not checked here against this pattern, which we cannot read." in pages["weather"]
    assert '<code class="breakable">[^]</code>' in pages["weather"]
    assert "not checked here" not in pages["odd"]
