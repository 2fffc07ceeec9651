"""The one event loop in which synchronous code of this process runs coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop
from django.db import connection as database

T = TypeVar("T")
THREAD = "background-loop"


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


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code; if the caller is interrupted, it is cancelled.

    The caller's database connection goes back to the pool meanwhile, unless a transaction is open on it.
    Raises RuntimeError inside the background loop itself, which would wait for itself for ever.
    """
    if threading.current_thread().name == THREAD:
        coroutine.close()
        raise RuntimeError("Await the coroutine: this is the background loop.")
    release_database()
    future = submit(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def release_database() -> None:
    """Give this thread's connection back to the pool, unless a transaction is open; the next query takes one again.

    A few slow servers, or slow readers, would else hold all connections of the process.
    """
    if database.settings_dict["OPTIONS"].get("pool") and not database.in_atomic_block:
        database.close()
