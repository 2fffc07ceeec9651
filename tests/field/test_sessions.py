"""A lost session is opened again once, whatever status says so; its cookies are its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.servers import kinds
from tests.servers.field import old_ways
from tests.servers.field.answers import raw
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer, Rule
from tools import mcp_client
from tools.mcp_client import Server
from tools.mcp_client.cookies import LONGEST, MOST, Cookies

OURS = '{"code": -32602, "message": "no such city"}'


def at(server: McpServer, **more: Any) -> Server:
    return Server(key=server.url, url=server.url, era="legacy", **more)


async def echo(server: Server) -> str:
    outcome = await mcp_client.call_tool(server, "echo", {"text": "x"})
    return str(outcome.content[0]["text"])


@pytest.mark.parametrize(
    "lost",
    [
        kinds.answers(400, old_ways.LOST),
        kinds.answers(400, b"Invalid or missing session ID", content_type="text/plain"),
        kinds.answers(401),
        kinds.answers(403, b"session belongs to another instance", content_type="text/plain"),
        kinds.answers(410),
        kinds.answers(412),
    ],
)
async def test_a_lost_session_is_opened_again_and_the_call_runs_once(mcp_server: StartServer, lost: Rule) -> None:
    server = mcp_server("legacy")
    assert await echo(at(server)) == "x"
    server.rules.insert(0, old_ways.loses_sessions(lost))
    server.expire_sessions()
    assert await echo(at(server)) == "x"
    assert server.executions("echo") == 2
    assert server.count("initialize") == 3, "with the one that was opened to see whether the credential is good"


async def test_a_session_that_is_gone_is_opened_again_without_a_further_question(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    assert await echo(at(server)) == "x"
    server.expire_sessions()
    assert await echo(at(server)) == "x"
    assert (server.count("initialize"), server.count("ping"), server.executions("echo")) == (2, 0, 2)


def ours(code: int, message: str, status: int = 200) -> Rule:
    body = f'{{"jsonrpc":"2.0","id":ID,"error":{{"code":{code},"message":"{message}"}}}}'
    return raw(body, status=status)


IN_WORDS: dict[str, Rule] = {
    "200, not initialized": ours(-32002, "Server not initialized"),
    "200, before": ours(-32602, "Received request before initialization was complete"),
    "200, first": ours(-32600, "Client must send `initialize` first"),
    "200, not found": ours(-32001, "Session not found"),
    "200, another code": ours(-32005, "Session not found or expired"),
    "200, a code of the server": ours(-32000, "Server has not been initialized"),
    "400, params": ours(-32602, "Invalid session ID", 400),
    "400, internal": ours(-32603, "Session terminated", 400),
    "409": kinds.answers(409, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Session expired"}}'),
    "422": kinds.answers(422, b'{"error":"Unprocessable Entity: session expired"}'),
    "500": kinds.answers(500, b'{"error":"Session not found"}'),
    "500, ours": ours(-32603, "No valid session ID provided", 500),
    "200, in Chinese": ours(-32000, "会话已过期"),
    "200, in Spanish": ours(-32000, "La sesión ha caducado"),
    "200, no transport": ours(-32000, "Bad Request: No transport found for this id"),
    "200, a framework's words": raw('{"message":"Session expired"}'),
    "200, an event of an error": raw("event: error\ndata: Session not found\n\n", kind="text/event-stream"),
    "500 in German": kinds.answers(500, b'{"message":"Sitzung abgelaufen"}'),
    "503 in text": kinds.answers(503, b"Unknown session", content_type="text/plain"),
}


@pytest.mark.parametrize("lost", IN_WORDS.values(), ids=IN_WORDS.keys())
async def test_a_session_that_is_lost_in_words_is_opened_again(mcp_server: StartServer, lost: Rule) -> None:
    server = mcp_server("legacy")
    assert await echo(at(server)) == "x"
    server.rules.insert(0, old_ways.loses_sessions(lost))
    server.expire_sessions()
    assert await echo(at(server)) == "x"
    assert await echo(at(server)) == "x"
    assert (server.executions("echo"), server.count("initialize")) == (3, 3)


WITHOUT_A_WORD: dict[str, Rule] = {
    "a crash": kinds.answers(500, b'{"error":"Cannot read properties of undefined (reading handleRequest)"}'),
    "an empty crash": kinds.answers(500),
    "a page": kinds.answers(200, b"<html>Welcome back</html>", content_type="text/html"),
    "nothing": kinds.answers(200),
    "a notice taken": kinds.answers(202),
    "a way to a login": kinds.answers(302, location="/login"),
    "a code of the server": ours(-32000, "Connection closed"),
    "another code of the server": ours(-32050, "Unknown client"),
}


@pytest.mark.parametrize("lost", WITHOUT_A_WORD.values(), ids=WITHOUT_A_WORD.keys())
async def test_a_session_that_is_lost_without_a_word_is_opened_for_the_next_call(
    mcp_server: StartServer, lost: Rule
) -> None:
    server = mcp_server("legacy")
    assert await echo(at(server)) == "x"
    server.rules.insert(0, old_ways.loses_sessions(lost))
    server.expire_sessions()
    with pytest.raises(mcp_client.McpError):
        await echo(at(server))
    assert server.executions("echo") == 1, "it may have run, and is not made again"
    assert await echo(at(server)) == "x"
    assert server.executions("echo") == 2


@pytest.mark.parametrize("odd", [WITHOUT_A_WORD[name] for name in ("a crash", "nothing", "a code of the server")])
async def test_a_call_that_fails_oddly_loses_no_session_that_is_there(mcp_server: StartServer, odd: Rule) -> None:
    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", odd))
    with pytest.raises(mcp_client.McpError):
        await echo(at(server))
    del server.rules[0]
    await echo(at(server))
    assert server.requests[-1].headers["mcp-session-id"] == server.sessions[0]
    assert (server.count("ping"), server.count("initialize")) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        ours(-32602, "There is no yoga session at 5"),
        ours(-32603, "The session of parliament is over", 400),
        kinds.answers(500, b'{"error":"No session of that name"}'),
        kinds.answers(502, b'{"error":"Session not found"}'),
    ],
    ids=["200", "400", "500", "502 of a proxy"],
)
async def test_words_about_a_session_of_the_tool_lose_none(mcp_server: StartServer, words: Rule) -> None:
    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", words))
    with pytest.raises(mcp_client.McpError):
        await echo(at(server))
    assert (server.count("tools/call"), server.count("initialize")) == (2, 1)
    del server.rules[0]
    await echo(at(server))
    assert server.requests[-1].headers["mcp-session-id"] == server.sessions[0]


@pytest.mark.parametrize("status", [408, 409, 413, 422])
async def test_a_refusal_of_the_request_itself_is_not_tried_again(mcp_server: StartServer, status: int) -> None:
    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", kinds.answers(status)))
    with pytest.raises(mcp_client.McpError):
        await echo(at(server))
    assert server.count("tools/call") == 2


async def test_what_a_tool_says_is_not_taken_for_a_lost_session(mcp_server: StartServer) -> None:
    async def refuses(_: Any, request: Any, __: Any, send: Any) -> bool:
        return await kinds.fault(send, 400, -32602, "no such city", id_=request.rpc_id)

    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", refuses))
    with pytest.raises(mcp_client.McpError):
        await echo(at(server))
    assert server.count("tools/call") == 2


async def test_a_server_that_refuses_a_call_but_not_ping_keeps_the_session(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.only_on("tools/call", kinds.answers(403)))
    with pytest.raises(mcp_client.Forbidden):
        await echo(at(server))
    assert (server.count("tools/call"), server.count("ping"), server.count("initialize")) == (2, 1, 1)
    del server.rules[0]
    await echo(at(server))
    assert server.requests[-1].headers["mcp-session-id"] == server.sessions[0]


async def test_a_refused_credential_keeps_the_session_for_its_renewal(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    await echo(at(server))
    server.rules.insert(0, kinds.asks_for_token)
    with pytest.raises(mcp_client.Unauthorized):
        await echo(at(server))
    renewed = at(server, headers=(("Authorization", f"Bearer {kinds.TOKEN}"),))
    assert await echo(renewed) == "x"
    assert server.requests[-1].headers["mcp-session-id"] == server.sessions[0]


async def cookies_at(server: McpServer, who: Server) -> str | None:
    with_answer = kinds.only_on("tools/call", kinds.says(result={"content": []}))
    server.rules[:] = [*server.rules[:1], kinds.only_on("notifications/initialized", kinds.answers(202)), with_answer]
    await mcp_client.call_tool(who, "echo", {"text": "x"})
    return server.requests[-1].headers.get("cookie")


async def test_the_cookies_of_a_session_lead_its_requests_to_its_instance(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, old_ways.pins_by("AWSALB=one; Path=/", "lb=two; HttpOnly; SameSite=None"))
    assert await cookies_at(server, at(server)) == "AWSALB=one; lb=two"
    told = [request.headers.get("cookie") for request in server.requests]
    assert told[0] is None
    assert set(told[1:]) == {"AWSALB=one; lb=two"}


async def test_the_cookies_of_one_owner_are_not_those_of_another(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    server.rules.insert(0, old_ways.pins_by("lb=ann"))
    assert await cookies_at(server, at(server, owner="ann")) == "lb=ann"
    server.rules[0] = old_ways.pins_by()
    assert await cookies_at(server, at(server, owner="bob")) is None
    assert await cookies_at(server, replace(at(server), key="another credential")) is None


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("a=b", b"a=b"),
        ("a=b; Path=/mcp", b"a=b"),
        ("a=b; Domain=example.com; Path=/", b"a=b"),
        ('a="b"; Max-Age=60', b'a="b"'),
        ("a=b; Secure", None),  # over plain http
        ("a=b; Path=/other", None),
        ("a=b; Path=/mc", None),
        ("a=b; Max-Age=0", None),
        ("a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("a=b; Expires=Wed, 21-Oct-2020 07:28:00 GMT", None),
        ("a=b; Expires=Wed, 21 Oct 2099 07:28:00 GMT", b"a=b"),
        ("a=b; Expires=Tue, 21 Oct 2099 19:70:00 GMT", b"a=b"),
        ("a=b; Expires=0", b"a=b"),
        ("a=b; Expires=Fri, 31-Dec-9999 23:59:59 EST", b"a=b"),
        ('a={"node": 1, "way": "x\\y"}; Path=/', b'a={"node": 1, "way": "x\\y"}'),
        ("a=b c, d; HttpOnly", b"a=b c, d"),
        ("a[node]=b", b"a[node]=b"),
        ("a=b\x01", None),
        ("a=\u00fc", None),
        ("a=b\r\nX-Evil: 1", None),
        ("a b=c", None),
        ("=c", None),
        ("a=" + "b" * LONGEST, None),
    ],
)
def test_which_cookies_are_kept(line: str, header: bytes | None) -> None:
    cookies = Cookies("http://mcp.example.com/mcp")
    cookies.take([(b"Set-Cookie", line.encode())])
    assert cookies.header == ([] if header is None else [(b"Cookie", header)])
    assert "b" not in repr(cookies).replace("tools.mcp_client.cookies.Cookies object at", "").split("0x")[0]


def test_a_server_that_floods_us_with_cookies_gets_twenty_back() -> None:
    cookies = Cookies("https://mcp.example.com/mcp")
    cookies.take((b"set-cookie", b"c%d=1" % number) for number in range(500))
    assert cookies.header[0][1].count(b"=") == MOST
