"""Servers that answer a call in full, and not in the form that the protocol asks for."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from tests.servers.kinds import respond
from tests.servers.running import Incoming, McpServer, Receive, Rule, Send


def raw(
    body: str | bytes, *, kind: str = "application/json", coding: str = "", named: str = "", cut: int = 0,
    status: int = 200,
) -> Rule:  # fmt: skip
    """Answer with this body as it is, except that ID becomes the request's id; it may be sent in pieces of `cut`.

    The coding may be `named` in another way.
    """

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        text = body.encode() if isinstance(body, str) else body
        text = text.replace(b"ID", json.dumps(request.rpc_id).encode())
        if coding:
            text = packed(text, coding)
        headers = {"content_type": kind} | ({"content_encoding": named or coding.partition(" ")[0]} if coding else {})
        if not cut:
            return await respond(send, status, text, **headers)
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        for at in range(0, len(text), cut):
            await send({"type": "http.response.body", "body": text[at : at + cut], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return True

    return rule


def result(value: Any, **more: Any) -> Rule:
    """Answer with this result."""
    return raw(json.dumps({"jsonrpc": "2.0", "id": "ID!", "result": value}).replace('"ID!"', "ID"), **more)


def stream(*events: str, **more: Any) -> Rule:
    """Answer with this event stream."""
    return raw("".join(events), kind="text/event-stream", **more)


def packed(text: bytes, coding: str) -> bytes:
    """Compress; the coding may say more than the header does: "deflate raw", "gzip twice", "gzip not"."""
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(text)
        case "gzip members":
            return gzip.compress(text[:30]) + gzip.compress(text[30:])
        case "deflate":
            return zlib.compress(text)
        case "deflate raw":
            return zlib.compress(text)[2:-4]
        case "gzip broken":
            return gzip.compress(text)[:10] + b"\xff" * 40
    return text
