"""Which era a server speaks: modern is tried first, then legacy, and nothing is concluded from an outage."""

from __future__ import annotations

import asyncio
import inspect
import re
from dataclasses import replace
from typing import Any, Final

from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from connections import egress
from connections.errors import DuvoError
from tools.mcp_client import framing, handshake, sessions, sse, wire
from tools.mcp_client.errors import (
    AnswerTooLarge,
    BadAnswer,
    Challenged,
    ConnectionLost,
    EraChanged,
    EraPinned,
    HandshakeRefused,
    McpError,
    NotStreamableHttp,
    OldSseTransport,
    RpcError,
    ServerFailed,
    TimedOut,
    UnexpectedStatus,
    UnsupportedVersion,
)
from tools.mcp_client.posting import post
from tools.mcp_client.responses import Reply
from tools.mcp_client.shapes import Server, ServerFacts

# A server that knows these codes speaks 2026-07-28 or later, whatever it makes of the request.
MODERN_FAULTS: Final = frozenset({HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION})
MODERN_PATIENCE: Final = 20.0  # seconds until a server that may be old is asked for a handshake
_OLD_SSE_PATIENCE: Final = 5.0  # seconds until the first event of the retired transport
_OK: Final = 200
_UNPROCESSABLE: Final = 422
_OF_THE_SERVER: Final = re.compile(
    r"\b(?:server|client|session|connection|transport|mcp|handshake|initialize|initiali[sz]ation)\b|^\W*not\b",
    re.IGNORECASE,
)
# How servers answer a path, a method, headers or an `initialize` that they do not know.
_NO_MCP_HERE: Final = frozenset({404, 405, 406, 415})
_OF_AN_ERA: Final = _NO_MCP_HERE | {*range(200, 300), 400}


async def discover(server: Server) -> ServerFacts:
    """Find out which era and version a server speaks, and what it says about itself.

    With a stored era only that one is tried, and `EraChanged` is raised if it no longer fits (`EraPinned` where an
    admin has pinned it). Else modern comes first. Old servers answer the unknown method in every way, 401, 403, 500, a
    hang-up and silence included: then the handshake decides, and if it fails, too, what was said first is raised.
    Raises also `OldSseTransport`, `NotStreamableHttp`, `HandshakeRefused` and `UnsupportedVersion`.
    """
    if server.era != "unknown":
        try:
            return await _discover_stored(server)
        except EraChanged as refusal:
            if server.pinned:
                raise EraPinned.at(server.era, refusal) from refusal
            raise
    version = wire.modern_version(server)
    try:
        patience = min(MODERN_PATIENCE, server.timeout / 3)
        facts = await _discover_modern(replace(server, timeout=patience), version)
    except McpError as refusal:
        if not _may_be_old(refusal):
            raise
        return await _discover_after(server, version, refusal)
    return facts if facts is not None else await _discover_legacy(server)


async def _discover_stored(server: Server) -> ServerFacts:
    if server.era == "legacy":
        return (await sessions.open_for(server)).facts
    facts = await _discover_modern(server, wire.modern_version(server))
    if facts is None:
        raise EraChanged
    return facts


def _may_be_old(refusal: McpError) -> bool:
    """Whether an old server may refuse an unknown method in this way."""
    if isinstance(refusal, TimedOut):
        return refusal.kind != "connect"
    return isinstance(refusal, Challenged | ServerFailed | ConnectionLost | AnswerTooLarge)


async def _discover_after(server: Server, version: str, refusal: McpError) -> ServerFacts:
    """Let the handshake decide about a server that refused `server/discover` in a way that may mean anything."""
    try:
        return (await sessions.open_for(server)).facts
    except Challenged as challenge:
        # What it says about a method that it knows is the better reason, unless only the first names a way in.
        if isinstance(refusal, Challenged) and refusal.www_authenticate and not challenge.www_authenticate:
            raise refusal from None
        raise
    except DuvoError as error:
        if isinstance(error, RpcError | UnsupportedVersion) and not isinstance(refusal, Challenged):
            raise  # the server has read the handshake, and says what is wrong
        if isinstance(refusal, TimedOut):  # it may have slept, and is modern all the same
            facts = await _discover_modern(server, version)
            if facts is not None:
                return facts
        raise refusal from None


async def _discover_modern(server: Server, version: str, *, again: bool = True) -> ServerFacts | None:
    try:
        reply = await post(server, wire.modern_request("server/discover", {}, version))
    except (BadAnswer, NotStreamableHttp):
        if server.era == "modern":
            raise
        return None
    if reply.result is not None:
        return _adopt(reply.result, version)
    fault = reply.fault
    if fault is None or fault.code not in MODERN_FAULTS:
        return None
    if fault.code != UNSUPPORTED_PROTOCOL_VERSION:
        raise RpcError(fault.code, fault.message)
    supported = fault.data.get("supported") if isinstance(fault.data, dict) else None
    mutual = _newest_mutual(supported)
    if mutual is not None and again:
        # Also when it is the version that was just refused: behind one address some instances may be older.
        return await _discover_modern(server, mutual, again=False)
    _leave_to_handshake(supported)
    return None


