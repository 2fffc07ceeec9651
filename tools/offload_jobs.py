"""What is done in a process apart, with bytes that strangers wrote: see `connections.offload`. Nothing of Django here.

compile    a schema, to see whether that can be done
check      a value against a schema
body       the body of a request, to the one member that it may have
in_order   a value with its members in order, as digests are made of it
picked     the few members of arguments that are sent as headers, too
answer     a server's answer, to the little that is decided upon and the result as it is kept
split      a result, to what stays and what is linked
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, Final

import orjson

from tools.definitions import schemas
from tools.payloads import splitting, untrusted

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
    """Return the faults of a body as JSON (nothing for one that is no JSON), and its member as it is written anew."""
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
    """Return a value with the members of its objects in order."""
    return [orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)]


def picked(value: bytes, paths: bytes) -> list[bytes]:
    """Return an object with nothing but the members at the paths that are no objects or lists themselves."""
    whole, chosen = orjson.loads(value), dict[str, Any]()
    for path in orjson.loads(paths):
        node: Any = whole
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if node is None or isinstance(node, dict | list):
            continue
        place = chosen
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = node
    return [orjson.dumps(chosen)]


def answer(text: bytes, method: bytes) -> list[bytes]:
    """Return a server's message without the content of its result, and that as `ToolResult.large` has it.

    The first part is empty for what is no JSON or too deep, or too large without its content.
    """
    try:
        message = untrusted.read(text)
    except ValueError:
        return [b"", b""]
    large = b""
    result = message.get("result") if isinstance(message, dict) else None
    # The result of a task stands in the answer to the look at it.
    holder = result.get("result") if isinstance(result, dict) and method == b"tasks/get" else result
    if isinstance(holder, dict) and holder.get("resultType", "complete") == "complete":
        content = holder.get("content", [])
        if untrusted.are_blocks(content):
            large = _kept(
                {
                    "is_error": holder.get("isError") is True,
                    "content": content,
                    "structured_content": holder.get("structuredContent"),
                }
            )
        holder.pop("structuredContent", None)
        if "content" in holder:  # what is no list of blocks stays recognizable as that
            holder["content"] = [] if large else None
    beside = orjson.dumps(message)
    return [beside, large] if len(beside) <= MOST_BESIDE else [b"", b""]


def split(result: bytes, address: bytes) -> list[bytes]:
    """Return what is left of a result, what there is to know of each piece as JSON, and the pieces' bytes.

    `address` is the beginning of the pieces' addresses.
    """
    beginning = address.decode()
    left, pieces = splitting.split(orjson.loads(result), length=len(result), link=lambda number: f"{beginning}{number}")
    known = [[piece.number, piece.media_type, piece.digest] for piece in pieces]
    return [_kept(left), orjson.dumps(known), *(piece.data for piece in pieces)]


def _kept(result: dict[str, Any]) -> bytes:
    """Write a result with all its members, in the order by which `tools.models.calls` knows that none is missing."""
    names = ("is_error", "structured_content_link", "content", "structured_content")
    return orjson.dumps({name: result.get(name) for name in names})


@lru_cache(maxsize=4)
def _compiled(schema: bytes) -> schemas.Validator:
    return schemas.compile(orjson.loads(schema))
