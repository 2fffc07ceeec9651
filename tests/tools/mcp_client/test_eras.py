"""Which servers the wire client recognizes, and as what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connections import egress
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tools import mcp_client
from tools.mcp_client import Era, Server


def at(server: McpServer, era: Era = "unknown", **more: Any) -> Server:
    return Server(key=server.url, url=server.url, era=era, **more)


@pytest.mark.parametrize("kind", ["modern", "dual", "json"])
async def test_a_server_that_knows_discover_is_modern_after_one_request(mcp_server: StartServer, kind: str) -> None:
    server = mcp_server(kind)
    facts = await mcp_client.discover(at(server))
    assert (facts.era, facts.protocol_version, facts.name) == ("modern", "2026-07-28", "toolbox")
    assert [request.rpc_method for request in server.requests] == ["server/discover"]


@pytest.mark.parametrize("kind", ["legacy", "legacy stateless", "legacy json"])
async def test_a_server_that_refuses_discover_is_legacy(mcp_server: StartServer, kind: str) -> None:
    server = mcp_server(kind)
    facts = await mcp_client.discover(at(server))
    assert (facts.era, facts.protocol_version, facts.name) == ("legacy", "2025-11-25", "toolbox")


@pytest.mark.parametrize(
    "refusal",
    [
        kinds.answers(404, b"Invalid session ID", content_type="text/plain"),
        kinds.answers(405),
        kinds.answers(406, b'{"detail":"no"}'),
        kinds.answers(202),
        kinds.answers(200, b"[]"),
        kinds.answers(200, b"<html>", content_type="text/html"),
        kinds.says(result={"unrelated": True}),
        kinds.says(error={"code": -32601, "message": "Method not found"}),
        kinds.says(result={"supportedVersions": ["2025-11-25"], "capabilities": {}}),
        kinds.says(error={"code": -32022, "message": "no", "data": {"supported": ["2025-06-18"]}}),
    ],
)
async def test_whatever_is_no_modern_answer_means_legacy(mcp_server: StartServer, refusal: Any) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, kinds.only_on("server/discover", refusal))
    assert (await mcp_client.discover(at(server))).era == "legacy"


async def test_a_modern_fault_is_never_taken_for_legacy(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.only_on("server/discover", kinds.says(error={"code": -32021, "message": "more"})))
    with pytest.raises(mcp_client.RpcError) as refusal:
        await mcp_client.discover(at(server))
    assert refusal.value.rpc_code == -32021
    assert server.count("initialize") == 0


async def test_a_server_that_refuses_a_version_it_supports_is_asked_once_more(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    refusal = kinds.says(error={"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}})
    server.behave(kinds.once(refusal))
    assert (await mcp_client.discover(at(server))).era == "modern"
    assert [request.rpc_method for request in server.requests] == ["server/discover"] * 2
    server.behave(refusal)
    with pytest.raises(mcp_client.UnsupportedVersion):
        await mcp_client.discover(at(server))
    assert len(server.requests) == 4


async def test_an_outage_is_never_taken_for_legacy(mcp_server: StartServer) -> None:
    server = mcp_server("down")
    with pytest.raises(mcp_client.ServerFailed) as outage:
        await mcp_client.discover(at(server))
    assert (outage.value.status, outage.value.retry_after) == (503, 7)
    assert server.count("initialize") == 1
    assert "secret" not in str(outage.value)


async def test_a_server_of_an_unknown_future_is_named_as_such(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(kinds.says(error={"code": -32022, "message": "no", "data": {"supported": ["2031-01-01"]}}))
    with pytest.raises(mcp_client.UnsupportedVersion):
        await mcp_client.discover(at(server))


async def test_the_old_transport_is_named_as_such(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.OldSseTransport, match=r"HTTP\+SSE"):
        await mcp_client.discover(at(mcp_server("old sse")))


async def test_a_web_page_is_not_taken_for_a_server(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.NotStreamableHttp):
        await mcp_client.discover(at(mcp_server("web page")))


async def test_a_wrong_path_is_not_taken_for_a_server(mcp_server: StartServer) -> None:
    server = at(mcp_server("dual"))
    with pytest.raises(mcp_client.NotStreamableHttp):
        await mcp_client.discover(replace(server, url=server.url + "/nowhere"))


async def test_a_redirect_is_not_followed(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.Redirected) as redirect:
        await mcp_client.discover(at(mcp_server("moved")))
    assert redirect.value.status == 307


async def test_bad_json_is_named_as_such(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.BadAnswer):
        await mcp_client.discover(at(mcp_server("bad json"), era="modern"))


@pytest.mark.parametrize(
    ("kind", "status", "word"), [("behind 401", 401, "resource_metadata"), ("forbidden", 403, "write")]
)
async def test_the_challenge_reaches_the_caller(mcp_server: StartServer, kind: str, status: int, word: str) -> None:
    server = mcp_server(kind)
    with pytest.raises(mcp_client.Challenged) as refusal:
        await mcp_client.discover(at(server))
    assert refusal.value.status == status
    assert word in (refusal.value.www_authenticate or "")
    assert "secret" not in str(refusal.value)
    assert server.count("initialize") == 1


async def test_a_busy_server_says_how_long_to_wait(mcp_server: StartServer) -> None:
    with pytest.raises(mcp_client.RateLimited) as refusal:
        await mcp_client.discover(at(mcp_server("busy")))
    assert refusal.value.retry_after == 3


@pytest.mark.parametrize("stored", ["modern", "legacy"])
async def test_a_pinned_era_that_stops_fitting_is_said_not_guessed(mcp_server: StartServer, stored: Era) -> None:
    server = mcp_server("dual")
    known = at(server, era=stored, pinned=True)
    assert (await mcp_client.call_tool(known, "echo", {"text": "before"})).content[0]["text"] == "before"
    server.expire_sessions()
    server.behave(kinds.expired_sessions, kinds.only_legacy if stored == "modern" else kinds.only_modern)
    with pytest.raises(mcp_client.EraChanged):
        await mcp_client.call_tool(known, "echo", {"text": "after"})
    facts = await mcp_client.discover(at(server))
    assert facts.era != stored
    renewed = at(server, era=facts.era)
    assert (await mcp_client.call_tool(renewed, "echo", {"text": "again"})).content[0]["text"] == "again"


async def test_a_forbidden_address_is_refused_before_anything_is_sent(mcp_server: StartServer, settings: Any) -> None:
    server = mcp_server("dual")
    settings.EGRESS_ALLOWED_NETWORKS = []
    with pytest.raises(egress.Refused):
        await mcp_client.discover(at(server))
    assert server.requests == []


async def test_a_closed_port_is_unreachable(mcp_server: StartServer, unused_tcp_port: int) -> None:
    server = replace(at(mcp_server("dual")), url=f"http://127.0.0.1:{unused_tcp_port}/mcp")
    with pytest.raises(egress.Unreachable) as failure:
        await mcp_client.call_tool(server, "echo", {"text": "x"})
    assert not failure.value.sent
