"""How often strangers may try something: token buckets in Redis, over all processes.

This limit protects, so it never fails open: while Redis is away each process keeps buckets of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from cachetools import LRUCache
from django.conf import settings

PATIENCE = 0.5  # seconds for Redis to answer
ASK_AGAIN = 2.0  # seconds until Redis is asked again after it did not answer
_SCRIPT = Path(__file__).with_suffix(".lua").read_text()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bucket:
    """So many tries at once, and then so many per second."""

    name: str
    burst: int
    refill: float


def take(*buckets: Bucket) -> float:
    """Take one try of each bucket; return 0, or how many seconds to wait, and then nothing was taken."""
    return _ask(1, buckets)


def give_back(*buckets: Bucket) -> None:
    """Return a try that did no harm."""
    if buckets:
        _ask(-1, buckets)


class Local:
    """The same buckets in this process, for a while or for good."""

    def __init__(self, *, most: int = 10_000) -> None:
        """Take how many buckets are kept; those unused for the longest time are dropped, and so full again."""
        self._kept: LRUCache[str, tuple[float, float]] = LRUCache(maxsize=most)
        self._lock = threading.Lock()

    def ask(self, amount: int, *buckets: Bucket) -> float:
        """Take so many tokens of each bucket, or give them back; return how many seconds to wait."""
        now = time.monotonic()
        with self._lock:
            left = {bucket: self._tokens(bucket, now) - amount for bucket in buckets}
            wait = max((-tokens / bucket.refill for bucket, tokens in left.items()), default=0.0)
            if wait > 0:
                return wait
            for bucket, tokens in left.items():
                self._kept[bucket.name] = (min(bucket.burst, tokens), now)
        return 0.0

    def empty(self, bucket: Bucket) -> float:
        """Return how many seconds to wait until there is a token; take none."""
        with self._lock:
            return max(0.0, (1 - self._tokens(bucket, time.monotonic())) / bucket.refill)

    def charge(self, bucket: Bucket) -> None:
        """Take a token for what has been done, also where none is left: the next wait is then longer."""
        now = time.monotonic()
        with self._lock:
            self._kept[bucket.name] = (self._tokens(bucket, now) - 1, now)

    def _tokens(self, bucket: Bucket, now: float) -> float:
        tokens, at = self._kept.get(bucket.name, (bucket.burst, now))
        return min(bucket.burst, tokens + (now - at) * bucket.refill)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


_local = Local()
_silent_until = 0.0


def _ask(amount: int, buckets: tuple[Bucket, ...]) -> float:
    global _silent_until  # noqa: PLW0603 - one clock of this process
    if time.monotonic() >= _silent_until:
        try:
            return _asked_of_redis(amount, buckets)
        except (redis.RedisError, OSError) as error:
            _silent_until = time.monotonic() + ASK_AGAIN
            logger.warning("Tries are counted in this process only, as Redis does not answer: %s", type(error).__name__)
    return _local.ask(amount, *buckets)


def _asked_of_redis(amount: int, buckets: tuple[Bucket, ...]) -> float:
    keys = [f"duvo:throttle:{bucket.name}" for bucket in buckets]
    numbers = [str(number) for bucket in buckets for number in (bucket.burst, bucket.refill)]
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE, decode_responses=True
    ) as client:
        return float(client.eval(_SCRIPT, len(keys), *keys, str(amount), *numbers))
