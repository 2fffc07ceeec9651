"""Signs of life of the processes that work in the background, so that everybody sees when one has stopped.

    beat           writes at each turn of its schedule
    housekeeping   some worker of the queue did the task that beat sends through it every ten seconds
    probes         the same
    calls          some worker of the queue has looked for queued calls

Each is kept twice, in Redis and in the database: while one of them is away the other still says who works. A process
also touches HEARTBEAT_FILE where that is set, so that the health check of its container costs nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cachetools import TTLCache, cached
from django.conf import settings
from django.db import Error as DatabaseFailed
from django.db import transaction
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from connections import key_holders, refused_writes, sealing
from connections.models import Heartbeat

EVERY: Final = 10.0  # seconds from one to the next
LATE: Final = 45.0  # seconds without one after which a process counts as stopped
HASH: Final = "duvo:heartbeats"
NAMES: Final = ("beat", "housekeeping", "probes", "calls")
ASKED_BY_BEAT: Final = frozenset({"housekeeping", "probes"})
_PATIENCE: Final = 0.5  # seconds that Redis may take
_KNOWN_FOR: Final = 2.0  # seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sign:
    """What is known of one kind of process: when it last worked, if ever, and whether that is late."""

    name: str
    at: datetime | None
    late: bool

    def age(self, now: datetime) -> float | None:
        """Return the seconds since it last worked; None if it never did."""
        return None if self.at is None else max(0.0, (now - self.at).total_seconds())


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of every kind of process, whether Redis and the database could be asked, and who stores nothing."""

    processes: tuple[Sign, ...]
    redis: bool
    database: bool
    refuses_writes: bool

    @property
    def late(self) -> list[Sign]:
        """Return those that are late."""
        return [sign for sign in self.processes if sign.late]


def note(name: str, at: datetime | None = None) -> None:
    """Write down that such a process worked, now or at that moment; never fails."""
    note_quickly(name, at)
    note_in_database({name: at or timezone.now()})


def note_quickly(name: str, at: datetime | None = None) -> None:
    """Write it into Redis and touch the file only; never fails, and takes a second at most.

    Whoever seals shows its keys with it.
    """
    moment = at or timezone.now()
    with suppress(OSError):
        if settings.HEARTBEAT_FILE is not None:
            settings.HEARTBEAT_FILE.touch()
    try:
        _redis(settings.REDIS_URL).hset(HASH, name, moment.isoformat())
    except (RedisError, OSError) as error:
        logger.debug("The sign of life of %s could not be written: %s", name, type(error).__name__)
    else:
        if name != "beat":
            key_holders.note(name, sealing.key_ids())


def note_in_database(moments: Mapping[str, datetime]) -> None:
    """Write such moments into the database only; never fails."""
    rows = [Heartbeat(name=name, at=moment) for name, moment in moments.items()]
    try:
        Heartbeat.objects.bulk_create(rows, update_conflicts=True, unique_fields=["name"], update_fields=["at"])
    except DatabaseFailed as error:
        refused_writes.note(error)
        logger.debug("Signs of life could not be written: %s", type(error).__name__)


@cached(TTLCache(maxsize=1, ttl=_KNOWN_FOR), condition=threading.Condition())
def seen() -> Signs:
    """Return who works, as of at most two seconds ago; asks the database only if Redis does not say that all do."""
    now = timezone.now()
    from_redis = _from_redis()
    refuses = refused_writes.seen()
    if from_redis is not None and not any(sign.late for sign in judged(from_redis, now)):
        return Signs(judged(from_redis, now), redis=True, database=True, refuses_writes=refuses)
    from_database = _from_database()
    newest = {
        name: max(moments)
        for name in NAMES
        if (moments := [kept[name] for kept in (from_redis or {}, from_database or {}) if name in kept])
    }
    return Signs(judged(newest, now), from_redis is not None, from_database is not None, refuses)


def judged(moments: Mapping[str, datetime], now: datetime) -> tuple[Sign, ...]:
    """Return who is late, as of `now`.

    A worker that beat asks is late only by what beat has asked: with beat stopped, nothing new is known of it.
    """
    beat = moments.get("beat")
    return tuple(
        Sign(name, moments.get(name), _late(moments.get(name), _asked_until(name, beat, now))) for name in NAMES
    )


def _asked_until(name: str, beat: datetime | None, now: datetime) -> datetime:
    return min(now, beat) if beat is not None and name in ASKED_BY_BEAT else now


def _late(at: datetime | None, until: datetime) -> bool:
    return at is None or (until - at).total_seconds() > LATE


def _from_redis() -> dict[str, datetime] | None:
    try:
        kept = _redis(settings.REDIS_URL).hgetall(HASH)
    except (RedisError, OSError):
        return None
    return {str(name): datetime.fromisoformat(str(at)).astimezone(UTC) for name, at in kept.items()}


def _from_database() -> dict[str, datetime] | None:
    try:
        with transaction.atomic():  # a page may be in one, which is not to fail with this
            return dict(Heartbeat.objects.values_list("name", "at"))
    except DatabaseFailed:
        return None


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE, decode_responses=True)
