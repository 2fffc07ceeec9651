"""Listing the tools of a server: every page, and broken tools set aside one by one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final

import orjson
from mcp_types import METHOD_NOT_FOUND, SERVER_INFO_META_KEY

from connections.offload import Broken, Crowded, TooMuchWork
from tools.definitions import checks, reading
from tools.mcp_client import eras, handshake, sessions, wire
from tools.mcp_client.calling import exchange, in_known_era
from tools.mcp_client.errors import BadAnswer, EraChanged, ListingNeverEnds, ListingTooLarge, RpcError, UnexpectedStatus
from tools.mcp_client.responses import Reply
from tools.mcp_client.sdk_headers import find_invalid_x_mcp_header
from tools.mcp_client.shapes import ListedTool, Listing, Server, ServerFacts
from tools.payloads.tool_results import seen

MAX_PAGES: Final = 200
MAX_TOOLS: Final = 5_000
MAX_BYTES: Final = 10_000_000  # over all pages, whatever the limit for the answers of calls is
MAX_DEFINITION: Final = 64 * 1024  # bytes of one tool's definition as JSON
MAX_NAME: Final = 128
MOST_FAILURES: Final = 5  # of schemas that took too long to compile, after which no other one is tried
MOST_SECONDS: Final = 20.0  # of CPU time for the schemas of one listing
MIN_TIMEOUT: Final = 120.0  # seconds a listing of many pages is given, also where calls get less
_MOST_EXACT: Final = 2.0**53  # of a cursor that was read as a float
_NO_OBJECT: Final = "The definition is not a JSON object."
_DISPENSABLE: Final = ("_meta", "icons", "outputSchema")
_USED: Final = ("name", "title", "description", "inputSchema")


async def list_tools(server: Server) -> Listing:
    """List every tool of a server, page by page; a broken tool is set aside and does not affect the others.

    Raises `ListingTooLarge` past 5,000 tools or 10 MB, `ListingNeverEnds` past 200 pages, and every `McpError`.
    """
    server = replace(await in_known_era(server), max_bytes=MAX_BYTES)
    deadline = asyncio.get_running_loop().time() + max(server.timeout, MIN_TIMEOUT)
    listed: list[Any] = []
    names: set[str] = set()
    cursors: set[str | int] = set()
    size = 0
    params: dict[str, Any] = {}
    for page in range(1, MAX_PAGES + 1):
        reply = await exchange(server, "tools/list", params, deadline=deadline)
        result = _settled(reply)
        size += reply.size
        tools = reading.tools(result.get("tools"))
        if not isinstance(tools, list):
            raise BadAnswer(f"The server's list of tools is no list: it is {seen(tools)}.")
        cursor = _next_cursor(server, result)
        fresh = _names(tools) - names
        # A cursor that came before leads to what came before, unless the server counts the pages by itself.
        again = cursor in cursors and not fresh
        if not again:
            listed.extend(tools)
        if len(listed) > MAX_TOOLS or size > MAX_BYTES:
            raise ListingTooLarge
        if cursor is None or again:
            # In a thread: thousands of schemas take a second, and the event loop is needed for calls.
            modern = server.era == "modern"
            good, broken = await asyncio.to_thread(sort_out, listed, modern=modern, tenant=server.tenant)
            return Listing(good, broken, await _facts(server, result), page, _whole(result.get("ttlMs")))
        names |= fresh
        cursors.add(cursor)
        params = {"cursor": cursor}
    raise ListingNeverEnds


def _settled(reply: Reply) -> dict[str, Any]:
    """Return the result of one page; raises an `RpcError` that says so where the server has no tools at all.

    The era has just been asked for: who refuses the list all the same refuses that, which is an `UnexpectedStatus`.
    """
    try:
        return eras.settle(reply)
    except EraChanged as refusal:
        if reply.status < HTTPStatus.BAD_REQUEST or not refusal.status:
            raise
        error = UnexpectedStatus(reply.status)
        error.said = reply.said
        raise error from refusal
    except UnexpectedStatus as error:
        error.said = reply.said
        raise
    except RpcError as error:
        if error.rpc_code == METHOD_NOT_FOUND:
            error.code = "no_tools"
            error.sentence = f"The server offers no tools: it does not know `tools/list` (code {METHOD_NOT_FOUND})."
        raise


def _next_cursor(server: Server, result: dict[str, Any]) -> str | int | None:
    """Return the cursor of the next page, a number as it is; the last page of the handshake era may have one, too.

    There it is empty, 0 or false. Raises `BadAnswer` for what cannot be sent back.
    """
    cursor = result.get("nextCursor")
    if cursor in (None, False, 0, [], {}):
        return None
    if isinstance(cursor, float) and cursor.is_integer() and abs(cursor) < _MOST_EXACT:
        cursor = int(cursor)
    if isinstance(cursor, bool) or not isinstance(cursor, str | int):
        raise BadAnswer(f"The server's cursor to the next page of tools is no text: it is {seen(cursor)}.")
    return None if not cursor and server.era == "legacy" else cursor


def _names(tools: list[Any]) -> set[str]:
    return {tool["name"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)}


def sort_out(
    definitions: list[Any], *, modern: bool, tenant: object = None
) -> tuple[list[ListedTool], list[ListedTool]]:
    """Divide definitions into the usable tools and those set aside, each of the latter with its reason."""
    compiler = _Compiler(tenant)
    good: list[ListedTool] = []
    broken: list[ListedTool] = []
    seen: set[str] = set()
    for position, definition in enumerate(definitions, start=1):
        given = definition if isinstance(definition, dict) else {"definition": definition}
        whole, mended = _storable(_small(given))
        name = whole.get("name")
        label = name[:MAX_NAME] if isinstance(name, str) and name else f"#{position}"
        stub = _stub(label, whole)
        if stub is not None:
            whole, reason = stub, f"The definition is larger than {MAX_DEFINITION // 1024} KB, the most that is kept."
        elif mended:
            reason = "The definition contains a NUL character."
        else:
            whole = reading.read(whole)
            reason = _fault(whole, modern, compiler) if given is definition else _NO_OBJECT
        if not reason and label in seen:
            reason = "Another tool of this server has the same name."
        if reason:
            broken.append(ListedTool(label, whole, reason))
        else:
            seen.add(label)
            good.append(ListedTool(label, whole))
    return good, broken


class _Compiler:
    """Compiles the schemas of one listing; after too many failures, or too much CPU time, it refuses all others."""

    def __init__(self, tenant: object) -> None:
        self._tenant = tenant
        self._failures = 0
        self._seconds = 0.0

    def fault(self, schema: Any) -> str:
        """Return why a schema cannot be used, or an empty string."""
        if self._failures >= MOST_FAILURES or self._seconds > MOST_SECONDS:
            return "The schemas of this server take too long to compile."
        try:
            fault, seconds = checks.fault_of(schema, tenant=self._tenant)
        except (TooMuchWork, Crowded, Broken):
            self._failures += 1
            return checks.TOO_EXPENSIVE
        self._seconds += seconds
        return fault


def fault_of(definition: Any, *, modern: bool) -> str:
    """Return why a tool cannot be used, or an empty string; what of its definition is not used never decides."""
    return _fault(reading.read(definition), modern, _Compiler(None)) if isinstance(definition, dict) else _NO_OBJECT


def _fault(definition: dict[str, Any], modern: bool, compiler: _Compiler) -> str:
    name = definition.get("name")
    if not isinstance(name, str) or not name:
        return "The tool has no name."
    if len(name) > MAX_NAME or not name.isprintable():
        return f"The name is longer than {MAX_NAME} characters or not printable."
    if not isinstance(definition.get("description", ""), str):
        return "The description is not text."
    fault = _schema_fault(definition, compiler)
    return fault or (_header_fault(definition) if modern else "")


def _small(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition without what nobody needs of it, if it is too large to store with that."""
    for member in _DISPENSABLE:
        if len(orjson.dumps(definition)) <= MAX_DEFINITION:
            break
        definition = {name: each for name, each in definition.items() if name != member}
    return definition


