"""An MCP server (2026-07-28) that counts what it was made to do: `python -m tests.faults.server`.

It runs in a process of its own, so that it outlives whatever dies, and its first line of output is where it answers.
Each call carries a marker; the server counts its executions, and holds, drops or forgets the first `times` of them as
`then` says. A test waits for a call's arrival and lets a held one go, without a clock:

    GET  /arrivals/{marker}/{n}   answers when the marker has arrived n times
    GET  /answers/{marker}/{n}    answers when n of them were answered
    POST /go/{marker}             answers what is held of it, also what arrives later
    GET  /counts                  executions by marker, and the most calls that were here at once
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

import orjson
import uvloop

ARGUMENTS = {
    "type": "object",
    "properties": {
        "marker": {"type": "string"},
        "then": {"enum": ["answer", "hold", "drop", "forget"]},
        "times": {"type": "integer"},
        "seconds": {"type": "number"},
    },
    "required": ["marker"],
}
TOOLS = [
    {"name": "once", "description": "Must not be done twice.", "inputSchema": ARGUMENTS},
    {"name": "again", "description": "May be repeated.", "inputSchema": ARGUMENTS,
     "annotations": {"idempotentHint": True}},
]  # fmt: skip
SERVER_INFO = {"io.modelcontextprotocol/serverInfo": {"name": "counting", "version": "1"}}


class Cut(Exception):
    """The connection ends here."""


class Deeds:
    """What was executed, and what is held."""

    def __init__(self) -> None:
        self.executions: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.here = self.most_here = 0
        self._news = asyncio.Condition()
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def until(self, counter: Counter[str], marker: str, at_least: int) -> None:
        """Return when the marker has been counted so often."""
        async with self._news:
            await self._news.wait_for(lambda: counter[marker] >= at_least)

    def release(self, marker: str) -> None:
        """Let what is held of this marker go."""
        self._released[marker].set()

    async def execute(self, call: _Call) -> dict[str, Any]:
        """Do it: count it, and then answer, hold, drop or forget it."""
        self.here += 1
        self.most_here = max(self.here, self.most_here)
        try:
            number = await self._count(self.executions, call.marker)
            await self._behave(call, number)
            await self._count(self.answers, call.marker)
        finally:
            self.here -= 1
        return {"resultType": "complete", "content": [{"type": "text", "text": f"execution {number}"}]}

    async def _count(self, counter: Counter[str], marker: str) -> int:
        async with self._news:
            counter[marker] += 1
            self._news.notify_all()
            return counter[marker]

    async def _behave(self, call: _Call, number: int) -> None:
        await asyncio.sleep(call.arguments.get("seconds", 0))
        if number > call.arguments.get("times", 1):
            return
        match call.arguments.get("then"):
            case "hold":
                await self._released[call.marker].wait()
            case "drop":
                call.begin_stream()
                raise Cut
            case "forget":
                await asyncio.Event().wait()


class _Call:
    def __init__(self, params: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.arguments: dict[str, Any] = params["arguments"]
        self.marker: str = self.arguments["marker"]
        self._token = (params.get("_meta") or {}).get("progressToken")
        self._writer = writer

    def begin_stream(self) -> None:
        """Send the head of an event stream and a step of progress, never the result."""
        params = {"progressToken": self._token, "progress": 1}
        note = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        event = b"data: %b\n\n" % note
        self._writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n" % (len(event), event)
        )


class Server:
    """HTTP/1.1 as far as polite clients need it: one request at a time on each connection."""

    def __init__(self) -> None:
        self._deeds = Deeds()

    async def serve(self, host: str = "127.0.0.1", port: str = "0") -> None:
        """Answer until cancelled, on a free port of loopback if nothing else is said."""
        server = await asyncio.start_server(self._converse, host, int(port), backlog=4096)
        print(f"http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
        await server.serve_forever()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, Cut):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = head.partition("content-length:")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length)) if length else b""
                path = head.split(" ", 2)[1]
                answer = await (self._rpc(body, writer) if path == "/mcp" else self._control(path))
                written = orjson.dumps(answer)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(written), written)
                )
                await writer.drain()
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def _rpc(self, body: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        request = orjson.loads(body)
        params = request.get("params") or {}
        match request["method"]:
            case "tools/call":
                result = await self._deeds.execute(_Call(params, writer))
            case "tools/list":
                result = {"resultType": "complete", "tools": TOOLS, "_meta": SERVER_INFO}
            case _:
                result = {"resultType": "complete", "supportedVersions": ["2026-07-28"],
                          "capabilities": {"tools": {}}, "_meta": SERVER_INFO}  # fmt: skip
        return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}

    async def _control(self, path: str) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["arrivals", marker, number]:
                await self._deeds.until(self._deeds.executions, marker, int(number))
            case ["answers", marker, number]:
                await self._deeds.until(self._deeds.answers, marker, int(number))
            case ["go", marker]:
                self._deeds.release(marker)
        return {"executions": self._deeds.executions, "most_here": self._deeds.most_here}


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(Server().serve(*sys.argv[1:]))
