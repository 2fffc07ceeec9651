"""Publishes transitions of calls to other processes through Redis, so that those who wait for one read its row at once.

A second channel wakes the workers when a call is queued. And as subscriptions end with a process, they say which of
those that read streams have died.

It only makes waits shorter: what is not received is found by the next query for the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
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
READER: Final = "duvo:reader:"
_PATIENCE: Final = 0.5  # seconds that Redis may take
_AGAIN: Final = 2.0  # seconds after which Redis is tried again


def publish(call_id: UUID) -> None:
    """Notify all processes, from synchronous code, that a call has changed and its row is to be read."""
    with suppress(RedisError, OSError):
        _client(settings.REDIS_URL).publish(CHANNEL, str(call_id))


def notify_workers() -> None:
    """Notify the workers, from synchronous code, that there is a queued call to be made."""
    with suppress(RedisError, OSError):
        _client(settings.REDIS_URL).publish(QUEUED, "")


async def listen(callback: Callable[[UUID], None]) -> None:
    """Call `callback` with the id of each call that some process publishes, until this is cancelled."""

    def received(data: bytes) -> None:
        with suppress(ValueError):  # a message of another program
            callback(UUID(data.decode()))

    await _listen(CHANNEL, received)


async def listen_for_queued(callback: Callable[[], None]) -> None:
    """Call `callback` each time that calls have been queued, until this is cancelled."""
    await _listen(QUEUED, lambda _: callback())


async def attend(reader: UUID) -> None:
    """Have others see that this reader is alive, until this is cancelled or the process dies."""
    await _listen(f"{READER}{reader}", lambda _: None)


class RollCall:
    """Sees at once which readers have died, for one that is alive and attends itself."""

    def __init__(self, me: UUID) -> None:
        """Ask nothing yet."""
        self._me = me
        self.attended: set[UUID] = set()
        self._client = AsyncRedis.from_url(
            settings.REDIS_URL, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE
        )

    async def died(self, others: Collection[UUID]) -> set[UUID]:
        """Return those of the others that attended before and no longer do; nobody as long as Redis does not answer."""
        asked = [self._me, *others]
        try:
            counts = await self._client.pubsub_numsub(*(f"{READER}{one}" for one in asked))
        except (RedisError, OSError):
            counts = []
        present = {one for one, (_, subscribers) in zip(asked, counts, strict=False) if subscribers}
        if self._me not in present:  # Redis was started anew, or away: it knows of nobody
            self.attended.clear()
            return set()
        died = self.attended.intersection(others) - present
        self.attended = present
        return died

    async def close(self) -> None:
        """Give the connection back."""
        with suppress(RedisError, OSError):
            await self._client.aclose()


async def _listen(channel: str, callback: Callable[[bytes], None]) -> None:
    while True:
        with suppress(RedisError, OSError):
            async with AsyncRedis.from_url(settings.REDIS_URL) as client, client.pubsub() as subscription:
                await subscription.subscribe(channel)
                async for message in subscription.listen():
                    if message["type"] == "message":
                        callback(message["data"])
        await asyncio.sleep(_AGAIN)


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
