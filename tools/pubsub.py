"""Moves of calls, told from process to process through Redis, so that who waits for one looks at once.

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
_PATIENCE: Final = 0.5  # seconds that Redis may take
_AGAIN: Final = 2.0  # seconds after which Redis is tried again


def tell(call_id: UUID) -> None:
    """Tell all processes, from synchronous code, that a call has moved or is to be looked at."""
    with suppress(RedisError, OSError):
        _client(settings.REDIS_URL).publish(CHANNEL, str(call_id))


async def listen(hear: Callable[[UUID], None]) -> None:
    """Hear of each call that some process tells of, until this is cancelled."""
    while True:
        with suppress(RedisError, OSError):
            async with AsyncRedis.from_url(settings.REDIS_URL) as client, client.pubsub() as told:
                await told.subscribe(CHANNEL)
                async for message in told.listen():
                    if message["type"] == "message":
                        with suppress(ValueError):  # somebody else's
                            hear(UUID(message["data"].decode()))
        await asyncio.sleep(_AGAIN)


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
