"""Whether the database stores what it is given: its disk may be full, or it may be a standby that only reads.

Nobody asks it: on a full disk a small row is still stored where an older one was, while every call is refused. So
whoever is refused a write says so, in this process and in Redis for all others, and what was said counts for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import cache
from typing import Final

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from connections import outages

COUNTS_FOR: Final = 45.0  # seconds
KEY: Final = "duvo:refused-write"
_AGAIN: Final = 5.0  # seconds from one showing in Redis to the next
_PATIENCE: Final = 0.5  # seconds that Redis may take

logger = logging.getLogger(__name__)


class _Said:
    """When this process was last refused a write, as `time.monotonic` counts."""

    at = shown_at = float("-inf")


def note(error: BaseException) -> None:
    """Show that a write was refused, if that is what the error says; takes no time and never fails."""
    if not outages.takes_no_writes(error):
        return
    _Said.at = time.monotonic()
    if _Said.at - _Said.shown_at > _AGAIN:
        _Said.shown_at = _Said.at
        logger.error("The database stores nothing: %s.", type(error.__cause__ or error).__name__)
        threading.Thread(target=_show, name="refused-writes", daemon=True).start()


def seen() -> bool:
    """Tell whether a write was refused a short while ago, here or, as far as Redis answers, anywhere."""
    if time.monotonic() - _Said.at < COUNTS_FOR:
        return True
    try:
        return bool(_redis(settings.REDIS_URL).exists(KEY))
    except (RedisError, OSError):
        return False


def forget() -> None:
    """Forget what was said in this process."""
    _Said.at = _Said.shown_at = float("-inf")


def _show() -> None:
    try:
        _redis(settings.REDIS_URL).set(KEY, "1", px=int(COUNTS_FOR * 1000))
    except (RedisError, OSError) as failure:
        logger.debug("A refused write could not be shown: %s", type(failure).__name__)


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
