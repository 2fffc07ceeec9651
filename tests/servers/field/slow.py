"""Servers that take their time and show meanwhile, in their own ways, that they are alive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from itertools import cycle, islice

from tests.servers.running import Incoming, McpServer, Receive, Rule, Send

ANSWER = '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"done"}]}}'


def says_meanwhile(*signs: str, times: int, pause: float, kind: str = "text/event-stream", end: str = "") -> Rule:
    """Send these signs in turn, so many of them with pauses (seconds), and then the answer."""

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
        last = end or f"data: {ANSWER}\n\n"
        for part in _parts(signs, times):
            await send({"type": "http.response.body", "body": _filled(part, request), "more_body": True})
            await asyncio.sleep(pause)  # the server's own slowness
        await send({"type": "http.response.body", "body": _filled(last, request), "more_body": False})
        return True

    return rule


def log(data: object, **more: str) -> str:
    """Return a log notification as an event."""
    params = {"level": "info", "data": data, **more}
    return f"data: {json.dumps({'jsonrpc': '2.0', 'method': 'notifications/message', 'params': params})}\n\n"


def _parts(signs: tuple[str, ...], times: int) -> Iterable[str]:
    return islice(cycle(signs), times)


def _filled(part: str, request: Incoming) -> bytes:
    token = json.dumps(request.message["params"]["_meta"]["progressToken"])
    return part.replace("TOKEN", token).replace("ID", json.dumps(request.rpc_id)).encode()
