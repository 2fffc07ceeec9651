"""A cache for values that may be a moment old, such as callers and tools, so that calls need no query for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

from cachetools import TTLCache

from connections.threads import in_thread
from tools.gathering import Gatherer

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LoadingCache(Generic[Key, Value]):
    """A bounded cache over a loader of many; a value is at most `seconds` old, and what misses at once loads together.

    None (not found) is cached too, but in a store of its own: requests for unknown keys do not evict known values.
    What the loader raises is not cached.
    """

    def __init__(
        self, load: Callable[[Collection[Key]], Mapping[Key, Value]], *, seconds: float, most: int = 10_000
    ) -> None:
        """Take the loader (synchronous, may use the ORM), the maximum age in seconds, and how many values to keep."""
        self._load = load
        self._values: TTLCache[Key, Value] = TTLCache(maxsize=most, ttl=seconds)
        self._missing: TTLCache[Key, None] = TTLCache(maxsize=most, ttl=seconds)
        self._lock = threading.Lock()
        self._gatherer: Gatherer[Key, Value] = Gatherer(self._load_in_thread)

    async def get(self, key: Key) -> Value | None:
        """Return the value, loading it in a thread if it is not cached."""
        try:
            return self.get_cached(key)
        except KeyError:
            return await self._gatherer.get(key)

    def get_sync(self, key: Key) -> Value | None:
        """Return the value, from synchronous code, loading it in this thread if it is not cached."""
        try:
            return self.get_cached(key)
        except KeyError:
            return self._load_many([key]).get(key)

    async def _load_in_thread(self, keys: Collection[Key]) -> Mapping[Key, Value]:
        return await in_thread(self._load_many, keys)

    def _load_many(self, keys: Collection[Key]) -> Mapping[Key, Value]:
        found = self._load(keys)
        with self._lock:
            self._values.update(found)
            self._missing.update(dict.fromkeys(key for key in keys if key not in found))
        return found

    def get_cached(self, key: Key) -> Value | None:
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
