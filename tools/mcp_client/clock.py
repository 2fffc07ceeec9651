"""The clock of a request: how long a server may take to answer, and be silent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from tools.mcp_client.shapes import Server

_TOO_SOON: Final = 0.01  # of the idle timeout; to restart it for each piece of an answer costs as much as to read it


class Pausable(Protocol):
    """What is stopped while a person is asked."""

    @property
    def expired(self) -> bool:
        """Whether it has run out already."""
        ...

    def stop(self) -> None:
        """Stop, until each `stop` was followed by a `resume`."""
        ...

    def resume(self) -> None:
        """Undo one `stop`."""
        ...


class Clock:
    """The idle and the absolute timeout of a request, on one timer; a sign of life restarts only the idle one.

    After `stop` both are stopped until each `stop` was followed by a `resume`.
    """

    __slots__ = ("_absolute", "_idle", "_loop", "_restarted_at", "_stopped_at", "_stops", "timer")

    def __init__(self, server: Server, deadline: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._absolute = deadline if deadline is not None else now + server.timeout
        self._idle = server.idle_timeout
        self._stops = 0
        self._stopped_at = self._restarted_at = now
        self.timer = asyncio.timeout_at(min(self._absolute, now + self._idle))

    @property
    def which(self) -> Literal["idle", "absolute"]:
        """Which of the two timeouts is due first."""
        return "absolute" if (self.timer.when() or 0) >= self._absolute else "idle"

    @property
    def expired(self) -> bool:
        """Whether one of the two has run out."""
        return self.timer.expired()

    def restart_idle(self) -> None:
        """Restart the idle timeout, as something has arrived; not again within a hundredth of it."""
        if self._loop.time() > self._restarted_at + self._idle * _TOO_SOON:
            self._restart()

    def _restart(self) -> None:
        if not self._stops:
            self._restarted_at = self._loop.time()
            self.timer.reschedule(min(self._absolute, self._restarted_at + self._idle))

    def finish_within(self, seconds: float) -> None:
        """Shorten the absolute timeout to so many seconds from now: the answer has begun to arrive."""
        self._absolute = min(self._absolute, self._loop.time() + seconds)
        self._restart()

    @contextmanager
    def stop_idle(self) -> Iterator[None]:
        """Stop the idle timeout inside, as it is not the server that we wait for; the absolute one goes on."""
        if not self._stops:
            self.timer.reschedule(self._absolute)
        yield
        self._restart()

    def stop(self) -> None:
        """Stop both timeouts, for instance while a person is asked."""
        if not self._stops:
            self._stopped_at = self._loop.time()
            self.timer.reschedule(None)
        self._stops += 1

    def resume(self) -> None:
        """Undo one `stop`; undoing the last one moves the deadline by the time that has passed."""
        self._stops -= 1
        if not self._stops:
            self._absolute += self._loop.time() - self._stopped_at
            self._restart()
