"""Calling one tool: exactly one POST where the era is known and, in the handshake era, a session lives.

A modern server may answer with a question; the call is then repeated with the answer, as the protocol has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map

from tools.mcp_client import eras, questions, sessions, wire
from tools.mcp_client.errors import BadAnswer, EraChanged, NeedsMore, RpcError
from tools.mcp_client.posting import post
from tools.mcp_client.reading import Listener, Reply
from tools.mcp_client.shapes import OnProgress, Server, ToolResult

MOST_QUESTIONS: Final = 5  # in one call; a server that goes on asking does not understand the answer


def header_map(input_schema: Any) -> wire.HeaderMap:
    """Return which arguments a modern call repeats as `Mcp-Param-*` headers; compute once per tool (2026-07-28)."""
    if find_invalid_x_mcp_header(input_schema) is not None:
        return wire.NO_HEADERS
    return x_mcp_header_map(input_schema)


async def call_tool(
    server: Server,
    name: str,
    arguments: Mapping[str, Any],
    *,
    progress: OnProgress | None = None,
    meta: Mapping[str, Any] | None = None,
    mirrored: wire.HeaderMap = wire.NO_HEADERS,
) -> ToolResult:
    """Run one tool once and return what it answered; bytes that left are repeated only to answer a question of it.

    `progress` is called in the event loop and must not block; `mirrored` comes from `header_map`.
    Raises an `McpError`, whose `outcome_unknown` tells whether the tool may have run.
    """
    deadline = asyncio.get_running_loop().time() + server.timeout  # a handshake on the way counts as well
    server = await in_known_era(server)
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    further: dict[str, Any] = {}
    for _ in range(MOST_QUESTIONS + 1):
        reply = await ask(server, "tools/call", params | further, progress, meta, mirrored, deadline)
        try:
            raw = eras.settle(reply)
            if server.era == "legacy" or raw.get("resultType") != questions.INPUT_REQUIRED:
                return _result(raw)
            further = questions.further_params(raw)
        except (EraChanged, RpcError, NeedsMore, BadAnswer) as error:
            error.sent = True
            raise
    raise NeedsMore(questions.INPUT_REQUIRED, sent=True)


async def in_known_era(server: Server) -> Server:
    """Return the server with an era, asking it only when none is stored."""
    if server.era != "unknown":
        return server
    facts = await eras.discover(server)
    return replace(server, era=facts.era, protocol_version=facts.protocol_version)


async def ask(
    server: Server,
    method: str,
    params: Mapping[str, Any],
    progress: OnProgress | None = None,
    meta: Mapping[str, Any] | None = None,
    mirrored: wire.HeaderMap = wire.NO_HEADERS,
    deadline: float | None = None,
) -> Reply:
    """Ask in the stored era of `server`."""
    if server.era == "legacy":
        return await sessions.ask(server, method, params, meta or {}, progress, deadline)
    question = wire.modern_question(method, params, wire.modern_version(server), meta=meta, mirrored=mirrored)
    return await post(server, question, listener=Listener(progress), deadline=deadline)


def _result(raw: dict[str, Any]) -> ToolResult:
    result_type = raw.get("resultType", "complete")
    if result_type != "complete":
        raise NeedsMore(str(result_type)[:100])
    content = raw.get("content", [])
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise BadAnswer("The tool's answer has no list of content blocks.")
    return ToolResult(content, raw.get("structuredContent"), raw.get("isError") is True, raw)
