"""A turnstile in the way of token requests, worked from the thread of the test."""

from __future__ import annotations

import asyncio
import threading

PATIENCE = 20.0  # seconds


class Turnstile:
    """Closed, it holds who comes until it is opened."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.closed = False

    @property
    def held(self) -> int:
        """How many wait now."""
        return len(self._held)

    async def passing(self) -> None:
        """Pass, waiting while it is closed."""
        mine = (asyncio.get_running_loop(), asyncio.Event())
        with self._changed:
            if not self.closed:
                return
            self._held.append(mine)
            self._changed.notify_all()
        try:
            await mine[1].wait()
        finally:
            with self._changed:
                self._held.remove(mine)
                self._changed.notify_all()

    def close(self) -> None:
        """Hold whoever comes from now on."""
        with self._changed:
            self.closed = True

    def open(self) -> None:
        """Let everybody pass."""
        with self._changed:
            self.closed = False
            for loop, event in self._held:
                loop.call_soon_threadsafe(event.set)

    def wait_for(self, count: int) -> None:
        """Return when exactly so many are held; never call it in the event loop of the client."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._held) == count, PATIENCE), f"{self.held}, not {count}"
