"""Undoing the compression of a response, piece by piece, so that the caller's cap counts what comes out of it."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Final

from tools.mcp_client.errors import AnswerTooLarge, BadAnswer

# We ask for `identity`; proxies compress all the same. These names are no compression, whatever they are.
_PLAIN: Final = frozenset({"", "identity", "none", "binary", "utf-8", "utf8", "8bit", "7bit", "aws-chunked"})
_UNDONE: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP: Final = b"\x1f\x8b"
_STEP: Final = 64 * 1024  # bytes that come out at once
_HEAD: Final = 2  # bytes by which the kinds are told apart
_ZLIB: Final = 8  # the method of a zlib header (RFC 1950, section 2.2)
_CHECK: Final = 31


def plain(chunks: AsyncIterable[bytes], coding: bytes, most: int) -> AsyncIterator[bytes]:
    """Return the chunks of a body without its `Content-Encoding`; raises `BadAnswer` for one that is not undone.

    Whoever reads them counts their bytes: a piece has at most 64 KB, so a body that grows without end is cut off. One
    that has more than `most` bytes as it arrives raises `AnswerTooLarge` here.
    """
    name = coding.decode("latin-1").strip().lower()
    if name in _PLAIN:
        return aiter(chunks)
    if name not in _UNDONE:
        shown = "".join(letter if letter.isalnum() or letter in "-, " else "?" for letter in name[:40])
        raise BadAnswer(f"The server compressed its answer ({shown}), which was not asked for; only gzip can be read.")
    return _inflated(_counted(chunks, most), deflate=name == "deflate")


async def _counted(chunks: AsyncIterable[bytes], most: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise AnswerTooLarge(most)
        yield chunk


async def _inflated(chunks: AsyncIterator[bytes], *, deflate: bool) -> AsyncIterator[bytes]:
    head = b""
    while len(head) < _HEAD and (chunk := await anext(chunks, None)) is not None:
        head += chunk
    bits = _window_bits(head, deflate=deflate)
    if bits is None:  # it is announced as compressed, and is not
        yield head
        async for chunk in chunks:
            yield chunk
        return
    inflater = zlib.decompressobj(bits)
    rest: bytes | None = head
    while rest is not None:
        for piece in _pieces(inflater, rest):
            yield piece
        if not inflater.eof:
            rest = await anext(chunks, None)
        elif inflater.unused_data.startswith(_GZIP):  # another member follows (RFC 1952, section 2.2)
            rest, inflater = inflater.unused_data, zlib.decompressobj(bits)
        else:
            return


def _pieces(inflater: Any, data: bytes) -> Iterator[bytes]:
    """Yield what these bytes become, 64 KB at a time."""
    try:
        piece = inflater.decompress(data, _STEP)
        while piece or inflater.unconsumed_tail:
            yield piece
            piece = inflater.decompress(inflater.unconsumed_tail, _STEP)
    except zlib.error as error:
        raise BadAnswer("The server's answer is compressed in a way that cannot be undone.") from error


def _window_bits(head: bytes, *, deflate: bool) -> int | None:
    """Return what zlib needs to know of a body that begins like this; None for one that is not compressed."""
    if head.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    if not deflate:
        return None
    zlib_header = head[0] & 0x0F == _ZLIB and int.from_bytes(head[:_HEAD], "big") % _CHECK == 0
    return zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS
