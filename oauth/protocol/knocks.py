"""What a stranger sends to an MCP server to see how it answers, one request of each era, and how that is read."""

from __future__ import annotations

import re
from typing import Any

import orjson

from connections import words

_EVENT_ENDS = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_MOST_EVENTS = 100  # before the answer; a body is looked at again with each piece of it

DISCOVER: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "duvo-connections", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
DISCOVER_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "server/discover",
}
HANDSHAKE_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "duvo-connections", "version": "1"},
    },
}


def answer_in(body: bytes) -> Any:
    """Return the JSON of an answer, of a stream its first message that is a response; None where there is none."""
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not body.startswith((b"data", b"event", b"id", b":", b"retry")):
        return _json(body)
    for event in _EVENT_ENDS.split(body, _MOST_EVENTS)[:_MOST_EVENTS]:
        data = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
        message = _json(b"\n".join(data))
        if isinstance(message, dict) and ("result" in message or "error" in message):
            return message
    return None


def is_whole(body: bytes) -> bool:
    """Whether the answer to a request has come with this much of the body."""
    return answer_in(body) is not None


def lets_in(body: bytes) -> bool:
    """Whether this is the result of a JSON-RPC request: only that shows that a stranger is let in."""
    message = answer_in(body)
    message = message[0] if isinstance(message, list) and len(message) == 1 else message
    return isinstance(message, dict) and isinstance(message.get("result"), dict) and not message.get("error")


def words_in(body: bytes, kind: str) -> str:
    """Return a server's own words in an answer that is no result, "" for none and for those of a page.

    They are as they came: whoever shows them leaves out what was sent, and then what has the form of a secret.
    """
    message = answer_in(body)
    if message is not None:
        said = words.words_in(message)
    else:
        text = body.decode("utf-8", "replace").strip()
        is_text = "html" not in kind and text != "null" and not text.startswith(("<", "{", "["))
        said = text if is_text else ""
    return said.strip()


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
