"""A slow sign-in server holds the people who sign in there, and nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from django.conf import settings
from django.db import connection as database
from django.db import transaction

from connections import egress
from connections.models import User
from oauth.models import SignIn
from tests.loopback import NO_TLS
from tests.oauth.conftest import StartScene
from tests.processes import StartWeb
from tests.servers.authorization.server import approve

WAITING = 4  # as many pages as may wait beside the one place that such a small pool leaves to pages


async def nothing() -> None:
    """Take no time."""


def test_waiting_for_slow_providers_takes_neither_database_connections_nor_places_of_pages(
    scene: StartScene, start_web: StartWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene()
    callbacks = [httpx2.URL(approve(scene.depart())) for _ in range(WAITING)]
    scene.auth.hold_tokens()
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    web = start_web()
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={scene.client.session.session_key}"}
    with (
        httpx2.Client(trust_env=False, verify=NO_TLS, base_url=web.base, headers=cookie, timeout=60) as browser,
        ThreadPoolExecutor(WAITING) as people,
    ):
        coming = [people.submit(browser.get, url.raw_path.decode()) for url in callbacks]
        try:
            scene.auth.wait_until_held(WAITING)
            assert browser.get("/admin/connections/connection/", timeout=5).status_code == 200
        finally:
            scene.auth.release_tokens()
        assert [answer.result().status_code for answer in coming] == [302] * WAITING
    assert SignIn.objects.count() == 1


def test_what_runs_in_a_transaction_keeps_its_connection(transactional_db: None) -> None:
    if database.vendor != "postgresql":
        pytest.skip("Only PostgreSQL has a pool.")
    with transaction.atomic():
        User.objects.create(username="ada@example.com")
        mine = database.connection
        egress.run(nothing())
        assert database.connection is mine
    egress.run(nothing())
    assert database.connection is None
    assert User.objects.filter(username="ada@example.com").exists()
