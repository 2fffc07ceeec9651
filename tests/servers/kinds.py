"""The kinds of MCP server that a client meets in the field, each one the SDK's server behind rules.

A rule answers a request itself (and returns True) or lets it pass. Boxes for a kind, besides `toolbox.furnished`:
`asking.asking()` has tools that ask people (modern and legacy), `tasks.TaskBox()` one that becomes a task (modern).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import MCPServer

from tests.servers.running import Host, Incoming, McpServer, Receive, Rule, Send
from tests.servers.toolbox import Toolbox, furnished, schema

MODERN = "2026-07-28"
HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
TOKEN = "let-me-in"
API_KEY = "key-of-acme"
METADATA = "http://127.0.0.1:9/.well-known/oauth-protected-resource"


async def respond(send: Send, status: int, body: bytes = b"", **headers: str) -> bool:
    """Answer with a status, a body and headers (underscores become hyphens)."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"content-type": "application/json", "content-length": str(len(body)), **given}
    written = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": written})
    await send({"type": "http.response.body", "body": body})
    return True


async def fault(send: Send, status: int, code: int, message: str, *, id_: Any = None, data: Any = None) -> bool:
    """Answer with a JSON-RPC error."""
    error = {"code": code, "message": message, **({"data": data} if data is not None else {})}
    return await respond(send, status, json.dumps({"jsonrpc": "2.0", "id": id_, "error": error}).encode())


