"""A raw MCP echo server of both eras with next to no cost of its own: `python -m tests.servers.echo --port N`.

With `--port 0` it takes a free port; its first line of output is the URL. With `--hang-up` it closes the connection
after each answer. With `--tools N` it lists so many. At the path `/remembers` it keeps sessions (2025-11-25).
"""

from __future__ import annotations

import argparse
import asyncio
from secrets import token_hex
from typing import Any

import orjson
import uvloop

ECHO = {
    "name": "echo",
    "description": "Returns its text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "annotations": {"readOnlyHint": True, "idempotentHint": True},
}
TOOLS = [ECHO]
SERVER_INFO = {"io.modelcontextprotocol/serverInfo": {"name": "echo", "version": "1"}}


class Echo(asyncio.Protocol):
    """HTTP/1.1 as far as one polite client needs it: POST with Content-Length, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = (
                int(head[at + 15 : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else None]) if at > 0 else 0
            )
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(respond(body, remembers=head.startswith(b"post /remembers ")))


class HangingUp(Echo):
    """The same for one request."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._buffer:
            self._transport.close()


def respond(body: bytes, *, remembers: bool = False) -> bytes:
    """Return the whole HTTP response to one request body; a handshake that it `remembers` begins a session."""
    if not body:
        return b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
    request = orjson.loads(body)
    if "id" not in request:
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    answer = {"jsonrpc": "2.0", "id": request.get("id"), **outcome(request["method"], request.get("params") or {})}
    written = orjson.dumps(answer)
    session = (
        b"mcp-session-id: %b\r\n" % token_hex().encode() if remembers and request["method"] == "initialize" else b""
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        session,
        len(written),
        written,
    )


def outcome(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the `result` or `error` member for one method."""
    if method == "tools/call" and params.get("name") == "echo":
        text = (params.get("arguments") or {}).get("text", "")
        return {"result": {"resultType": "complete", "content": [{"type": "text", "text": text}]}}
    if method == "tools/list":
        return {"result": {"resultType": "complete", "tools": TOOLS, "_meta": SERVER_INFO}}
    if method == "server/discover":
        facts = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": SERVER_INFO}
        return {"result": {"resultType": "complete", **facts}}
    if method == "initialize":  # 2025-11-25, without a session id
        about = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "echo", "version": "1"}}
        return {"result": {"capabilities": {"tools": {}}, **about}}
    return {"error": {"code": -32601, "message": "Method not found"}}


async def serve(port: int, protocol: type[Echo]) -> None:
    """Serve on loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--hang-up", action="store_true")
    arguments.add_argument("--tools", type=int, default=1)
    asked = arguments.parse_args()
    TOOLS += [{**ECHO, "name": f"echo_{number}"} for number in range(1, asked.tools)]
    uvloop.run(serve(asked.port, HangingUp if asked.hang_up else Echo))
