"""What a server remembered is gone: the program gets to know of it by the outcome of a call, whatever happens."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.servers import kinds
from tests.tools.calls.test_opening_sessions import Handshakes
from tests.tools.calls.test_sessions import linger, named, put, refuse, restart, said
from tests.tools.conftest import PATIENCE, Shop, eventually
from tools.calls import ledger, life
from tools.calls.sessions import ending, opening
from tools.models import McpSession

RESTARTED = {"restarted": True}
write = ledger.write


def end_as_idle() -> None:
    """End every session, as if none had been used."""
    McpSession.objects.update(idle_until=timezone.now() - timedelta(seconds=1))
    assert ending.sweep(timezone.now()) == 1


def session_of(shop: Shop, thing: str, name: str | None = None) -> Any:
    """Return what a call tells of its session."""
    answer = shop.api.call("orders__put", {"thing": thing}, headers=named(name))
    said(answer)
    return answer.json()["session"]


def test_a_call_that_is_cancelled_during_the_handshake_leaves_it_to_the_next_one(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cart.api, "a")
    end_as_idle()
    with monkeypatch.context() as slow:
        handshakes = Handshakes(slow)
        call = cart.api.call("orders__put", {"thing": "b"}, headers={"Prefer": "wait=0"}).json()["id"]
        eventually(lambda: handshakes.begun, "the handshake has begun")
        assert cart.api.post(f"/v1/calls/{call}/cancel").json()["state"] == "cancelled"
        handshakes.begun[0].set()
        eventually(lambda: McpSession.objects.live().filter(opened_at__isnull=False).exists(), "it is open")
    assert session_of(cart, "c") == RESTARTED
    assert session_of(cart, "d") is None


def test_a_call_that_fails_tells_of_it_as_well(cart: Shop) -> None:
    put(cart.api, "a")
    end_as_idle()
    refuse(cart, 403, "tools/call")
    failed = cart.api.call("orders__put", {"thing": "b"})
    assert (failed.status_code, failed.json()["session"]) == (502, RESTARTED)
    assert cart.api.get(f"/v1/calls/{failed.json()['call']}").json()["session"] == RESTARTED
    del cart.server.rules[0]
    assert session_of(cart, "c") is None


def test_a_process_that_dies_before_the_outcome_has_told_nothing(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cart.api, "a")
    end_as_idle()
    call = cart.api.call("orders__put", {"thing": "b"}, headers={"Prefer": "respond-async"}).json()["id"]
    with monkeypatch.context() as dying:
        dying.setattr("tools.calls.ledger.write", dies)
        with pytest.raises(Died):
            life.resume(call)
    assert session_of(cart, "c") == RESTARTED


class Died(BaseException):
    """In the place of the end of the process."""


async def dies(row: ledger.rows.Row) -> bool:
    """Write what a worker writes until the tool has answered, and die then."""
    if isinstance(row, ledger.Outcome):
        raise Died
    return await write(row)


def test_a_session_that_is_lost_unheard_is_told_by_the_next_call(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cart.api, "a", "job")
    restart(cart, 404)
    call = cart.api.call("orders__put", {"thing": "b"}, headers=named("job") | {"Prefer": "respond-async"})
    with monkeypatch.context() as dying:
        dying.setattr("tools.calls.ledger.write", dies)
        with pytest.raises(Died):
            life.resume(call.json()["id"])
    assert session_of(cart, "c", "job") == {"name": "job", "restarted": True}
    assert session_of(cart, "d", "job") == {"name": "job", "restarted": False}


@pytest.mark.parametrize("name", ["job", None])
def test_a_session_whose_loss_shows_as_a_crash_is_told_by_the_next_call(cart: Shop, name: str | None) -> None:
    put(cart.api, "a", name)
    restart(cart, 500, b"<h1>Internal Server Error</h1>")
    failed = cart.api.call("orders__put", {"thing": "b"}, headers=named(name))
    assert failed.status_code == 502
    assert failed.json().get("session") == ({"name": "job", "restarted": False} if name else None)
    told = {"name": "job", "restarted": True} if name else RESTARTED
    assert session_of(cart, "c", name) == told
    assert session_of(cart, "d", name) == ({"name": "job", "restarted": False} if name else None)


def test_a_session_of_a_changed_connection_is_told_before_it_is_ended(cart: Shop) -> None:
    put(cart.api, "a")
    cart.set(revision=cart.connection.revision + 1)
    assert session_of(cart, "b") == RESTARTED
    assert ending.sweep(timezone.now()) == 1
    McpSession.objects.live().update(idle_until=timezone.now() - timedelta(seconds=1))
    assert session_of(cart, "c") is None


def test_who_waited_beside_the_opener_is_told_of_a_loss(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    cart.set(session_calls="one_at_a_time")
    once, open_session, both, counted = opening.Openings.once, opening.open_session, threading.Event(), []

    async def counts(openings: Any, *more: Any) -> Any:
        counted.append(more)
        if len(counted) == 2:
            both.set()
        return await once(openings, *more)

    async def waits(server: Any) -> Any:
        await asyncio.to_thread(both.wait, PATIENCE)
        return await open_session(server)

    gone, lost = kinds.answers(404), set[str]()

    async def forgets(server: Any, request: Any, receive: Any, send: Any) -> bool:
        """Forget the session as soon as its first call has arrived."""
        session = request.headers.get("mcp-session-id")
        if session in lost:
            return await gone(server, request, receive, send)
        if request.rpc_method == "tools/call" and not lost:
            lost.add(session)
        return False

    monkeypatch.setattr(opening.Openings, "once", counts)
    monkeypatch.setattr(opening, "open_session", waits)
    cart.server.rules.insert(0, forgets)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda thing: linger(cart.api, thing, 0, "job"), "ab"))
    assert sorted(one.status_code for one in answers) == [200, 409]
    assert [one.json()["code"] for one in answers if one.status_code == 409] == ["session_lost"]
