"""A cache for values that may be a moment old, such as callers and tools, so that calls need no query for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import TTLCache

from connections.threads import in_thread

Key = TypeVar("Key")
Value = TypeVar("Value")


class LoadingCache(Generic[Key, Value]):
    """A bounded cache over a loader; a value is at most `seconds` old, and concurrent misses load once.

    None (not found) is cached too, but in a store of its own: requests for unknown keys do not evict known values.
    What the loader raises is not cached.
    """

    def __init__(self, load: Callable[[Key], Value], *, seconds: float, most: int = 10_000) -> None:
        """Take the loader (synchronous, may use the ORM), the maximum age in seconds, and how many values to keep."""
        self._load = load
        self._values: TTLCache[Key, Value] = TTLCache(maxsize=most, ttl=seconds)
        self._missing: TTLCache[Key, Value] = TTLCache(maxsize=most, ttl=seconds)
        self._lock = threading.Lock()
        self._loading: dict[tuple[asyncio.AbstractEventLoop, Key], asyncio.Future[Value]] = {}

    async def get(self, key: Key) -> Value:
        """Return the value, loading it in a thread if it is not cached."""
        try:
            return self.get_cached(key)
        except KeyError:
            pass
        loading = (asyncio.get_running_loop(), key)
        if loading not in self._loading:
            task = asyncio.ensure_future(in_thread(self.get_sync, key))
            self._loading[loading] = task
            task.add_done_callback(lambda _: self._loading.pop(loading, None))
        return await asyncio.shield(self._loading[loading])

    def get_sync(self, key: Key) -> Value:
        """Return the value, from synchronous code, loading it in this thread if it is not cached."""
        try:
            return self.get_cached(key)
        except KeyError:
            value = self._load(key)
            with self._lock:
                (self._missing if value is None else self._values)[key] = value
            return value

    def get_cached(self, key: Key) -> Value:
        """Return the cached value; raises KeyError when there is none."""
        with self._lock:
            try:
                return self._values[key]
            except KeyError:
                return self._missing[key]

    def drop(self, key: Key) -> None:
        """Forget one value."""
        with self._lock:
            self._values.pop(key, None)
            self._missing.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._missing.clear()
