"""A cache that tenants share: bounded in bytes, and one tenant's values push out its own before those of others."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_SHARE: Final = 8  # a tenant's values take at most so small a part of the room


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    tenant: object
    size: int
    until: float


class FairCache(Generic[Key, Value]):
    """Values that are kept for a while; when they take too much room, the least recently used ones go."""

    def __init__(self, *, room: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the most bytes that all values together may take, by the sizes that are told with them."""
        self._room = room
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._keys: defaultdict[object, OrderedDict[Key, None]] = defaultdict(OrderedDict)
        self._taken: Counter[object] = Counter()  # bytes by tenant
        self._all = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """Return the value, or None when it is not kept or too old."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.until <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            self._keys[entry.tenant].move_to_end(key)
            return entry.value

    def put(self, key: Key, value: Value, *, tenant: object, size: int, seconds: float) -> None:
        """Keep a value of so many bytes for so many seconds; one that exceeds its tenant's share is not kept."""
        with self._lock:
            self._drop(key)
            self._entries[key] = _Entry(value, tenant, size, self._clock() + seconds)
            self._keys[tenant][key] = None
            self._taken[tenant] += size
            self._all += size
            while self._taken[tenant] > self._room // _SHARE:
                self._drop(next(iter(self._keys[tenant])))
            while self._all > self._room:
                self._drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        """Forget one value."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._keys.clear()
            self._taken.clear()
            self._all = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._all -= entry.size
        self._taken[entry.tenant] -= entry.size
        del self._keys[entry.tenant][key]
        if not self._keys[entry.tenant]:
            del self._keys[entry.tenant], self._taken[entry.tenant]
