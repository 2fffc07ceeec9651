"""A server's answer to a call, divided: what decides how the call goes on, and the result as it is stored. Pure.

The result is written as it was sent, numbers included, and is never parsed on the event loop where it is large.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from tools.payloads import untrusted
from tools.payloads.tool_results import Unusable, content_of, is_error, meta_of, structured_of, without_content

MOST_BESIDE: Final = 256 * 1024  # bytes of a server's answer without its content


def divide(text: bytes, method: bytes) -> list[bytes]:
    """Return a server's message without the content of its result, and the result as JSON (see `ToolResult.large`).

    The message is empty if it is not JSON, nested too deeply, or too large even without that content.
    """
    try:
        message, not_finite = untrusted.read_noting(text, exactly=True)
    except ValueError:
        return [b"", b""]
    large = b""
    if isinstance(message, list) and len(message) == 1:
        (message,) = message
    result = message.get("result") if isinstance(message, dict) else None
    if method == b"tools/call" and isinstance(result, str | list):
        result = message["result"] = {"content": result}
    # The result of a task is a member of the result of `tasks/get`.
    holder = result.get("result") if isinstance(result, dict) and method == b"tasks/get" else result
    if isinstance(holder, dict) and holder.get("resultType", "complete") == "complete":
        content: Any = []
        try:
            large = kept(
                {
                    "is_error": is_error(holder),
                    "content": content_of(holder),
                    "structured_content": structured_of(holder),
                    "_meta": meta_of(holder, not_finite=not_finite),
                }
            )
        except Unusable as unusable:
            content = unusable.example  # by which the caller finds out why
        rest, failed = without_content(holder), is_error(holder)
        holder.clear()
        holder.update(rest, content=content, isError=failed)
    beside = orjson.dumps(message)
    return [beside, large] if len(beside) <= MOST_BESIDE else [b"", b""]


def kept(result: dict[str, Any]) -> bytes:
    """Serialize a result with all its members, in an order by which `tools.models.calls` sees that none is missing."""
    names = ("is_error", "structured_content_link", "content", "structured_content")
    meta = {} if result.get("_meta") is None else {"_meta": result["_meta"]}
    return orjson.dumps({name: result.get(name) for name in names} | meta)
