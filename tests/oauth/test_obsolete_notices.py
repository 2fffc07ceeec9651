"""Notices that nobody can do anything about are resolved by the hour."""

from __future__ import annotations

from typing import Any

import pytest

from connections.models import Connection, Notice, User
from oauth import tasks
from tests.conftest import House

pytestmark = pytest.mark.django_db

DEAD = {
    "authorization": "oauth", "credential_state": "refused", "credential_reason": "sign_in_revoked",
    "reachability_state": "reachable", "tools_state": "in_sync",
}  # fmt: skip


def noticed(connection: Connection, reason: str = "sign_in_revoked", owner: User | None = None, **more: Any) -> Notice:
    return Notice.objects.create(connection=connection, owner=owner, reason=reason, sentence=f"Told: {reason}.", **more)


def test_what_nobody_can_do_anything_about_is_resolved_by_the_hour(acme: House, rival: House) -> None:
    kept = [noticed(acme.connection("Orders", **DEAD)), noticed(acme.connection("Own", **DEAD), owner=acme.member)]
    noticed(acme.connection("Key", **DEAD | {"authorization": "api_key"}))
    noticed(acme.connection("Left", **DEAD), owner=rival.member, deliver_at=kept[0].created_at)
    tasks.forget_old()
    assert set(Notice.objects.open()) == set(kept)