def _adopt(result: dict[str, Any], version: str) -> ServerFacts | None:
    supported = result.get("supportedVersions")
    if not isinstance(supported, list):
        return None
    chosen = version if version in supported else _newest_mutual(supported)
    if chosen is None:
        _leave_to_handshake(supported)
        return None
    meta = result.get("_meta")
    info = meta.get(SERVER_INFO_META_KEY) if isinstance(meta, dict) else None
    return handshake.facts_from(info, chosen, "modern")


def _newest_mutual(supported: Any) -> str | None:
    known = supported if isinstance(supported, list) else []
    return next((version for version in reversed(MODERN_PROTOCOL_VERSIONS) if version in known), None)


def _leave_to_handshake(supported: Any) -> None:
    """Raise `UnsupportedVersion` when a server names its versions and none of them has a handshake known here."""
    known = supported if isinstance(supported, list) else []
    if known and not any(version in known for version in HANDSHAKE_PROTOCOL_VERSIONS):
        raise UnsupportedVersion.of(version for version in known if version not in MODERN_PROTOCOL_VERSIONS)


async def _discover_legacy(server: Server) -> ServerFacts:
    try:
        return (await sessions.open_for(server)).facts
    except EraChanged as refusal:
        if await _speaks_old_sse(server):
            raise OldSseTransport from refusal
        if _is_told(refusal):
            raise HandshakeRefused.by(refusal) from refusal
        error = NotStreamableHttp(f"{inspect.cleandoc(NotStreamableHttp.__doc__ or '')} {refusal.sentence}")
        error.said = refusal.said
        raise error from refusal


def _is_told(refusal: EraChanged) -> bool:
    """Whether a server that refuses the handshake says why: it speaks MCP, and wants something else."""
    if refusal.fault is not None:
        return refusal.fault != METHOD_NOT_FOUND
    return refusal.status not in _NO_MCP_HERE and bool(refusal.said)


async def _speaks_old_sse(server: Server) -> bool:
    """Tell whether a server speaks the transport of 2024-11-05, whose stream begins with an `endpoint` event."""
    route = wire.route_to(server)
    headers = [pair for pair in route.headers if pair[0] not in (b"Content-Type", b"Accept")]
    headers.append((b"Accept", b"text/event-stream"))
    request = egress.Request(b"GET", route.url, headers, extensions=route.extensions)
    try:
        async with asyncio.timeout(_OLD_SSE_PATIENCE):
            response = await egress.pool().handle_async_request(request)
            try:
                return response.status == _OK and await _first_event(response) == b"endpoint"
            finally:
                await response.aclose()
    except framing.BROKEN:
        return False


async def _first_event(response: egress.Response) -> bytes | None:
    decoder = sse.Decoder()
    size = 0
    async for chunk in response:
        size += len(chunk)
        for event in decoder.feed(chunk):
            return event.name
        if size > 64 * 1024:
            break
    return None


def may_have_moved(server: Server, refusal: McpError) -> bool:
    """Tell whether a call may have been refused for its era, by a server that has not read what it is about."""
    if isinstance(refusal, EraChanged):
        return True
    if server.era == "legacy":
        return False
    if isinstance(refusal, RpcError):
        # What a tool says of its own database, say, is no refusal of the server.
        of_server = refusal.rpc_code != INTERNAL_ERROR and _OF_THE_SERVER.search(refusal.said)
        return bool(of_server) and handshake.WANTED.search(refusal.said) is not None
    return isinstance(refusal, UnexpectedStatus) and refusal.status == _UNPROCESSABLE


def settle(reply: Reply) -> dict[str, Any]:
    """Return the result of a reply in a stored era.

    Raises `RpcError`, `UnexpectedStatus`, or `EraChanged` when the era may no longer fit.
    """
    if reply.result is not None:
        return reply.result
    fault = reply.fault
    of_versions = fault is not None and fault.code == UNSUPPORTED_PROTOCOL_VERSION
    if fault is not None and not of_versions and (fault.ours or reply.status == _OK or fault.code in MODERN_FAULTS):
        raise RpcError(fault.code, fault.message)
    if not of_versions and reply.status not in _OF_AN_ERA:  # it is about this request, and says nothing of the era
        raise UnexpectedStatus(reply.status)
    raise EraChanged(status=0 if of_versions else reply.status, said=reply.said)
