"""What happens, counted over all processes: in memory first, and once a second in one hash in Redis.

Counting costs a microsecond and never fails. What a process has not handed over yet is lost with it, at most a second's
worth. Labels have closed sets of values, so the hash stays small; no organization, connection or tool is among them.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import redis
from django.conf import settings

HASH: Final = "duvo:metrics"
OTHER: Final = "other"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)  # seconds
OUTCOMES: Final = frozenset({"succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"})
LABELS: Final = {
    "calls": {"outcome": OUTCOMES, "placement": frozenset({"web", "queue"})},
    "call_seconds": {"outcome": OUTCOMES},
    "limit_refusals": {
        "limit": frozenset(
            {"connection_busy", "connection_rate", "assignment_rate", "organization_busy", "circuit_open"}
            | {"open_calls", "stored", "streams", "waiters", "organization_streams", "organization_waiters", "changes"}
        )
    },
    "sign_ins": {"outcome": frozenset({"succeeded", "failed", "paused"})},
    "probes": {"outcome": frozenset({"passed", "failed"})},
    "token_refreshes": {"outcome": frozenset({"renewed", "refused", "failed"})},
}
_HAND_OVER_EVERY: Final = 1.0  # seconds
_PATIENCE: Final = 1.0  # seconds that Redis may take

logger = logging.getLogger(__name__)


class _Counts:
    """What this process has counted and not handed over yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: defaultdict[str, float] = defaultdict(float)
        self._thread: threading.Thread | None = None

    def add(self, amounts: Mapping[str, float]) -> None:
        with self._lock:
            for key, amount in amounts.items():
                self._counted[key] += amount
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
                self._thread.start()

    def hand_over(self) -> None:
        """Add what was counted to the hash; what Redis does not take is kept for the next time. Raises nothing."""
        with self._lock:
            counted, self._counted = self._counted, defaultdict(float)
        if not counted:
            return
        try:
            with (
                redis.Redis.from_url(
                    settings.REDIS_URL, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE
                ) as client,
                client.pipeline() as together,
            ):
                for key, amount in counted.items():
                    together.hincrbyfloat(HASH, key, amount)
                together.execute()
        except (redis.RedisError, OSError):
            logger.debug("Redis does not take the counts now.")
            self.add(counted)
        except Exception:  # counting goes on whatever happens: nobody would see that the thread has ended
            logger.exception("The counts could not be handed over.")
            self.add(counted)

    def _work(self) -> None:
        while True:
            time.sleep(_HAND_OVER_EVERY)
            self.hand_over()


_counts = _Counts()


def _after_fork() -> None:
    global _counts  # noqa: PLW0603 - the parent hands over its own
    _counts = _Counts()


os.register_at_fork(after_in_child=_after_fork)


def count(name: str, amount: int = 1, /, **labels: str) -> None:
    """Count so many more of a name in `LABELS`; a label's value that is not in its set becomes "other"."""
    if amount:
        _counts.add({key_of(name, **labels): amount})


def observe(name: str, seconds: float, **labels: str) -> None:
    """Count a span of time in its bucket, and add it to the sum."""
    bucket = bisect_left(BUCKETS, seconds)
    key = key_of(name, **labels)
    _counts.add({f"{key}|{bucket}": 1, f"{key}|sum": seconds})


def call_ended(outcome: str, placement: str, seconds: float) -> None:
    """Count a call that has ended."""
    count("calls", outcome=outcome, placement=placement)
    observe("call_seconds", seconds, outcome=outcome)


def hand_over() -> None:
    """Hand over what this process has counted, now."""
    _counts.hand_over()


atexit.register(hand_over)


@lru_cache(maxsize=256)
def key_of(name: str, **labels: str) -> str:
    """Return the field of the hash that counts this."""
    closed = LABELS[name]
    return "|".join([name, *(labels[label] if labels[label] in values else OTHER for label, values in closed.items())])
