"""The result of a tool as servers write it, read as what it says wherever that can be only one thing. Pure.

The content is a list of blocks (2026-07-28, `CallToolResult`); in the field it is also null, text, one block, the
`toolResult` of 2024, or the tool's value itself as the result; SDKs that write their own objects say `is_error` and
`structured_content`. What could be read in two ways is `Unusable`; what is left out is told in a note.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

NOTES: Final = "duvo/notes"  # the member of `_meta` that says what was changed in reading
NOT_FINITE: Final = "Numbers that JSON cannot hold (NaN, Infinity) were read as null."
_ENVELOPE: Final = "io.modelcontextprotocol/serverInfo"  # who answered, in every answer: it says nothing of the result
LEFT_OUT: Final = "Members beside the content were left out: {}."
_NOT_THE_VALUE: Final = frozenset(
    {
        "_meta", "cacheScope", "content", "inputRequests", "isError", "requestState", "resultType",
        "structuredContent", "task", "toolResult", "ttlMs",
    }
)  # fmt: skip
_SPELLINGS: Final = {
    "is_error": "isError",
    "result_type": "resultType",
    "structured_content": "structuredContent",
    "tool_result": "toolResult",
}
_BESIDE_CONTENT: Final = {**_SPELLINGS, "meta": "_meta"}
_MOST_NAMED: Final = 10  # members that a note names
_LONGEST_NAME: Final = 50
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
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
    content = _numbered(content)
    if isinstance(content, list):
        return [_block(block) for block in content if block is not None]
    if isinstance(content, str) or _is_block(content):
        return [_block(content)]
    about = "an object that is no block" if isinstance(content, dict) else seen(content)
    raise Unusable(f"it is {about}", {} if isinstance(content, dict) else content)


def _numbered(content: Any) -> Any:
    """Return the list that PHP wrote as an object because numbers were missing, and other content as it is."""
    if isinstance(content, dict) and content and all(map(_NUMBER.fullmatch, content)):
        return [content[name] for name in sorted(content, key=int)]
    return content


def content_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a result, also of one that has no such member; raises Unusable."""
    plain = _plain(result)
    if (old := plain.get("toolResult")) is not None and "content" not in plain:
        return _of_value(old)
    value = _value_itself(plain)
    return blocks(plain.get("content")) if value is None else _of_value(value)


def structured_of(result: dict[str, Any]) -> Any:
    """Return the structured content of a result."""
    plain = _plain(result)
    old = plain.get("toolResult")
    if "content" not in plain and isinstance(old, dict):
        return plain.get("structuredContent", old)
    value = _value_itself(plain)
    return plain.get("structuredContent") if value is None else value


def without_content(result: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a result that are none of its content, of its structured content and its `_meta`."""
    gone = {"content", "structuredContent", "toolResult", "_meta", *(_value_itself(_plain(result)) or ())}
    return {name: member for name, member in result.items() if _BESIDE_CONTENT.get(name, name) not in gone}


def is_error(result: dict[str, Any]) -> bool:
    """Tell whether the tool reports an error, also as text or number; of several members one that says so is enough."""
    old = result.get("toolResult", result.get("tool_result")) if "content" not in result else None
    held = [each for each in (result, old) if isinstance(each, dict)]
    return any(_yes(each.get(name)) for each in held for name in ("isError", "is_error"))


def meta_of(result: dict[str, Any], *, not_finite: bool) -> dict[str, Any] | None:
    """Return the `_meta` of a result, None for an empty one, with notes about what was changed in reading."""
    plain = _plain(result)
    sent = plain.get("_meta")
    about = sent if isinstance(sent, dict) else {}
    meta = {name: about[name] for name in about if name != _ENVELOPE and not name.startswith(_OURS)}
    notes = [NOT_FINITE] if not_finite else []
    held = plain.get("content") or plain.get("structuredContent") is not None
    if held and (odd := plain.keys() - _NOT_THE_VALUE):
        named = ", ".join(name[:_LONGEST_NAME] for name in sorted(odd)[:_MOST_NAMED])
        notes.append(LEFT_OUT.format(named + (", …" if len(odd) > _MOST_NAMED else "")))
    if notes:
        meta[NOTES] = notes
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


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the protocol's names for its members, and what a `toolResult` with content holds as its own.

    A member `meta` may be data of the tool, unless there is content beside it.
    """
    named = _named(result)
    old = named.get("toolResult")
    if "content" in named or not isinstance(old, dict):
        return named
    inner = _named(old)
    if inner.keys().isdisjoint({"content", "structuredContent"}):
        return named
    metas = [meta for meta in (inner.get("_meta"), named.pop("_meta", None)) if isinstance(meta, dict)]
    meta = {name: meta[name] for meta in metas for name in meta}
    del named["toolResult"]
    return {**named, "content": None, **inner, "_meta": meta}


def _named(result: dict[str, Any]) -> dict[str, Any]:
    spellings = _BESIDE_CONTENT if "content" in result else _SPELLINGS
    if spellings.keys().isdisjoint(result):
        return dict(result)
    odd = {name: spellings[name] for name in spellings if name in result and result.get(spellings[name]) is None}
    others = {name: member for name, member in result.items() if name not in spellings}
    return others | {right: result[name] for name, right in odd.items()}


def _value_itself(result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the value that a server gave as the result, without the members that hold one; None if there is none."""
    if result.get("content") not in (None, []) or any(
        result.get(name) is not None for name in ("structuredContent", "toolResult")
    ):
        return None
    if isinstance(task := result.get("task"), dict) and "taskId" in task:  # of 2025-11-25: it goes on
        return None
    return {name: member for name, member in result.items() if name not in _NOT_THE_VALUE or name == "task"} or None


def _of_value(value: Any) -> list[dict[str, Any]]:
    readable = value is None or isinstance(value, str) or _is_block(value)
    return blocks(value if readable else orjson.dumps(value).decode())


def _yes(flag: Any) -> bool:
    if isinstance(flag, str):
        return flag.strip().lower() in ("true", "1")
    return isinstance(flag, bool | int | float) and flag == 1


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
