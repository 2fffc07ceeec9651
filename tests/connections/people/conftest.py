"""Nobody has tried anything yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import tries


@pytest.fixture(autouse=True)
def _no_tries_yet(settings: Any) -> Iterator[None]:
    """Buckets of the tests before are full again."""
    address = settings.REDIS_URL  # the test may name another
    tries.forget(address)
    yield
    tries.forget(address)
