"""Values that may be a moment old: what the call path knows of callers and tools without asking the database."""

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

    Whatever the loader returns is kept, a refusal (None) too, but apart: strangers who ask for what there is not push
    out nothing that there is. What it raises is not kept.
    """

    def __init__(self, load: Callable[[Key], Value], *, seconds: float, most: int = 10_000) -> None:
        """Take the loader (plain code that may use the ORM), the age in seconds, and how many values to keep."""
        self._load = load
        self._values: TTLCache[Key, Value] = TTLCache(maxsize=most, ttl=seconds)
        self._refused: TTLCache[Key, Value] = TTLCache(maxsize=most, ttl=seconds)
        self._lock = threading.Lock()
        self._loading: dict[tuple[asyncio.AbstractEventLoop, Key], asyncio.Future[Value]] = {}

    async def get(self, key: Key) -> Value:
        """Return the value, loading it in a thread if it is not fresh."""
        try:
            return self.kept(key)
        except KeyError:
            pass
        place = (asyncio.get_running_loop(), key)
        if place not in self._loading:
            task = asyncio.ensure_future(in_thread(self.get_now, key))
            self._loading[place] = task
            task.add_done_callback(lambda _: self._loading.pop(place, None))
        return await asyncio.shield(self._loading[place])

    def get_now(self, key: Key) -> Value:
        """Return the value from plain code, loading it here if it is not fresh."""
        try:
            return self.kept(key)
        except KeyError:
            value = self._load(key)
            with self._lock:
                (self._refused if value is None else self._values)[key] = value
            return value

    def kept(self, key: Key) -> Value:
        """Return the value that is fresh; raises KeyError when none is."""
        with self._lock:
            value = self._values.get(key)
            return self._refused[key] if value is None else value

    def drop(self, key: Key) -> None:
        """Forget one value."""
        with self._lock:
            self._values.pop(key, None)
            self._refused.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._refused.clear()
