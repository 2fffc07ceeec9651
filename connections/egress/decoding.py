"""Undoing the compression of a response, piece by piece, so that the caller's cap counts what comes out of it."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any, Final

from connections.errors import AnswerRefused

# We ask for `identity`; proxies compress all the same. These names are no compression, whatever they are.
_PLAIN: Final = frozenset({"", "identity", "none", "binary", "utf-8", "utf8", "8bit", "7bit", "aws-chunked", "chunked"})
_UNDONE: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP: Final = b"\x1f\x8b"
_STEP: Final = 64 * 1024  # bytes that come out at once
_MOST_MEMBERS: Final = 1000  # of one body; each costs a copy of what follows it
_HEAD: Final = 2  # bytes by which the kinds are told apart
_ZLIB: Final = 8  # the method of a zlib header (RFC 1950, section 2.2)
_CHECK: Final = 31


def _not_undone(sentence: str) -> Exception:
    return AnswerRefused(sentence, code="answer_compressed")


def _too_large(_: int) -> Exception:
    return AnswerRefused()


def plain(
    chunks: AsyncIterable[bytes],
    coding: bytes,
    most: int,
    *,
    not_undone: Callable[[str], Exception] = _not_undone,
    too_large: Callable[[int], Exception] = _too_large,
) -> AsyncIterator[bytes]:
    """Return the chunks of a body without its `Content-Encoding`; raises `not_undone` for one that cannot be undone.

    Whoever reads them counts their bytes: a piece has at most 64 KB, so a body that grows without end is cut off. One
    that has more than `most` bytes as it arrives raises `too_large` here.
    """
    name = coding.decode("latin-1").strip().lower()
    # Proxies name what they leave as it is beside what they did; a length of chunks is undone already.
    codings = [one for part in name.split(",") if (one := part.partition(";")[0].strip(' \t"')) not in _PLAIN]
    if not codings:
        return aiter(chunks)
    if len(codings) > 1 or codings[0] not in _UNDONE:
        shown = "".join(letter if letter.isalnum() or letter in "-, " else "?" for letter in name[:40])
        sentence = f"The server compressed its answer ({shown}), which was not asked for; only gzip can be read."
        raise not_undone(sentence)
    return _inflated(_counted(chunks, most, too_large), not_undone, deflate=codings[0] == "deflate")


async def _counted(
    chunks: AsyncIterable[bytes], most: int, too_large: Callable[[int], Exception]
) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise too_large(most)
        yield chunk


async def _inflated(
    chunks: AsyncIterator[bytes], not_undone: Callable[[str], Exception], *, deflate: bool
) -> AsyncIterator[bytes]:
    head = await _at_least_a_head(b"", chunks)
    bits = _window_bits(head, deflate=deflate)
    if bits is None:  # it is announced as compressed, and is not
        yield head
        async for chunk in chunks:
            yield chunk
        return
    inflater = zlib.decompressobj(bits)
    rest: bytes | None = head
    members = 1
    while rest is not None:
        try:
            for piece in _pieces(inflater, rest):
                yield piece
        except zlib.error as error:
            sentence = "The server's answer is compressed in a way that cannot be undone."
            raise not_undone(sentence) from error
        if not inflater.eof:
            rest = await anext(chunks, None)
            continue
        rest = await _at_least_a_head(inflater.unused_data, chunks)
        if not rest.startswith(_GZIP):  # else another member follows (RFC 1952, section 2.2)
            return
        members += 1
        if members > _MOST_MEMBERS:
            raise not_undone("The server's answer is compressed in too many parts.")
        inflater = zlib.decompressobj(bits)


async def _at_least_a_head(begun: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    """Return what has begun to arrive with as much after it as tells what it is."""
    while len(begun) < _HEAD and (chunk := await anext(chunks, None)) is not None:
        begun += chunk
    return begun


def _pieces(inflater: Any, data: bytes) -> Iterator[bytes]:
    """Yield what these bytes become, 64 KB at a time; raises zlib.error."""
    piece = inflater.decompress(data, _STEP)
    while piece or inflater.unconsumed_tail:
        yield piece
        piece = inflater.decompress(inflater.unconsumed_tail, _STEP)


def _window_bits(head: bytes, *, deflate: bool) -> int | None:
    """Return what zlib needs to know of a body that begins like this; None for one that is not compressed."""
    if head.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    if not deflate:
        return None
    zlib_header = head[0] & 0x0F == _ZLIB and int.from_bytes(head[:_HEAD], "big") % _CHECK == 0
    return zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS
