"""Single connections to Redis, for what is asked often: a client's pool, retries and spans cost as much again."""

from __future__ import annotations

from django.conf import settings
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def new() -> AbstractConnection:
    """Return a connection that connects with its first command; its user sets a time limit to each exchange."""
    # RESP2 needs no HELLO.
    address = ConnectionPool.from_url(
        settings.REDIS_URL, protocol=2, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
    )
    made: AbstractConnection = address.connection_class(**address.connection_kwargs)
    return made
