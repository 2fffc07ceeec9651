"""What the body of a response is, JSON or an event stream: its first bytes say so, whatever type was announced.

Proxies, frameworks and PHP announce other types than what follows. A page is never taken for an answer.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from connections import egress
from connections.errors import DuvoError

STREAM: Final = b"text/event-stream"
_UNTYPED: Final = frozenset({b"", b"text/plain", b"application/octet-stream"})  # which may be anything all the same
_BLANK: Final = b" \t\r\n" + codecs.BOM_UTF8
_BEGINS_JSON: Final = (b"{", b"[", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BEGINS_STREAM: Final = (b":", b"data:", b"event:", b"id:", b"retry:")
_MOST_BLANK: Final = 4 * 1024  # bytes before a body that are left out; with more it is what was announced
_ENOUGH: Final = max(map(len, _BEGINS_STREAM))
BROKEN: Final = (OSError, DuvoError)
_LINGER: Final = 1.0  # seconds a finished stream may take to end, so that its connection can be used again


def is_announced(kind: bytes) -> bool:
    """Tell whether a type announces one of the two ways to answer."""
    return kind == STREAM or b"json" in kind


def kind_of(headers: dict[bytes, bytes]) -> bytes:
    """Return the media type of a response in lower case, without parameters; empty if there is none."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def framing(first: bytes, kind: bytes) -> Literal["json", "stream"] | None:
    """Return what a body is that begins with these bytes; None for a page, a picture or nothing."""
    if not is_announced(kind) and kind not in _UNTYPED:
        return "json" if first.startswith(b"{") else None
    if first.startswith(_BEGINS_STREAM):
        return "stream"
    if first.startswith(_BEGINS_JSON):
        return "json"
    return ("stream" if kind == STREAM else "json") if is_announced(kind) else None


async def beginning(chunks: AsyncIterator[bytes], dropped: Callable[[int], None]) -> bytes:
    """Return as much of a body as tells what it is, without what is blank before it.

    `dropped` is told with each chunk how many bytes of it were left out.
    """
    first, blank = b"", 0
    async for chunk in chunks:
        whole = first + chunk
        first = whole.lstrip(_BLANK)
        blank += len(whole) - len(first)
        dropped(len(whole) - len(first))
        if len(first) >= _ENOUGH or first.startswith((b"{", b"[", b":")) or blank > _MOST_BLANK:
            break
    return first


async def joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return a body whose beginning was taken off."""
    if first:
        yield first
    async for chunk in rest:
        yield chunk


async def linger(body: AsyncIterator[bytes], response: egress.Response) -> None:
    """Read a stream to its end, if that comes soon: its connection can then be used again."""
    try:
        async with asyncio.timeout(_LINGER):
            async for _ in body:
                pass
    except BROKEN:
        pass
    finally:
        await response.aclose()
