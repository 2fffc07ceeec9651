"""Tries of passwords, codes and mails: forgotten, as if nobody had tried anything yet."""

from __future__ import annotations

from django.conf import settings
from redis import Redis

from connections import throttle


def forget(address: str = "") -> None:
    """Fill every bucket again, in the Redis at this address, or in that of the settings, and in this process."""
    throttle._local.clear()
    with Redis.from_url(address or settings.REDIS_URL) as client:
        if keys := client.keys("duvo:throttle:*"):
            client.delete(*keys)
