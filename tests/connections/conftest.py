"""The estate of acme, and everybody who might ask for it."""

from __future__ import annotations

import pytest

from connections.models import User
from tests.conftest import House
from tests.connections.estate import Estate, settle


@pytest.fixture
def estate(acme: House) -> Estate:
    return settle(acme)


@pytest.fixture
def cast(acme: House, rival: House, reviewer: User, superuser: User) -> dict[str, User | None]:
    return {
        "superuser": superuser, "admin": acme.admin, "member": acme.member, "auditor": acme.auditor,
        "rival": rival.admin, "reviewer": reviewer, "nobody": None,
    }  # fmt: skip
