"""How a tool's answer is kept: what is small in the call's row, and what is too large for it beside, behind a link."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from uuid import UUID

import orjson

from connections import offload
from tools.calls import contents
from tools.mcp_client import ToolResult
from tools.models import StoredContent
from tools.payloads.raw_json import Json, RawJson, encode

_SPLIT_IN_THREAD = 256 * 1024  # bytes; a larger result would hold the event loop for milliseconds
_SPLIT_SECONDS = 10.0  # of CPU time, for the largest result

logger = logging.getLogger(__name__)

# A result as its caller gets it, as it is stored in the row, and the rows of what is stored beside it.
StoredResult = tuple[Json, bytes, list[StoredContent]]


def as_answered(response: ToolResult) -> Json:
    """Return what a tool has answered as its caller gets it."""
    if response.large:
        return RawJson(response.large)
    meta = {} if response.raw.get("_meta") is None else {"_meta": response.raw["_meta"]}
    return {
        "is_error": response.is_error,
        "content": response.content,
        "structured_content": response.structured,
        **meta,
    }


async def stored(call_id: UUID, tenant_id: UUID, result: Json) -> StoredResult:
    """Return a result as its caller gets it, as it is stored in the row, and the rows of what is too large for it."""
    if isinstance(result, RawJson):
        left, pieces = await _split_apart(call_id, tenant_id, result)
    else:
        link, length = partial(contents.address, call_id), len(text := encode(result))
        split = partial(contents.split, result, length=length, link=link)
        left, pieces = split() if length < _SPLIT_IN_THREAD else await asyncio.to_thread(split)
        if not pieces:
            return left, text, []
    stored = await asyncio.to_thread(contents.sealed, call_id, tenant_id, pieces) if pieces else []
    return left, encode(left), stored


async def _split_apart(call_id: UUID, tenant_id: UUID, result: RawJson) -> tuple[Json, list[contents.Piece]]:
    """Split a large result in a separate process; one that cannot be split is kept as one piece."""
    address = contents.address(call_id, "").encode()
    is_error, link = result.json.startswith(b'{"is_error":true'), partial(contents.address, call_id)
    try:
        left, known, *data = await offload.run(
            "tools.offload_jobs:split",
            result.json,
            address,
            tenant=str(tenant_id),
            seconds=_SPLIT_SECONDS,
            patient=True,
        )
    except (offload.TooMuchWork, offload.Crowded, offload.Broken):
        logger.exception("The result of call %s could not be split", call_id)
        return await asyncio.to_thread(contents.as_one, result.json, is_error=is_error, link=link)
    pieces = [
        contents.Piece(number, media_type, part, digest)
        for (number, media_type, digest), part in zip(orjson.loads(known), data, strict=True)
    ]
    return RawJson(left), pieces