def _stub(label: str, definition: dict[str, Any]) -> dict[str, Any] | None:
    """Return a stand-in for a definition that is too large to store, which changes when it does; None if it is not."""
    size = len(orjson.dumps(definition))
    if size <= MAX_DEFINITION:
        return None
    digest = sha256(orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return {"name": label, "description": f"Not kept: its definition has {size:,} bytes, SHA-256 {digest}."}


def _storable(definition: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the definition without NUL characters, which PostgreSQL cannot store, and whether what is used had any."""
    if b"\\u0000" not in orjson.dumps(definition):
        return definition, False
    mended: dict[str, Any] = _without_nul(definition)
    return mended, any(mended.get(name) != definition.get(name) for name in _USED)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(member) for key, member in value.items()}
    return [_without_nul(member) for member in value] if isinstance(value, list) else value


def _schema_fault(definition: dict[str, Any], compiler: _Compiler) -> str:
    if "inputSchema" not in definition:
        return "The definition has no `inputSchema`."
    schema = definition["inputSchema"]
    kind = schema.get("type", "object") if isinstance(schema, dict) else "object"
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return "inputSchema: The schema does not describe an object."
    fault = compiler.fault(schema)
    return f"inputSchema: {fault}" if fault else ""


def _header_fault(definition: dict[str, Any]) -> str:
    fault = find_invalid_x_mcp_header(definition["inputSchema"])
    return f"inputSchema: {fault[:300]}" if fault else ""


async def _facts(server: Server, result: dict[str, Any]) -> ServerFacts:
    if server.era == "legacy":
        return (await sessions.open_for(server)).facts
    meta = result.get("_meta")
    info = meta.get(SERVER_INFO_META_KEY) if isinstance(meta, dict) else None
    return handshake.facts_from(info, wire.modern_version(server), "modern")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
