"""A real server in a thread of this process, on a free port of loopback, with a gate that counts and misbehaves."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import uvicorn

from tests.servers.toolbox import Toolbox

START_TIMEOUT = 20.0  # seconds


@dataclass
class Incoming:
    """One HTTP request at the gate, its body read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]
    message: Any = None
    query: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body's parameters, if it is a form."""
        return dict(parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))

    @property
    def rpc_method(self) -> str:
        return str(self.message.get("method", "")) if isinstance(self.message, dict) else ""

    @property
    def rpc_id(self) -> Any:
        return self.message.get("id") if isinstance(self.message, dict) else None


Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Rule = Callable[[Any, Incoming, Receive, Send], Awaitable[bool]]


@dataclass(kw_only=True)
class Served:
    """What a test sees of any of its servers: where it is, what reached it, and what its gate does."""

    rules: list[Rule] = field(default_factory=list)
    port: int = 0
    requests: list[Incoming] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many TCP connections brought the requests so far."""
        return len({request.client for request in self.requests})

    def behave(self, *rules: Rule) -> None:
        """Replace what the gate does from now on."""
        self.rules[:] = rules


AnyServer = TypeVar("AnyServer", bound=Served)


@dataclass
class McpServer(Served):
    """An MCP server: its tools and its sessions."""

    toolbox: Toolbox
    path: str = "/mcp"
    expired: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}"

    def executions(self, name: str) -> int:
        """How often a tool was run."""
        return self.toolbox.executions[name]

    def count(self, rpc_method: str) -> int:
        """How many messages with this JSON-RPC method arrived."""
        return sum(request.rpc_method == rpc_method for request in self.requests)

    def expire_sessions(self) -> None:
        """Answer 404 to every session that is open now."""
        self.expired.update(self.sessions)


class Gate:
    """ASGI: notes each request, lets the rules answer it, and else hands it to the server behind."""

    def __init__(self, server: Served, behind: Any) -> None:
        self._server = server
        self._behind = behind

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        incoming = await _read(scope, receive)
        self._server.requests.append(incoming)
        for rule in list(self._server.rules):
            if await rule(self._server, incoming, receive, send):
                return
        await self._behind(scope, replay(incoming.body, receive), self._watch(send))

    def _watch(self, send: Send) -> Send:
        async def watching(event: dict[str, Any]) -> None:
            for name, value in event.get("headers", []) if event["type"] == "http.response.start" else []:
                if name.lower() == b"mcp-session-id" and value.decode() not in self._server.sessions:
                    self._server.sessions.append(value.decode())
            await send(event)

        return watching


async def _read(scope: dict[str, Any], receive: Receive) -> Incoming:
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        message = json.loads(body) if body else None
    except ValueError:
        message = None
    query = scope["query_string"].decode("latin-1")
    return Incoming(scope["method"], scope["path"], headers, body, tuple(scope["client"]), message, query)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives this body once more, and then what the real one gives."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replaying


class Host:
    """Runs ASGI applications in threads until it is closed."""

    def __init__(self) -> None:
        self._running: list[tuple[_Announcing, threading.Thread]] = []

    def start(self, server: AnyServer, behind: Any) -> AnyServer:
        """Serve on a free port of loopback; returns when connections are accepted."""
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server.port = listening.getsockname()[1]
        started = threading.Event()
        config = uvicorn.Config(
            Gate(server, behind), log_level="critical", access_log=False, ws="none", timeout_keep_alive=60
        )
        house = _Announcing(config, started)
        thread = threading.Thread(target=house.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        self._running.append((house, thread))
        assert started.wait(START_TIMEOUT), "the test server did not start"
        return server

    def close(self) -> None:
        """Stop every server, also those in the middle of an answer."""
        for house, _ in self._running:
            house.stop()
        for _, thread in self._running:
            thread.join(START_TIMEOUT)


class _Announcing(uvicorn.Server):
    """A server that says when it has started, and stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._announce = started

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._announce.set()
        await self._stopped.wait()

    def stop(self) -> None:
        self.should_exit = True
        self.force_exit = True
        self._loop.call_soon_threadsafe(self._stopped.set)
