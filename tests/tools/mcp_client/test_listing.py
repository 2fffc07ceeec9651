"""Listing tools: every page, and broken tools set aside one by one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tests.servers.toolbox import Toolbox
from tools import mcp_client
from tools.mcp_client import Era, Server
from tools.mcp_client.listing import fault_of, sort_out


def at(server: McpServer, era: Era = "modern", **more: Any) -> Server:
    return Server(key=server.url, url=server.url, era=era, **more)


@pytest.mark.parametrize("era", ["modern", "legacy", "unknown"])
async def test_a_listing_holds_every_tool_and_who_offers_them(mcp_server: StartServer, era: Era) -> None:
    server = mcp_server("dual")
    listing = await mcp_client.list_tools(at(server, era))
    assert {tool.name for tool in listing.tools} == set(server.toolbox.definitions)
    assert listing.set_aside == []
    assert listing.facts.era == ("legacy" if era == "legacy" else "modern")
    assert listing.facts.name == "toolbox"


async def test_five_thousand_tools_come_over_pages(mcp_server: StartServer) -> None:
    server = mcp_server("many tools")
    listing = await mcp_client.list_tools(at(server))
    assert (len(listing.tools), listing.pages) == (5000, 20)
    assert server.count("tools/list") == 20


async def test_only_the_broken_tools_are_set_aside_each_with_its_reason(mcp_server: StartServer) -> None:
    listing = await mcp_client.list_tools(at(mcp_server("broken schema")))
    assert "echo" in {tool.name for tool in listing.tools}
    reasons = {tool.name: tool.reason for tool in listing.set_aside}
    assert set(reasons) == {"broken", "remote", "x" * 128, "headers"}
    assert reasons["broken"].startswith("inputSchema: The schema is invalid")
    assert "attacker.example" in reasons["remote"]
    assert all(tool.definition["inputSchema"]["type"] == "object" for tool in listing.set_aside)


async def test_unknown_members_of_a_definition_are_kept(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    tool = {"name": "t", "inputSchema": {"type": "object"}, "x-price": {"eur": 1}, "_meta": {"a/b": 1}}
    server.behave(kinds.says(result={"tools": [tool], "ttlMs": 60_000}))
    listing = await mcp_client.list_tools(at(server))
    assert listing.tools[0].definition == tool
    assert listing.ttl_ms == 60_000


async def test_a_listing_follows_the_changes_of_a_server(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.toolbox.add("newcomer")
    server.toolbox.change("echo", description="Says it back.")
    server.toolbox.remove("fail")
    tools = {tool.name: tool.definition for tool in (await mcp_client.list_tools(at(server))).tools}
    assert "newcomer" in tools
    assert tools["echo"]["description"] == "Says it back."
    assert "fail" not in tools


async def test_a_cursor_that_repeats_ends_the_listing(mcp_server: StartServer) -> None:
    box = Toolbox(page_size=1)
    box.output_cursor = "0"
    box.add("echo")
    server = mcp_server("dual", box)
    listing = await mcp_client.list_tools(at(server))
    assert ([tool.name for tool in listing.tools], listing.set_aside) == (["echo"], [])
    assert server.count("tools/list") == 2


async def test_too_many_tools_are_refused(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    tools = [{"name": f"t{number}", "inputSchema": {}} for number in range(5_001)]
    server.behave(kinds.says(result={"tools": tools}))
    with pytest.raises(mcp_client.ListingTooLarge):
        await mcp_client.list_tools(at(server))


@pytest.mark.parametrize("result", [{"tools": 5}, {"tools": "none"}, {"tools": {"a": {}}}])
async def test_a_listing_without_a_list_is_an_error_not_an_empty_list(mcp_server: StartServer, result: Any) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(result=result))
    with pytest.raises(mcp_client.BadAnswer):
        await mcp_client.list_tools(at(server))


async def test_a_server_without_the_method_is_an_error_not_an_empty_list(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(error={"code": -32601, "message": "Method not found"}))
    with pytest.raises(mcp_client.RpcError):
        await mcp_client.list_tools(at(server))


GOOD: dict[str, Any] = {"name": "t", "inputSchema": {"type": "object"}}


@pytest.mark.parametrize(
    "definition",
    [
        None,
        "tool",
        {},
        {**GOOD, "name": ""},
        {**GOOD, "name": 5},
        {**GOOD, "name": "x" * 129},
        {**GOOD, "name": "line\nbreak"},
        {"name": "t"},
        {**GOOD, "inputSchema": ["a"]},
        {**GOOD, "inputSchema": {"type": "string"}},
        {**GOOD, "inputSchema": {"type": "object", "properties": 5}},
        {**GOOD, "inputSchema": {"description": "x" * 300_000}},
        {**GOOD, "description": 5},
    ],
)
def test_a_broken_definition_has_a_short_reason(definition: Any) -> None:
    assert 5 < len(fault_of(definition, modern=True)) < 600


@pytest.mark.parametrize(
    "definition",
    [GOOD, {**GOOD, "inputSchema": {}}, {**GOOD, "name": "orders/find.v2 ä"}, {**GOOD, "annotations": None, "x": 1}],
)
def test_a_usable_definition_has_no_fault(definition: Any) -> None:
    assert fault_of(definition, modern=True) == ""


def test_the_second_tool_of_a_name_is_set_aside() -> None:
    good, broken = sort_out([GOOD, {**GOOD, "description": "another"}, {"no": "name"}], modern=True)
    assert [tool.definition for tool in good] == [GOOD]
    assert [tool.name for tool in broken] == ["t", "#3"]


def test_header_annotations_are_only_judged_where_they_mean_something() -> None:
    annotated = {**GOOD, "inputSchema": {"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}}
    assert fault_of(annotated, modern=True)
    assert not fault_of(annotated, modern=False)
