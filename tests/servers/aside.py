"""A session's own stream whose events a test writes while it is open (handshake era, GET)."""

from __future__ import annotations

import asyncio

from tests.servers.running import Incoming, McpServer, Receive, Send


class Aside:
    """A rule that answers every GET with a stream; `say` and `hang_up` reach the newest one."""

    def __init__(self) -> None:
        self.opened: list[Incoming] = []
        self.closed = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._words: asyncio.Queue[bytes] = asyncio.Queue()

    def say(self, *events: bytes) -> None:
        """Write events; one that is empty ends the stream."""
        assert self._loop is not None, "no stream was opened"
        for event in events:
            self._loop.call_soon_threadsafe(self._words.put_nowait, event)

    def hang_up(self) -> None:
        self.say(b"")

    async def __call__(self, _: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
        if request.method != "GET":
            return False
        self._loop, self._words = asyncio.get_running_loop(), asyncio.Queue()
        words = self._words
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        self.opened.append(request)
        left = asyncio.ensure_future(_left(receive))
        try:
            while (word := await _next(words, left)) is not None:
                await send({"type": "http.response.body", "body": word, "more_body": bool(word)})
                if not word:
                    break
        finally:
            left.cancel()
            self.closed += 1
        return True


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(words: asyncio.Queue[bytes], left: asyncio.Future[None]) -> bytes | None:
    coming = asyncio.ensure_future(words.get())
    await asyncio.wait({coming, left}, return_when=asyncio.FIRST_COMPLETED)
    if coming.done():
        return coming.result()
    coming.cancel()
    return None
