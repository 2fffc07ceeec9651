"""Arguments and results of calls as a page shows them: text as text; images, sounds and links are only named."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.template.defaultfilters import filesizeformat

from tools.definitions.difference import CUT, pretty, visible
from tools.payloads.raw_json import Json, RawJson

MOST_BLOCKS = 200  # of one result on a page
MOST_TOGETHER = 500_000  # characters of all of them
_MOST_SHOWN = 16 * 1024  # bytes of large arguments


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a result: its title, its text, and the URL of our own copy, if there is one."""

    title: str
    text: str
    link: str = ""


def readable(arguments: Json) -> str:
    """Return arguments as text; of large ones only the beginning of their JSON, which ends with `CUT`."""
    if not isinstance(arguments, RawJson):
        return pretty(arguments)
    return visible(arguments.json[:_MOST_SHOWN].decode("utf-8", "replace")) + CUT


def blocks_of(result: dict[str, Any], copies: dict[str, str]) -> list[Block]:
    """Return a result's content and structured content; `copies` maps the links to stored contents to URLs of pages.

    What is more than a page may hold is left out or ends with `CUT`; `is_whole` tells whether there was nothing.
    """
    left, shown = MOST_TOGETHER, list[Block]()
    if words := result.get("server_message"):
        shown.append(Block("The server's own words", visible(str(words), keep="\n\t")))
    content = result.get("content") or []
    for block in islice(content, MOST_BLOCKS):
        shown.append(_block(block, copies, max(left, 0)))
        left -= len(shown[-1].text)
    if len(content) > MOST_BLOCKS:
        shown.append(Block("And more", f"{len(content) - MOST_BLOCKS} further parts{CUT}"))
    if result.get("structured_content") is not None:
        shown.append(Block("Structured content", pretty(result["structured_content"], max(left, 0))))
    if result.get("_meta") is not None:
        shown.append(Block("About the result (_meta)", pretty(result["_meta"], max(left, 0))))
    if link := result.get("structured_content_link"):
        shown.append(_stored("Structured content", link, copies))
    return shown


def is_whole(*texts: str) -> bool:
    """Tell whether these texts of a page hold all that there is."""
    return not any(text.endswith(CUT) for text in texts)


def _block(block: dict[str, Any], copies: dict[str, str], most: int) -> Block:
    match block:
        case {"type": "text", "text": str(text)}:
            return Block("Text", visible(text, keep="\n\t", most=most))
        case {"type": "image" | "audio" as kind, "data": str(data)}:
            return Block(kind.capitalize(), f"{_named(block.get('mimeType'))}, {_size(len(data) * 3 // 4)}, not shown")
        case {"type": "resource_link", "uri": str(uri)} if uri in copies:
            return _stored("Stored content", block, copies)
        case {"type": "resource_link", "uri": str(uri)}:
            return Block("Link by the server, not opened", visible(uri, most=most))
        case {"type": "resource", "resource": {"text": str(text)} as resource}:
            return Block(f"Resource {_named(resource.get('uri'))}", visible(text, keep="\n\t", most=most))
        case {"type": "resource", "resource": {"blob": str(blob)} as resource}:
            about = f"{_named(resource.get('mimeType'))}, {_size(len(blob) * 3 // 4)}, not shown"
            return Block(f"Resource {_named(resource.get('uri'))}", about)
    return Block(_named(block.get("type")).capitalize(), pretty(block, most))


def _stored(title: str, link: dict[str, Any], copies: dict[str, str]) -> Block:
    about = f"{_named(link.get('mimeType'))}, {_size(link.get('size'))}"
    return Block(title, about, copies.get(str(link.get("uri")), ""))


def _named(value: object) -> str:
    return visible(value[:200])[:200] if isinstance(value, str) else "of no type"


def _size(size: object) -> str:
    return filesizeformat(size).replace("\xa0", " ") if isinstance(size, int) else "of unknown size"