async def _is_cut_off(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# --- eras -----------------------------------------------------------------------------------------------------------


async def only_modern(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    if request.headers.get("mcp-protocol-version") == MODERN:
        return False
    asked = request.headers.get("mcp-protocol-version", "")
    data = {"supported": [MODERN], "requested": asked}
    return await fault(send, 400, -32022, "Unsupported protocol version", id_=request.rpc_id, data=data)


async def only_legacy(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    version = request.headers.get("mcp-protocol-version")
    if version is None or version in HANDSHAKE:
        return False
    return await fault(send, 400, -32600, "Bad Request: Unsupported protocol version", id_="server-error")


async def expired_sessions(server: McpServer, request: Incoming, _: Receive, send: Send) -> bool:
    if request.headers.get("mcp-session-id") not in server.expired:
        return False
    return await fault(send, 404, -32001, "Session not found")


# --- who is let in --------------------------------------------------------------------------------------------------


async def asks_for_token(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    if request.headers.get("authorization") == f"Bearer {TOKEN}":
        return False
    challenge = f'Bearer resource_metadata="{METADATA}", scope="tools"'
    return await respond(send, 401, b'{"error":"secret detail"}', www_authenticate=challenge)


async def asks_for_token_on_calls(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
    return request.rpc_method == "tools/call" and await asks_for_token(server, request, receive, send)


async def asks_for_api_key(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    if request.headers.get("x-api-key") == API_KEY:
        return False
    return await respond(send, 401)


async def forbids(_: McpServer, __: Incoming, ___: Receive, send: Send) -> bool:
    return await respond(send, 403, www_authenticate='Bearer error="insufficient_scope", scope="write"')


# --- trouble --------------------------------------------------------------------------------------------------------


def answers(status: int, body: bytes = b"", **headers: str) -> Rule:
    """Return a rule that answers everything alike."""

    async def rule(_: McpServer, __: Incoming, ___: Receive, send: Send) -> bool:
        return await respond(send, status, body, **headers)

    return rule


def only_on(rpc_method: str, rule: Rule) -> Rule:
    """Return a rule that touches only one JSON-RPC method."""

    async def narrowed(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        return request.rpc_method == rpc_method and await rule(server, request, receive, send)

    return narrowed


def only_at(path: str, rule: Rule) -> Rule:
    """Return a rule that touches only requests whose path ends like this."""

    async def narrowed(server: Any, request: Incoming, receive: Receive, send: Send) -> bool:
        return request.path.endswith(path) and await rule(server, request, receive, send)

    return narrowed


def once(rule: Rule) -> Rule:
    """Return a rule that acts on the first request only."""
    waiting = [rule]

    async def first(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        return bool(waiting) and await waiting.pop()(server, request, receive, send)

    return first


async def hangs(_: McpServer, __: Incoming, receive: Receive, ___: Send) -> bool:
    await _is_cut_off(receive)
    return True


async def trickles(_: McpServer, __: Incoming, receive: Receive, send: Send) -> bool:
    """Give a sign of life ten times a second, and never an answer: no idle clock ends this."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    cut_off = asyncio.ensure_future(_is_cut_off(receive))
    while not cut_off.done():
        await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
        await asyncio.wait([cut_off], timeout=0.1)
    return True


async def floods(_: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
    """Send 50 MB without saying so first."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    cut_off = asyncio.ensure_future(_is_cut_off(receive))
    try:
        for _step in range(50):
            if cut_off.done():
                break
            await send({"type": "http.response.body", "body": b" " * 1_000_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        cut_off.cancel()
    return True


async def drops(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    """Begin a stream, tell of progress, and break the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    token = request.message["params"]["_meta"]["progressToken"]
    note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}
    await send({"type": "http.response.body", "body": b"data: %b\n\n" % json.dumps(note).encode(), "more_body": True})
    message = "the connection breaks here"
    raise ConnectionAbortedError(message)


def says(result: Any = None, **members: Any) -> Rule:
    """Return a rule that answers with this JSON-RPC message; `id` is the request's unless given."""

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        message = {"jsonrpc": "2.0", "id": request.rpc_id, **({} if result is None else {"result": result}), **members}
        return await respond(send, 200, json.dumps(message).encode())

    return rule


def streams(*chunks: bytes | Callable[[Incoming], bytes], hold: bool = False) -> Rule:
    """Return a rule that answers with these pieces of an event stream, and may hold it open."""

    async def rule(_: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for chunk in chunks:
            body = chunk if isinstance(chunk, bytes) else chunk(request)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if hold:
            await _is_cut_off(receive)
        else:
            await send({"type": "http.response.body", "body": b""})
        return True

    return rule


# --- the kinds ------------------------------------------------------------------------------------------------------

RULES: dict[str, list[Rule]] = {
    "modern": [only_modern],
    "dual": [],
    "json": [only_modern],
    "legacy": [only_legacy, expired_sessions],
    "legacy stateless": [only_legacy],
    "legacy json": [only_legacy, expired_sessions],
    "old sse": [],
    "behind 401": [asks_for_token],
    "open listing": [asks_for_token_on_calls],
    "api key": [asks_for_api_key],
    "forbidden": [forbids],
    "hangs": [hangs],
    "floods": [floods],
    "bad json": [answers(200, b'{"jsonrpc": "2.0", "id": 1, "result": {')],
    "web page": [answers(200, b"<html>Welcome</html>", content_type="text/html")],
    "down": [answers(503, b"secret detail", retry_after="7")],
    "busy": [answers(429, b"secret detail", retry_after="3")],
    "moved": [answers(307, location="https://elsewhere.example/mcp")],
    "drops": [only_modern, only_on("tools/call", drops)],
    "broken schema": [],
    "many tools": [],
}


def start(host: Host, kind: str, toolbox: Toolbox | None = None) -> McpServer:
    """Start a server of one kind."""
    box = toolbox or _box(kind)
    server = McpServer(box, rules=list(RULES[kind]))
    if kind == "old sse":
        server.path = "/sse"
        return host.start(server, MCPServer("old").sse_app())
    stateless = kind == "legacy stateless"
    application = box.server().streamable_http_app(json_response="json" in kind, stateless_http=stateless)
    return host.start(server, application)


def _box(kind: str) -> Toolbox:
    if kind == "many tools":
        box = Toolbox(page_size=250)
        for number in range(5000):
            box.add(f"tool_{number}")
        return box
    box = furnished()
    if kind == "broken schema":
        box.add("broken", input_schema={"type": "object", "properties": {"a": {"type": "strin"}}})
        box.add("remote", input_schema={"type": "object", "$ref": "https://attacker.example/schema.json"})
        box.add("x" * 200, input_schema=schema())
        box.add("headers", input_schema=schema(a={"type": "number", "x-mcp-header": "A"}))
    return box
