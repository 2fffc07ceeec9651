"""Where a listing ends, with servers that write the last cursor in their own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from connections.models import Connection
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import only_on, respond, says
from tests.servers.running import Incoming, McpServer, Receive, Send
from tools import mcp_client
from tools.mcp_client import Era, Server
from tools.models import Probe

Next = Callable[[Any, int], tuple[list[str], Any]]


def pages(answer: Next) -> Any:
    """Return a rule that lists the names, and gives the next cursor, that `answer` says for a cursor and a turn."""
    turns: list[Any] = []

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        cursor = request.message.get("params", {}).get("cursor")
        turns.append(cursor)
        names, following = answer(cursor, len(turns))
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        result = {"resultType": "complete", "tools": tools, "nextCursor": following}
        return await respond(send, 200, json.dumps({"jsonrpc": "2.0", "id": request.rpc_id, "result": result}).encode())

    return only_on("tools/list", rule), turns


ENDINGS: list[tuple[str, Era, Next, list[str], int]] = [
    ("an empty cursor on the only page", "legacy", lambda _, __: (["a"], ""), ["a"], 1),
    ("an empty cursor on the last page", "legacy",
     lambda cursor, _: (["b"], "") if cursor else (["a"], "2"), ["a", "b"], 2),
    ("null on the last page", "legacy", lambda cursor, _: (["b"], None) if cursor else (["a"], "2"), ["a", "b"], 2),
    ("a number on the last page", "legacy", lambda cursor, _: (["b"], 0) if cursor else (["a"], "2"), ["a", "b"], 2),
    ("an empty cursor that leads on, as it may today", "modern",
     lambda cursor, _: (["a"], "") if cursor is None else (["b"], None), ["a", "b"], 2),
    ("an empty cursor that leads back to the first page", "modern", lambda _, __: (["a"], ""), ["a"], 2),
    ("a cursor of the last page that is its own", "legacy",
     lambda cursor, _: (["b"], "2") if cursor else (["a"], "2"), ["a", "b"], 3),
    ("a cursor that is not looked at", "modern", lambda _, __: (["a", "b"], "next"), ["a", "b"], 2),
    ("a last page that is empty and says to go on", "modern",
     lambda cursor, _: ([], "2") if cursor else (["a"], "2"), ["a"], 2),
    ("a number that leads on", "legacy",
     lambda cursor, _: {None: (["a"], 50), 50: (["b"], 100), 100: (["c"], None)}[cursor], ["a", "b", "c"], 3),
    ("a number that leads on, in the modern era", "modern",
     lambda cursor, _: (["a"], 2) if cursor is None else (["b"], 0), ["a", "b"], 2),
    ("a decimal that leads on", "legacy",
     lambda cursor, _: (["b"], 0.0) if cursor == 50 else (["a"], 50.0), ["a", "b"], 2),
    ("a number that is its own", "legacy", lambda _, __: (["a"], 1), ["a"], 2),
    ("false on the last page", "legacy", lambda cursor, _: (["b"], False) if cursor else (["a"], "2"), ["a", "b"], 2),
    ("cursors that go round", "legacy",
     lambda cursor, _: {None: (["a"], "2"), "2": (["b"], "3"), "3": (["c"], "2")}[cursor], ["a", "b", "c"], 4),
    ("one cursor for a session that counts by itself", "legacy",
     lambda _, turn: (["abcd"[turn - 1]], "more" if turn < 4 else None), ["a", "b", "c", "d"], 4),
]  # fmt: skip


@pytest.mark.parametrize(("era", "answer", "names", "asked"), [pytest.param(*rest, id=what) for what, *rest in ENDINGS])
async def test_a_listing_ends_where_nothing_new_comes_and_holds_every_tool(
    mcp_server: StartServer, era: Era, answer: Next, names: list[str], asked: int
) -> None:
    server = mcp_server("dual")
    rule, turns = pages(answer)
    server.behave(rule)
    listing = await mcp_client.list_tools(Server(key=server.url, url=server.url, era=era))
    assert ([tool.name for tool in listing.tools], listing.set_aside) == (names, [])
    assert len(turns) == asked, turns


@pytest.mark.parametrize("cursor", [True, {"page": 2}, ["2"], 1.5, 10**30])
async def test_a_cursor_that_cannot_be_sent_back_is_told(mcp_server: StartServer, cursor: Any) -> None:
    server = mcp_server("dual")
    server.behave(pages(lambda _, __: (["a"], cursor))[0])
    with pytest.raises(mcp_client.BadAnswer, match="cursor to the next page"):
        await mcp_client.list_tools(Server(key=server.url, url=server.url, era="legacy"))


TOOL = {"name": "a", "inputSchema": {"type": "object"}}


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"tools": None}, []),
        ({"tools": {}}, []),
        ({}, []),
        ({"tools": {"0": TOOL, "2": TOOL | {"name": "b"}}}, ["a", "b"]),
        ({"tools": TOOL}, ["a"]),
        ({"tools": [TOOL], "nextCursor": []}, ["a"]),
        ({"tools": [TOOL], "nextCursor": {}}, ["a"]),
        ({"tools": {"10": TOOL | {"name": "b"}, "9": TOOL}}, ["a", "b"]),
    ],
)
async def test_a_list_that_go_or_php_writes_otherwise_is_read(
    mcp_server: StartServer, members: dict[str, Any], names: list[str]
) -> None:
    server = mcp_server("dual")
    server.behave(only_on("tools/list", says(result={"resultType": "complete", **members})))
    listing = await mcp_client.list_tools(Server(key=server.url, url=server.url, era="modern"))
    assert ([tool.name for tool in listing.tools], listing.set_aside) == (names, [])


@pytest.mark.parametrize(
    ("tools", "seen"), [(5, "a number"), ("a", "text"), ({"a": TOOL}, "an object"), (False, "true or false")]
)
async def test_a_list_that_is_none_is_told_as_what_it_is(mcp_server: StartServer, tools: Any, seen: str) -> None:
    server = mcp_server("dual")
    server.behave(only_on("tools/list", says(result={"tools": tools})))
    with pytest.raises(mcp_client.BadAnswer, match=f"is no list: it is {seen}"):
        await mcp_client.list_tools(Server(key=server.url, url=server.url, era="modern"))


def test_a_server_without_tools_is_told_as_that(
    acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe]
) -> None:
    server = mcp_server("dual")
    server.behave(only_on("tools/list", says(error={"code": -32601, "message": "Method not found"})))
    connection = acme.connection(url=server.url)
    report = probed(connection)
    assert (report.reason, connection.tools_state, connection.tools_reason) == ("no_tools", "failed", "no_tools")
    assert "offers no tools" in connection.tools_sentence
    assert "right address" in connection.next_step


async def test_a_listing_whose_cursors_always_lead_on_is_refused(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    rule, turns = pages(lambda _, turn: (["a"], str(turn)))
    server.behave(rule)
    with pytest.raises(mcp_client.ListingNeverEnds):
        await mcp_client.list_tools(Server(key=server.url, url=server.url, era="legacy"))
    assert len(turns) == 200


async def test_a_listing_that_always_brings_another_tool_is_refused(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    rule, turns = pages(lambda _, turn: ([f"t{turn}"], "more"))
    server.behave(rule)
    with pytest.raises(mcp_client.ListingNeverEnds):
        await mcp_client.list_tools(Server(key=server.url, url=server.url, era="modern"))
    assert len(turns) == 200
