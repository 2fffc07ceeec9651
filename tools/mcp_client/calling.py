"""Calling one tool: exactly one POST where the era is known and, in the handshake era, a session is open.

A server may ask a person something first. In the modern era, and where somebody has to visit an address, that ends
the call, which is made again with the answers, perhaps by another process; else the open stream waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from mcp_types import URL_ELICITATION_REQUIRED

from connections import offload
from connections.errors import DuvoError
from tools.mcp_client import eras, questions, results, sessions, wire
from tools.mcp_client.errors import EraChanged, EraPinned, McpError, NeedsMore, UnexpectedStatus, Unsendable
from tools.mcp_client.posting import in_background, post
from tools.mcp_client.responses import Listener, Reply
from tools.mcp_client.sdk_headers import find_invalid_x_mcp_header, x_mcp_header_map
from tools.mcp_client.sessions import IN_THIS_PROCESS, Sessions
from tools.mcp_client.shapes import Answers, Ask, OnProgress, Questions, Server, Task, ToolResult
from tools.payloads.raw_json import RawJson

MOST_REPEATS: Final = 5  # of one call whose server asks for nothing but its own `requestState`


def header_map(input_schema: Any) -> wire.HeaderMap:
    """Return which arguments a modern call repeats as `Mcp-Param-*` headers; compute once per tool (2026-07-28)."""
    if find_invalid_x_mcp_header(input_schema) is not None:
        return wire.NO_HEADERS
    return x_mcp_header_map(input_schema)


async def call_tool(
    server: Server,
    name: str,
    arguments: Mapping[str, Any] | RawJson,
    *,
    progress: OnProgress | None = None,
    meta: Mapping[str, Any] | None = None,
    mirrored: wire.HeaderMap = wire.NO_HEADERS,
    answers: Answers | None = None,
    ask: Ask | None = None,
    on_moved: Callable[[], None] | None = None,
    kept_in: Sessions = IN_THIS_PROCESS,
) -> ToolResult | Questions | Task:
    """Run one tool once and return its result, the questions to answer first, or the task that it became.

    After `Questions` the same call is made again with `answers`, which carry their state; a server may ask again.
    `ask` is awaited for each question of a server that keeps the stream open (handshake era), with one entry and
    without any deadline: both timeouts are stopped meanwhile. It is cancelled when the call ends first. Without it
    such questions are answered with `cancel`. `progress` is called in the event loop and must not block;
    `mirrored` comes from `header_map`. `on_moved` is called when the server turns out to speak another era than the
    stored one: the call, of which nothing has run, is made in that one then, unless the stored one is pinned.
    `kept_in` says which session of the handshake era the call travels in; what it raises passes through.
    Raises an `McpError`, whose `outcome_unknown` tells whether the tool may have run.
    """
    deadline = asyncio.get_running_loop().time() + server.timeout  # a handshake on the way counts as well
    known = await _in_asked_era(server, kept_in)
    try:
        return await _call(known, name, arguments, progress, meta, mirrored, answers, ask, deadline, kept_in)
    except McpError as refusal:
        if not eras.may_have_moved(known, refusal):
            raise
        # If it speaks another era now, it has not read what the request is about: nothing has run.
        moved = await _in_its_new_era(known, refusal, deadline, kept_in)
        if on_moved is not None:
            on_moved()
        return await _call(moved, name, arguments, progress, meta, mirrored, answers, ask, deadline, kept_in)


async def _call(
    server: Server,
    name: str,
    arguments: Mapping[str, Any] | RawJson,
    progress: OnProgress | None,
    meta: Mapping[str, Any] | None,
    mirrored: wire.HeaderMap,
    answers: Answers | None,
    ask: Ask | None,
    deadline: float,
    kept_in: Sessions,
) -> ToolResult | Questions | Task:
    picked = None
    if isinstance(arguments, RawJson) and server.era == "modern" and mirrored:
        picked = await _picked(server, arguments, mirrored)
    params: dict[str, Any] = {
        "name": name,
        "arguments": arguments.fragment if isinstance(arguments, RawJson) else arguments,
    }
    if server.as_task and server.era == "legacy":
        params["task"] = {"ttl": round(server.timeout * 1000)}
    further = _carried(answers) if answers is not None and server.era == "modern" else {}
    for _ in range(MOST_REPEATS + 1):
        reply = await exchange(
            server, "tools/call", params | further, progress, meta, mirrored, deadline, ask, picked, kept_in
        )
        try:
            outcome = _outcome(server, reply)
        except McpError as error:
            error.sent = True
            error.said = error.said or reply.said
            raise
        if not isinstance(outcome, Questions) or outcome.requests:
            return outcome
        further = {"requestState": outcome.state}
    raise NeedsMore(questions.INPUT_REQUIRED, sent=True)


async def _in_its_new_era(server: Server, refusal: McpError, deadline: float, kept_in: Sessions) -> Server:
    """Return the server in the era that it speaks now.

    Raises the refusal again if that is none. If it is the same one, the refusal is about this call: an `EraChanged` is
    an `UnexpectedStatus` then.
    """
    if refusal.outcome_unknown:
        raise refusal
    try:
        async with asyncio.timeout_at(deadline):
            anew = server if server.pinned else replace(server, era="unknown")
            moved = await _in_asked_era(anew, kept_in, again=True)
    except EraPinned as pinned:
        pinned.sent = refusal.sent
        raise pinned from None
    except (DuvoError, TimeoutError):
        raise refusal from None
    if moved.era != server.era:
        return moved
    if not isinstance(refusal, EraChanged) or not refusal.status:
        raise refusal
    error = UnexpectedStatus(refusal.status, sent=refusal.sent)
    error.said = refusal.said
    raise error from None


async def _in_asked_era(server: Server, kept_in: Sessions, *, again: bool = False) -> Server:
    """Return the server with an era; the session in which it was asked is ended if calls have others."""
    known = await in_known_era(server, again=again)
    if known is not server and kept_in is not IN_THIS_PROCESS:
        in_background(sessions.close(known))
    return known


async def in_known_era(server: Server, *, again: bool = False) -> Server:
    """Return the server with an era, asking it only when none is stored, or `again`."""
    if server.era != "unknown" and not again:
        return server
    facts = await eras.discover(server)
    return replace(server, era=facts.era, protocol_version=facts.protocol_version)


async def exchange(
    server: Server,
    method: str,
    params: Mapping[str, Any],
    progress: OnProgress | None = None,
    meta: Mapping[str, Any] | None = None,
    mirrored: wire.HeaderMap = wire.NO_HEADERS,
    deadline: float | None = None,
    person: Ask | None = None,
    picked: Mapping[str, Any] | None = None,
    kept_in: Sessions = IN_THIS_PROCESS,
) -> Reply:
    """Send a request in the stored era of `server` and return the reply to it."""
    if server.era == "legacy":
        return await sessions.ask(server, method, params, meta or {}, progress, deadline, person, kept_in)
    version = wire.modern_version(server)
    request = wire.modern_request(method, params, version, meta=meta, mirrored=mirrored, picked=picked)
    return await post(server, request, listener=Listener(progress), deadline=deadline)


async def _picked(server: Server, arguments: RawJson, mirrored: wire.HeaderMap) -> dict[str, Any]:
    """Return those few of large arguments that are also sent as headers; raises `Unsendable`."""
    paths = orjson.dumps(list(mirrored))
    try:
        (picked,) = await offload.run("tools.offload_jobs:picked", arguments.json, paths, tenant=server.tenant)
    except (offload.TooMuchWork, offload.Crowded, offload.Broken) as error:
        raise Unsendable from error
    return dict(orjson.loads(picked))


def _carried(answers: Answers) -> dict[str, Any]:
    further: dict[str, Any] = {"inputResponses": answers.responses}
    return further if answers.state is None else further | {"requestState": answers.state}


def _outcome(server: Server, reply: Reply) -> ToolResult | Questions | Task:
    fault = reply.fault
    if fault is not None and fault.ours and fault.code == URL_ELICITATION_REQUIRED:
        return questions.of_refusal(fault.data)
    raw = eras.settle(reply)
    if server.era == "legacy" and raw.get("resultType") not in (questions.INPUT_REQUIRED, results.TASK):
        raw = {name: raw[name] for name in raw if name != "resultType"}  # a word of the tool's own
    if server.era == "modern":
        if raw.get("resultType") == questions.INPUT_REQUIRED:
            return questions.of_result(raw)
        if raw.get("resultType") == results.TASK:
            return results.new_task(raw)
    elif server.as_task and isinstance(raw.get("task"), dict):
        return results.new_task(results.of_2025_11(raw["task"]))
    return results.tool_result(raw, reply.large)
