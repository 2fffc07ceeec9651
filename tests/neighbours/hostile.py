"""Rival's MCP server (2026-07-28), in a process of its own: `python -m tests.neighbours.hostile ATTACK`.

Its first line of output is its port. The first word of a path is the behaviour that answers there.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import orjson
import uvloop

POLITENESS = 10  # of rival's processes: in the field they run on other machines, and take no CPU of the product's
DRIP_SECONDS = 2.0
FACTS = {"io.modelcontextprotocol/serverInfo": {"name": "rival", "version": "1"}}
ANYTHING: dict[str, Any] = {"type": "object"}
JSON, EVENTS = "application/json", "text/event-stream"


def tool(name: str, schema: dict[str, Any] = ANYTHING, description: str = "A tool.") -> dict[str, Any]:
    """Return the definition of a tool."""
    return {"name": name, "description": description, "inputSchema": schema}


class Request:
    """A message that came, and the ways to answer it."""

    def __init__(self, method: str, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.http_method = method
        self.message = message
        self.rpc_method = str(message.get("method", ""))
        self.params: dict[str, Any] = message.get("params") or {}
        self._writer = writer

    async def result(self, result: Mapping[str, Any] | bytes) -> None:
        """Answer; a result that is bytes is JSON already."""
        written = result if isinstance(result, bytes) else orjson.dumps(result)
        body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(self.message.get("id")), written)
        await self.write(head(200, length=len(body)) + body)

    async def nothing(self, status: int = 202) -> None:
        """Answer without a body."""
        await self.write(head(status, length=0))

    async def write(self, part: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(part)
        await self._writer.drain()

    async def drip(self, first: bytes, again: bytes) -> None:
        """Send something, and then a little more now and then, until the other side has enough."""
        await self.write(first)
        while True:
            await asyncio.sleep(DRIP_SECONDS)
            await self.write(again)


class Behaviour:
    """A server that does nothing wrong; attacks replace what they need."""

    hangs_up = False  # after each answer
    tools: tuple[dict[str, Any], ...] = (tool("ask"),)

    async def answer(self, request: Request) -> None:
        """Answer one message."""
        match request.rpc_method:
            case "server/discover":
                facts = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": FACTS}
                await request.result({"resultType": "complete", **facts})
            case "tools/list":
                await self.list_tools(request)
            case "tools/call":
                await self.call(request)
            case _:
                await request.nothing(202 if request.http_method == "POST" else 405)

    async def list_tools(self, request: Request) -> None:
        """List every tool on one page."""
        await request.result({"resultType": "complete", "tools": self.tools, "_meta": FACTS})

    async def call(self, request: Request) -> None:
        """Run a tool."""
        await request.result({"resultType": "complete", "content": [{"type": "text", "text": "done"}]})


def head(status: int, *, length: int | None = None, kind: str = JSON) -> bytes:
    """Return the head of an HTTP answer; without a length it ends when the connection does."""
    size = b"" if length is None else b"content-length: %d\r\n" % length
    return b"HTTP/1.1 %d Whatever\r\ncontent-type: %b\r\n%b\r\n" % (status, kind.encode(), size)


async def serve(behaviours: Mapping[str, Callable[[], Behaviour]]) -> None:
    """Answer on a free port of loopback until cancelled."""
    made = {name: make() for name, make in behaviours.items()}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in itertools.count():
                top = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = top.lower().partition("content-length:")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length)) if length else b""
                method, path, *_rest = top.split(" ", 2)
                behaviour = made[path.split("/")[1]]
                await behaviour.answer(Request(method, orjson.loads(body) if body else {}, writer))
                if behaviour.hangs_up:
                    break
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(name: str) -> None:
    """Be rival's server in one attack."""
    os.nice(POLITENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attacks = import_module("tests.neighbours.attacks")  # which import this module
    uvloop.run(serve(attacks.ATTACKS[name].behaviours))


if __name__ == "__main__":
    main(sys.argv[1])
