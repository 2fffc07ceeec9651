"""A session that takes long to open is opened all the same, whoever else tries meanwhile."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

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


WAITING = 40  # names; while each asked for itself this was 800 questions a second


async def test_who_waits_for_sessions_that_others_open_asks_together(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_about: list[str] = []
    real: Any = opening.in_thread

    async def counted(function: Any, *args: Any, **more: Any) -> Any:
        asked_about.append(function.__name__)
        return await real(function, *args, **more)

    monkeypatch.setattr(opening, "in_thread", counted)
    own, server = await real(asked, cart)
    owners = [replace(own, name=f"name {number}") for number in range(WAITING)]
    due_at = timezone.now() + timedelta(seconds=PATIENCE)
    await real(lambda: [_begun(owner, due_at) for owner in owners])
    waiting = [asyncio.create_task(opened(owner, server)) for owner in owners]
    _, pending = await asyncio.wait(waiting, timeout=2.0)
    assert len(pending) == WAITING
    assert asked_about.count("_claim") == WAITING, "each looks once for itself"
    assert 2 <= len(asked_about) - WAITING <= 16, "and then all of them together"
    await real(McpSession.objects.filter(name="name 7").delete)  # whoever opened it has given up
    done, pending = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert [one.result().id for one in done] == await real(_open_ones)
    for one in pending:
        one.cancel()
    await asyncio.wait(pending)


def _begun(owner: opening.Owner, due_at: datetime) -> None:
    McpSession.objects.create(
        tenant_id=owner.tenant_id, assignment_id=owner.assignment_id, connection_id=owner.connection_id,
        name=owner.name, server_key=owner.server_key, revision=owner.revision, due_at=due_at,
    )  # fmt: skip


def _open_ones() -> list[UUID]:
    return list(McpSession.objects.filter(opened_at__isnull=False).values_list("pk", flat=True))
