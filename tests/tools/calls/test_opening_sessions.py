"""A session that takes long to open is opened all the same, whoever else tries meanwhile."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from connections import egress
from tests.tools.calls.test_sessions import deleted
from tests.tools.conftest import PATIENCE, Shop, eventually
from tools.calls.sessions import opening
from tools.calls.sessions.keeping import Joined
from tools.catalog.upstream import server_for
from tools.mcp_client import Server
from tools.models import McpSession


def asked(shop: Shop) -> tuple[opening.Owner, Server]:
    """Return the assignment's own session, and the server at which it is opened."""
    shop.connection.refresh_from_db()
    server = replace(server_for(shop.connection), era="legacy", owner=str(shop.assignment.pk))
    return opening.Owner(shop.assignment.tenant_id, shop.assignment.pk, shop.connection.pk, "", server.key), server


async def opened(owner: opening.Owner, server: Server) -> Joined:
    """Open a session, as one process does."""
    async with asyncio.timeout(PATIENCE):
        joined, _ = await opening.openings().once(owner, server, timedelta(minutes=30))
    assert isinstance(joined, Joined)
    return joined


class Handshakes:
    """Handshakes that wait until they may go on, in the order in which they began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[threading.Event] = []
        self._real = opening.open_session
        monkeypatch.setattr(opening, "open_session", self._slow)

    async def _slow(self, server: Any) -> Any:
        self.begun.append(go_on := threading.Event())
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return await self._real(server)


def test_a_handshake_that_takes_longer_than_others_wait_for_it_ends_all_the_same(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    handshakes = Handshakes(monkeypatch)
    before = set(cart.server.sessions)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asyncio.run, opened(*asked(cart)))
        eventually(lambda: len(handshakes.begun) == 1, "one process opens it")
        McpSession.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        second = pool.submit(egress.run, opened(*asked(cart)))
        eventually(lambda: len(handshakes.begun) == 2, "another one takes over")
        handshakes.begun[0].set()
        assert first.result(PATIENCE).id == McpSession.objects.get().pk
        handshakes.begun[1].set()
        assert second.result(PATIENCE).id == first.result().id
    one, other = [session for session in cart.server.sessions if session not in before]
    eventually(lambda: other in deleted(cart), "the one that came later is ended")
    assert one not in deleted(cart)
    assert len(handshakes.begun) == 2


def test_a_session_that_cannot_be_written_down_is_ended(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(opening, "_store", away)
    before = set(cart.server.sessions)
    answer = cart.api.call("orders__cart")
    assert (answer.status_code, answer.json()["code"]) == (503, "session_unavailable")
    (opened_in_vain,) = set(cart.server.sessions) - before
    eventually(lambda: opened_in_vain in deleted(cart), "it is ended")
