from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.loopback import NO_TLS


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=10) as client:
        yield client
