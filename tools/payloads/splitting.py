"""Contents that are too large for a result are taken out of it, and links are left in their place. Pure.

Nothing is cut: result and pieces together hold all that the server sent.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

SMALL = 16 * 1024  # bytes of a result that is left alone, and of an image, audio or other Base64 in it
LARGE = 100 * 1024  # bytes of one text, or of the structured content
ALL = 1024 * 1024  # bytes of what is left of a result
BINARY = "application/octet-stream"
_TEXT = "text/plain"
_JSON = "application/json"
_MOST_OF_A_MEDIA_TYPE = 200
_MOST_BESIDE = 4 * 1024  # bytes of a block's other members, which its link repeats

# RFC 6838, section 4.2, with the plainer ones of the parameters of RFC 9110, section 5.6.6.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_PARAMETER = r"[ \t]*;[ \t]*[A-Za-z0-9!#$&^_.+-]+=(?:[A-Za-z0-9!#$&^_.+-]+|\"[A-Za-z0-9!#$&^_.+-]+\")"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:{_PARAMETER})*")
_CHARSET = re.compile(r"[ \t]*;[ \t]*charset=[^;]*", re.IGNORECASE)

Link = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One content that was taken out of a result; pieces are numbered from 1, `digest` is SHA-256 in hex."""

    number: int
    media_type: str
    data: bytes
    digest: str

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)


def split(result: dict[str, Any], *, length: int, link: Link) -> tuple[dict[str, Any], list[Piece]]:
    """Return the result with links in the place of what is too large, and the pieces that they lead to.

    `length` is that of the result as JSON, in bytes; one of at most `SMALL` comes back as it is, at no cost. `link`
    makes the URL of a piece from its number. A result in which nothing is too large is returned itself, not a copy.
    """
    if length <= SMALL:
        return result, []
    extractor = _Extractor(link)
    content = [extractor.linked(block) if _too_large(block) else block for block in result["content"] or []]
    left = dict(result)
    structured = result.get("structured_content")
    if structured is not None and len(data := orjson.dumps(structured)) > LARGE:
        left["structured_content"] = None
        left["structured_content_link"] = extractor.extract(data, _JSON, "structured_content", {})
    meta = result.get("_meta")
    if meta is not None and len(data := orjson.dumps(meta)) > LARGE:
        left["_meta"] = {"duvo/link": extractor.extract(data, _JSON, "_meta", {})}
    others = len(orjson.dumps({**left, "content": []}))
    left["content"] = _within(ALL - others, content, extractor)
    return (left, extractor.pieces) if extractor.pieces else (result, [])


def as_one(text: bytes, *, is_error: bool, link: Link) -> tuple[dict[str, Any], list[Piece]]:
    """Return a result with nothing but a link, and as its one piece the whole result, which nobody has parsed."""
    extractor = _Extractor(link)
    left = {"is_error": is_error, "content": [extractor.extract(text, _JSON, "result", {})], "structured_content": None}
    return left, extractor.pieces


def media_type(claimed: object) -> str:
    """Return the media type that a server claims if it has the form of one (RFC 6838), else `BINARY`."""
    fits = isinstance(claimed, str) and len(claimed) <= _MOST_OF_A_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(claimed)
    return str(claimed) if fits else BINARY


class _Extractor:
    """Takes contents out of a result, one after the other."""

    def __init__(self, link: Link) -> None:
        self.pieces: list[Piece] = []
        self._link = link

    def extract(self, data: bytes, kind: str, name: str, more: dict[str, Any]) -> dict[str, Any]:
        """Make a piece and return the MCP `resource_link` to it."""
        number = len(self.pieces) + 1
        piece = Piece(number, kind, data, sha256(data).hexdigest())
        self.pieces.append(piece)
        about = {"duvo/sha256": piece.digest, "duvo/kind": name, **more}
        return {
            "type": "resource_link",
            "uri": self._link(number),
            "name": f"{name}-{number}",
            "mimeType": kind,
            "size": piece.size,
            "_meta": about,
        }

    def linked(self, block: dict[str, Any]) -> dict[str, Any]:
        """Take the payload out of a block, or all of a block that has none; the link repeats its other members."""
        inner, member = _payload(block)
        if inner is None:
            return self.extract(orjson.dumps(block), _JSON, "block", {})
        name = str(block["type"])
        rest = {key: value for key, value in inner.items() if key != member}
        beside = {**block, "resource": rest} if inner is not block else rest
        if not _fits_in_a_link(beside):
            return self.extract(orjson.dumps(block), _JSON, name, {})
        data, claimed = _bytes_of(inner[member], inner.get("mimeType"), text=member == "text")
        link = self.extract(data, claimed, name, {"duvo/block": beside})
        if isinstance(annotations := block.get("annotations"), dict):
            link["annotations"] = annotations
        return link


def _fits_in_a_link(beside: dict[str, Any]) -> bool:
    try:
        return len(orjson.dumps([[[[beside]]]])) <= _MOST_BESIDE
    except TypeError:  # nested as deeply as JSON may be, and a link would nest it deeper
        return False


def _payload(block: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the object that holds a block's payload, and that member's name; None for a block of another kind."""
    match block:
        case {"type": "text", "text": str()}:
            return block, "text"
        case {"type": "image" | "audio", "data": str()}:
            return block, "data"
        case {"type": "resource", "resource": {"text": str()} as resource} if "blob" not in resource:
            return resource, "text"
        case {"type": "resource", "resource": {"blob": str()} as resource} if "text" not in resource:
            return resource, "blob"
    return None, ""


def _too_large(block: dict[str, Any]) -> bool:
    inner, member = _payload(block)
    if inner is None:
        return False  # unless all blocks together are too large
    return len(inner[member].encode()) > (LARGE if member == "text" else SMALL)


def _bytes_of(payload: str, claimed: object, *, text: bool) -> tuple[bytes, str]:
    """Return the bytes of a payload and their media type; invalid Base64 (RFC 4648) is kept as text."""
    if text:
        return payload.encode(), _CHARSET.sub("", media_type(claimed)) if claimed is not None else _TEXT
    try:
        return b64decode(payload, validate=True), media_type(claimed)
    except (NotBase64, ValueError):
        return payload.encode(), _TEXT


def _within(most: int, content: list[dict[str, Any]], extractor: _Extractor) -> list[dict[str, Any]]:
    """Return blocks that together stay within `most` bytes: the largest become links, at last all of them one link."""
    sizes = [len(orjson.dumps(block)) for block in content]
    total = sum(sizes) + len(sizes)
    for index in sorted(range(len(content)), key=lambda index: -sizes[index]):
        if total <= most or sizes[index] <= SMALL:
            break
        content[index] = extractor.linked(content[index])
        total += len(orjson.dumps(content[index])) - sizes[index]
    if total <= most or not content:
        return content
    return [extractor.extract(orjson.dumps(content), _JSON, "content", {})]
