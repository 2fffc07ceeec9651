"""Jobs that run in a separate process, on untrusted bytes: see `connections.offload`. Nothing here imports Django.

compile    tells whether a schema can be compiled
check      checks a value against a schema
body       checks the body of a request, and returns the one member that it may have
in_order   sorts the members of a value, for digests
picked     returns the few members of arguments that are also sent as headers
answer     divides a server's response into the members that decide what happens next, and the result as it is stored
split      divides a result into what stays in it, and the pieces that it links to
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, Final

import orjson

from tools.definitions import schemas
from tools.payloads import splitting, tool_results, untrusted

MOST_BESIDE: Final = 256 * 1024  # bytes of a server's answer without its content


def compile(schema: bytes) -> list[bytes]:  # noqa: A001 - as in `schemas`
    """Return why a schema cannot be used, or nothing, and the seconds of CPU time that this took."""
    reason, began = "", time.process_time()
    try:
        _compiled(schema)
    except schemas.SchemaBroken as broken:
        reason = broken.sentence
    return [reason.encode(), b"%f" % (time.process_time() - began)]


def check(schema: bytes, value: bytes) -> list[bytes]:
    """Return the faults of a value as JSON: pairs of a pointer and a message."""
    faults = _compiled(schema).faults(orjson.loads(value))
    return [orjson.dumps([[fault.pointer, fault.message] for fault in faults])]


def body(text: bytes, name: bytes, not_an_object: bytes) -> list[bytes]:
    """Return the faults of a body as JSON (empty for a body that is not JSON), and its member, serialized again."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [b"", b""]
    member = name.decode()
    if faults := untrusted.member_faults(value, member, not_an_object.decode()):
        return [orjson.dumps(faults), b""]
    try:
        return [b"[]", orjson.dumps(value.get(member, {}))]
    except TypeError:
        too_deep = {"pointer": f"/{member}", "code": "schema", "detail": "This is nested too deeply."}
        return [orjson.dumps([too_deep]), b""]


def in_order(value: bytes) -> list[bytes]:
    """Return a value with the members of its objects sorted by name."""
    return [orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)]


def picked(value: bytes, paths: bytes) -> list[bytes]:
    """Return an object with only the members at these paths; those that are objects or lists are left out."""
    whole, chosen = orjson.loads(value), dict[str, Any]()
    for path in orjson.loads(paths):
        node: Any = whole
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if node is None or isinstance(node, dict | list):
            continue
        target = chosen
        for step in path[:-1]:
            target = target.setdefault(step, {})
        target[path[-1]] = node
    return [orjson.dumps(chosen)]


def answer(text: bytes, method: bytes) -> list[bytes]:
    """Return a server's message without the content of its result, and the result as JSON (see `ToolResult.large`).

    The message is empty if it is not JSON, nested too deeply, or too large even without that content.
    """
    try:
        message, not_finite = untrusted.read_noting(text)
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
            large = _kept(
                {
                    "is_error": tool_results.is_error(holder),
                    "content": tool_results.content_of(holder),
                    "structured_content": tool_results.structured_of(holder),
                    "_meta": tool_results.meta_of(holder, not_finite=not_finite),
                }
            )
        except tool_results.Unusable as unusable:
            content = unusable.example  # by which the caller finds out why
        for name in ("structuredContent", "toolResult", "_meta"):
            holder.pop(name, None)
        holder["content"] = content
    beside = orjson.dumps(message)
    return [beside, large] if len(beside) <= MOST_BESIDE else [b"", b""]


def split(result: bytes, address: bytes) -> list[bytes]:
    """Return the rest of a result; as JSON number, media type and digest of each piece; and the bytes of each piece.

    `address` is what the pieces' URLs begin with.
    """
    beginning = address.decode()
    left, pieces = splitting.split(orjson.loads(result), length=len(result), link=lambda number: f"{beginning}{number}")
    known = [[piece.number, piece.media_type, piece.digest] for piece in pieces]
    return [_kept(left), orjson.dumps(known), *(piece.data for piece in pieces)]


def _kept(result: dict[str, Any]) -> bytes:
    """Serialize a result with all its members, in an order by which `tools.models.calls` sees that none is missing."""
    names = ("is_error", "structured_content_link", "content", "structured_content")
    meta = {} if result.get("_meta") is None else {"_meta": result["_meta"]}
    return orjson.dumps({name: result.get(name) for name in names} | meta)


@lru_cache(maxsize=4)
def _compiled(schema: bytes) -> schemas.Validator:
    return schemas.compile(orjson.loads(schema))
