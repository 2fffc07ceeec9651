"""How servers of the handshake era answer what they do not know, and how they lose a session."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers import kinds
from tests.servers.running import Incoming, McpServer, Receive, Rule, Send

LOST = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}'


async def hangs_up(_: McpServer, __: Incoming, ___: Receive, send: Send) -> bool:
    """Begin to answer, and break the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
    message = "the connection breaks here"
    raise ConnectionAbortedError(message)


def unless(accepted: Callable[[dict[str, object]], bool], refusal: Rule) -> Rule:
    """Return a rule that refuses every `initialize` whose params are not accepted."""

    async def rule(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        if request.rpc_method != "initialize" or accepted(request.message["params"]):
            return False
        return await refusal(server, request, receive, send)

    return rule


def loses_sessions(answer: Rule) -> Rule:
    """Return a rule that answers like this in every session that was open when `expire_sessions` was called."""

    async def rule(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        if request.headers.get("mcp-session-id") not in server.expired:
            return False
        return await answer(server, request, receive, send)

    return rule


def without_a_session(answer: Rule) -> Rule:
    """Return a rule that answers like this whatever names no session."""

    async def rule(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        return "mcp-session-id" not in request.headers and await answer(server, request, receive, send)

    return rule


def pins_by(*lines: str) -> Rule:
    """Return a rule that sets these cookies in the answer to `initialize`, by way of a load balancer."""

    async def rule(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        if request.rpc_method != "initialize":
            return False
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "behind"}}
        body = kinds.json.dumps({"jsonrpc": "2.0", "id": request.rpc_id, "result": result}).encode()
        headers = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s%d" % len(server.requests))]
        headers += [(b"set-cookie", line.encode()) for line in lines]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    return rule
