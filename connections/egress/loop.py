"""The one event loop in which synchronous code of this process runs coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop
from django.db import connection as database

from connections.errors import Unreachable

T = TypeVar("T")
THREAD = "background-loop"
_CHECK_EVERY = 1.0  # seconds between two checks whether the result is still wanted


class Background:
    """An event loop in a daemon thread, started when first used."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self._starting:
            if self._loop is None:
                self._loop = uvloop.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=THREAD, daemon=True).start()
            return self._loop


_backgrounds = [Background()]

# A forked worker has the parent's loop but not its thread: it starts its own, and leaves the other untouched.
os.register_at_fork(after_in_child=lambda: _backgrounds.append(Background()))


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine in this process's background loop; context variables of the caller go with it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _backgrounds[-1].loop())


class NotWanted(Exception):
    """The result is no longer wanted, so the work was cancelled."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """How long coroutines may run: until the deadline (monotonic clock), and as long as the result is wanted."""

    deadline: float
    sentence: str
    wanted: Callable[[], bool]

    def check(self) -> None:
        if time.monotonic() >= self.deadline:
            raise Unreachable(self.sentence, code="took_too_long", sent=True)
        if not self.wanted():
            raise NotWanted


_bound: ContextVar[_Bound | None] = ContextVar("bound", default=None)
# A context manager around each wait for another server: duvo.pages lends a page's slot to other pages in it.
while_waiting: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("while_waiting", default=nullcontext)


@contextmanager
def bounded(seconds: float, sentence: str, *, wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Put one absolute limit over every `run` inside, whatever timeouts the work itself has.

    After so many seconds in all `run` raises Unreachable with the sentence, and NotWanted within a second or two after
    `wanted`, which may ask the database, returns False.
    """
    token = _bound.set(_Bound(time.monotonic() + seconds, sentence, wanted))
    try:
        yield
    finally:
        _bound.reset(token)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code; if the caller is interrupted, it is cancelled.

    The caller's database connection goes back to the pool meanwhile, unless a transaction is open on it.
    Raises what `bounded` says, and RuntimeError inside the background loop, which would wait for itself for ever.
    """
    if threading.current_thread().name == THREAD:
        coroutine.close()
        raise RuntimeError("Await the coroutine: this is the background loop.")
    with while_waiting.get()():
        return _run_bounded(coroutine, _bound.get())


def _run_bounded(coroutine: Coroutine[Any, Any, T], bound: _Bound | None) -> T:
    future = submit(coroutine)
    try:
        while True:
            release_database()
            if bound is None:
                return future.result()
            try:
                return future.result(max(0.0, min(bound.deadline - time.monotonic(), _CHECK_EVERY)))
            except TimeoutError:
                if future.done():  # at this moment, or the TimeoutError is its own
                    return future.result()
            bound.check()
    except BaseException:
        future.cancel()
        raise


def close_with_the_loop(close: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Have the running loop close something at its end: a loop finishes the asynchronous generators begun in it."""

    async def lifetime() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await close()
            await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    begun = lifetime()
    with suppress(StopIteration):
        begun.asend(None).send(None)
    return begun


def release_database() -> None:
    """Give this thread's connection back to the pool, unless a transaction is open; the next query takes one again.

    A few slow servers, or slow readers, would else hold all connections of the process.
    """
    if database.settings_dict["OPTIONS"].get("pool") and not database.in_atomic_block:
        database.close()
