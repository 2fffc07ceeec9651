"""How fast a server's stream is read: a server that sends thousands of small messages holds nobody else up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from tools.mcp_client.errors import BadAnswer

_PIECE: Final = 8 * 1024  # bytes that are looked at before others have their turn
_AT_ONCE: Final = 10_000  # messages
_PER_SECOND: Final = 100
_BROKEN_AT_ONCE: Final = 100  # messages that are no JSON, which take the longest to find out


async def pieces(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the bytes in pieces of at most 8 KB, and let others run after each so many."""
    since = 0
    async for chunk in chunks:
        for begin in range(0, len(chunk), _PIECE):
            if since >= _PIECE:
                await asyncio.sleep(0)
                since = 0
            piece = chunk[begin : begin + _PIECE] if len(chunk) > _PIECE else chunk
            since += len(piece)
            yield piece


class Pace:
    """How many messages of one stream are read: 10,000 at once, and 100 a second after that."""

    __slots__ = ("_began", "_broken", "_seen")

    def __init__(self) -> None:
        """Begin to count."""
        self._began = time.monotonic()
        self._seen = self._broken = 0

    def count(self) -> None:
        """Count a message that is about to be read; raises BadAnswer when there are too many."""
        self._seen += 1
        if self._seen > _AT_ONCE + _PER_SECOND * (time.monotonic() - self._began):
            raise BadAnswer(f"The server's stream has more than {_PER_SECOND} messages a second.")

    def count_broken(self) -> None:
        """Count a message that begins as JSON and is none; raises BadAnswer when there are too many."""
        self._broken += 1
        if self._broken > _BROKEN_AT_ONCE + (time.monotonic() - self._began):
            raise BadAnswer("The server's stream has too many messages that are not JSON.")
