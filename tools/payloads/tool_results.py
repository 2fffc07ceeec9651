"""The result of a tool as servers write it, read as what it says wherever that can be only one thing. Pure.

The content is a list of blocks (2026-07-28, `CallToolResult`); in the field it is also null, text, one block, the
`toolResult` of 2024, or the tool's value itself as the result. What could be read in two ways is `Unusable`.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

NOTES: Final = "duvo/notes"  # the member of `_meta` that says what was changed in reading
NOT_FINITE: Final = "Numbers that JSON cannot hold (NaN, Infinity) were read as null."
_ENVELOPE: Final = "io.modelcontextprotocol/serverInfo"  # who answered, in every answer: it says nothing of the result
_NOT_THE_VALUE: Final = frozenset({"_meta", "content", "isError", "resultType", "structuredContent", "toolResult"})
_OURS: Final = "duvo/"  # what members of `_meta` that are ours begin with


class Unusable(ValueError):
    """This content cannot be read in one way only; `example` is a short one that cannot be read for the same reason."""

    def __init__(self, seen: str, example: Any) -> None:
        """Take what was seen instead of blocks."""
        super().__init__(f"The tool's answer has no list of content blocks: {seen}.")
        self.example = example


def blocks(content: Any) -> list[dict[str, Any]]:
    """Return content as blocks; raises Unusable."""
    if content is None:
        return []
    if isinstance(content, list):
        return [_block(block) for block in content if block is not None]
    if isinstance(content, str) or _is_block(content):
        return [_block(content)]
    about = "an object that is no block" if isinstance(content, dict) else seen(content)
    raise Unusable(f"it is {about}", {} if isinstance(content, dict) else content)


def content_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a result, also of one that has no such member; raises Unusable."""
    old = result.get("toolResult")
    if old is not None and "content" not in result:
        return blocks(old["content"]) if isinstance(old, dict) and "content" in old else _of_value(old)
    value = _value_itself(result)
    return blocks(result.get("content")) if value is None else _of_value(value)


def structured_of(result: dict[str, Any]) -> Any:
    """Return the structured content of a result."""
    old = result.get("toolResult")
    if "content" in result or not isinstance(old, dict):
        value = _value_itself(result)
        return result.get("structuredContent") if value is None else value
    return old.get("structuredContent") if "content" in old else result.get("structuredContent", old)


def without_content(result: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a result that are none of its content, of its structured content and its `_meta`."""
    gone = {"content", "structuredContent", "toolResult", "_meta", *(_value_itself(result) or ())}
    return {name: member for name, member in result.items() if name not in gone}


def is_error(result: dict[str, Any]) -> bool:
    """Tell whether the tool reports an error, also as text or number."""
    old = result.get("toolResult")
    inner = old.get("isError") if "content" not in result and isinstance(old, dict) else None
    return any(_yes(flag) for flag in (result.get("isError"), inner))


def meta_of(result: dict[str, Any], *, not_finite: bool) -> dict[str, Any] | None:
    """Return the `_meta` of a result, None for an empty one, with a note if numbers were `not_finite`."""
    sent = result.get("_meta")
    about = sent if isinstance(sent, dict) else {}
    meta = {name: about[name] for name in about if name != _ENVELOPE and not name.startswith(_OURS)}
    if not_finite:
        meta[NOTES] = [NOT_FINITE]
    return meta or None


def seen(value: Any) -> str:
    """Return in words what kind of JSON this is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return "a number"


def _value_itself(result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the value that a server gave as the result, without the members that hold one; None if there is none."""
    if any(result.get(name) is not None for name in ("content", "structuredContent", "toolResult")):
        return None
    if isinstance(task := result.get("task"), dict) and "taskId" in task:  # of 2025-11-25: it goes on
        return None
    return {name: member for name, member in result.items() if name not in _NOT_THE_VALUE} or None


def _of_value(value: Any) -> list[dict[str, Any]]:
    readable = value is None or isinstance(value, str) or _is_block(value)
    return blocks(value if readable else orjson.dumps(value).decode())


def _yes(flag: Any) -> bool:
    if isinstance(flag, str):
        return flag.strip().lower() in ("true", "1")
    return isinstance(flag, bool | int) and flag == 1


def _block(block: Any) -> dict[str, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if not isinstance(block, dict):
        raise Unusable(f"one of them is {seen(block)}", [[] if isinstance(block, list) else block])
    if block.get("type") == "text" and not isinstance(text := block.get("text"), str):
        return {**block, "text": "" if text is None else orjson.dumps(text).decode()}
    return {"type": "text", **block} if "type" not in block and _is_block(block) else block


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and (isinstance(value.get("type"), str) or isinstance(value.get("text"), str))
