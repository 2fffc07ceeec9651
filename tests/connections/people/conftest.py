"""Nobody has tried anything yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from connections import throttle


@pytest.fixture(autouse=True)
def _no_tries_yet(settings: Any) -> Iterator[None]:
    """Buckets of the tests before are full again."""
    address = settings.REDIS_URL

    def forget() -> None:
        throttle._local.clear()
        with redis.Redis.from_url(address) as client:
            if keys := client.keys("duvo:throttle:*"):
                client.delete(*keys)

    forget()
    yield
    forget()
