"""Which processes know which keys of SEAL_KEYS, kept in Redis: what one of them cannot open another one may.

While keys are rotated and processes are replaced one after the other, some of them know a key that others do not know
yet, or no longer. So each shows every few seconds which keys it has. A key counts as lost only when nobody has shown it
for an hour; as long as it is not known who is there, or while Redis is away, no key does.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cachetools import TTLCache, cached
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

EVERY: Final = 10.0  # seconds from one showing to the next
AT_WORK: Final = 45.0  # seconds without one after which a process counts as gone
REMEMBERED: Final = 3600.0  # seconds that what a process has shown is kept
SHOWN: Final = "duvo:seal-keys"
SINCE: Final = "duvo:seal-keys-since"
_SETTLED: Final = 120.0  # seconds after which everybody who is there has shown what it has, also in an empty Redis
_PATIENCE: Final = 0.5  # seconds that Redis may take

logger = logging.getLogger(__name__)
_began = time.time()  # of this process, which may be the first one after all were stopped for long


@dataclass(frozen=True, slots=True)
class Holder:
    """Processes of one kind on one machine with the same keys, the first of which seals; and when one was last seen."""

    kind: str
    machine: str
    keys: tuple[str, ...]
    at: float  # Unix time

    def __str__(self) -> str:
        return f"{self.kind} on {self.machine}"


def note(kind: str, keys: Sequence[str]) -> None:
    """Show that a process of this kind works here and has these keys, by their ids; never fails."""
    now = time.time()
    try:
        with _redis(settings.REDIS_URL).pipeline() as commands:
            commands.zadd(SHOWN, {f"{kind} {socket.gethostname()} {','.join(keys)}": now})
            commands.zremrangebyscore(SHOWN, "-inf", now - REMEMBERED)
            commands.set(SINCE, now, nx=True)
            commands.execute()
    except (RedisError, OSError) as error:
        logger.debug("The keys of %s could not be shown: %s", kind, type(error).__name__)


def keep_showing(kind: str, keys: Callable[[], Sequence[str]]) -> Callable[[], None]:
    """Show it from now on, in a thread of its own; return what stops that."""
    over = threading.Event()

    def show() -> None:
        while True:
            note(kind, keys())
            if over.wait(EVERY):
                return

    threading.Thread(target=show, name="key-holders", daemon=True).start()
    return over.set


def seen() -> list[Holder] | None:
    """Return who has shown itself within the last hour, None while Redis does not answer."""
    try:
        shown: Any = _redis(settings.REDIS_URL).zrange(SHOWN, 0, -1, withscores=True)
    except (RedisError, OSError):
        return None
    return [_holder(str(member), float(at)) for member, at in shown]


def _holder(member: str, at: float) -> Holder:
    kind, machine, keys = member.split(" ", 2)
    return Holder(kind, machine, tuple(keys.split(",")), at)


def at_work(holders: Sequence[Holder], now: float) -> list[Holder]:
    """Return those that work at this moment."""
    return [holder for holder in holders if now - holder.at < AT_WORK]


def is_lost(key: str) -> bool:
    """Tell whether no process has this key any more, as far as is known; as of at most five seconds ago."""
    known = _known(settings.REDIS_URL)
    return known is not None and key not in known


@cached(TTLCache(maxsize=1, ttl=5.0), lock=threading.Lock())
def _known(url: str) -> frozenset[str] | None:
    """Return all keys that somebody has; None while that is not known."""
    try:
        since = max(_began, float(str(_redis(url).get(SINCE) or "inf")))
    except (RedisError, OSError):
        return None
    holders = seen() if time.time() - since > _SETTLED else None
    return None if holders is None else frozenset(key for holder in holders for key in holder.keys)


def forget() -> None:
    """Forget what was read, so that it is read again."""
    _known.cache_clear()


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE, decode_responses=True)
