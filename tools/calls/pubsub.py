"""Moves of calls, told from process to process through Redis, so that who waits for one looks at once.

A second channel wakes the workers when a call is queued.

It makes waits shorter and nothing else depends on it: what is not heard, the next look at the rows finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final
from uuid import UUID

from django.conf import settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

CHANNEL: Final = "duvo:calls"
QUEUED: Final = "duvo:calls:queued"
_PATIENCE: Final = 0.5  # seconds that Redis may take
_AGAIN: Final = 2.0  # seconds after which Redis is tried again


def publish(call_id: UUID) -> None:
    """Tell all processes, from synchronous code, that a call has moved or is to be looked at."""
    with suppress(RedisError, OSError):
        _client(settings.REDIS_URL).publish(CHANNEL, str(call_id))


def notify_workers() -> None:
    """Tell the workers, from synchronous code, that there is a queued call to be made."""
    with suppress(RedisError, OSError):
        _client(settings.REDIS_URL).publish(QUEUED, "")


async def listen(hear: Callable[[UUID], None]) -> None:
    """Hear of each call that some process tells of, until this is cancelled."""

    def heard(data: bytes) -> None:
        with suppress(ValueError):  # somebody else's
            hear(UUID(data.decode()))

    await _listen(CHANNEL, heard)


async def listen_for_queued(hear: Callable[[], None]) -> None:
    """Hear that calls have been queued, until this is cancelled."""
    await _listen(QUEUED, lambda _: hear())


async def _listen(channel: str, hear: Callable[[bytes], None]) -> None:
    while True:
        with suppress(RedisError, OSError):
            async with AsyncRedis.from_url(settings.REDIS_URL) as client, client.pubsub() as told:
                await told.subscribe(channel)
                async for message in told.listen():
                    if message["type"] == "message":
                        hear(message["data"])
        await asyncio.sleep(_AGAIN)


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
