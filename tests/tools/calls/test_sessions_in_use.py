"""A session in which a call has begun is neither idle nor old: nothing ends it under the call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections.models import Connection
from connections.threads import in_thread
from tests.conftest import House
from tests.live import Api
from tests.servers.field.old_tasks import OldTasks
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer
from tests.tools.calls.test_sessions import named, put, said, used
from tests.tools.conftest import PATIENCE, Shop, eventually
from tools.calls import polling, pubsub
from tools.calls.sessions import ending, keeping, opening
from tools.models import Call, McpSession, Probe
from tools.models.call_states import CallState
from tools.models.sessions import SessionEnd


def joined() -> list[keeping.Joined]:
    """What this process has joined."""
    return [one for here in keeping.everywhere().values() for one in list(here.joined.values())]


def unused_for(minutes: int, **which: Any) -> None:
    """Set sessions back as if no process had used them for a while, once all that was used is written down."""
    eventually(lambda: not any(one.begun or one.calls for one in joined()), "their use is written down")
    ago = timezone.now() - timedelta(minutes=minutes)
    McpSession.objects.filter(**which).update(used_at=ago, idle_until=timezone.now() - timedelta(seconds=1))
    for one in joined():
        one.touched -= 60 * minutes


def as_a_call_arrives(shop: Shop, work: Callable[[], object]) -> list[object]:
    """Do this when the next call has arrived at the server, before it runs; return what that gives, in time."""
    results: list[object] = []

    async def does(_: McpServer, request: Incoming, receive: Any, send: Any) -> bool:
        if request.rpc_method == "tools/call" and not begun:
            begun.append(request)
            results.append(await asyncio.to_thread(work))
        return False

    begun: list[Incoming] = []
    shop.server.rules.insert(0, does)
    return results


def of_database(work: Callable[[], object]) -> Callable[[], object]:
    return lambda: asyncio.run(in_thread(work))


def test_a_session_is_not_idle_from_before_its_call_is_sent(cart: Shop) -> None:
    put(cart.api, "a")
    unused_for(31)
    swept = as_a_call_arrives(cart, of_database(lambda: ending.sweep(timezone.now())))
    assert put(cart.api, "b") == "a, b"
    assert swept == [0]


def test_a_session_whose_call_is_about_to_be_sent_makes_no_room(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 2)
    put(cart.api, "a", "a")
    put(cart.api, "b", "b")
    unused_for(2)
    unused_for(5, name="a")
    other = as_a_call_arrives(cart, lambda: put(cart.api, "c", "c"))
    assert put(cart.api, "a2", "a") == "a, a2"
    assert other == ["c"]
    assert set(McpSession.objects.live().values_list("name", flat=True)) == {"a", "c"}


def test_a_session_that_was_used_since_it_was_found_idle_is_not_ended(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cart.api, "a")
    unused_for(31)
    some = ending._some

    def then_used(rows: Any) -> Any:
        found = some(rows)
        if found.exists():
            McpSession.objects.update(idle_until=timezone.now() + timedelta(minutes=30))
        return found

    monkeypatch.setattr(ending, "_some", then_used)
    assert ending.sweep(timezone.now()) == 0
    assert put(cart.api, "b") == "a, b"


def test_a_session_that_ends_just_before_its_call_is_sent_gets_no_call(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cart.api, "a")
    unused_for(31)
    find = opening._find

    def then_ended(owners: Any) -> Any:
        found = find(owners)
        McpSession.objects.filter(pk=first).end(SessionEnd.IDLE, timezone.now())
        return found

    first = McpSession.objects.get().pk
    monkeypatch.setattr(opening, "_find", then_ended)
    answer = cart.api.call("orders__put", {"thing": "b"}, headers=named(None))
    assert said(answer) == "b"
    assert answer.json()["session"] == {"restarted": True}
    assert len(used(cart)) == len(set(used(cart))) == 2


@pytest.fixture
def task(acme: House, api: Api, mcp_server: StartServer, probed: Callable[[Connection], Probe]) -> Shop:
    """A shop in whose session the server works on a task."""
    server = mcp_server("legacy")
    server.rules.append(OldTasks(polls=50).rule)
    connection, assignment = acme.connection("Orders", server.url), acme.assignment()
    assert probed(connection).outcome == "passed"
    shop = Shop(server, connection, assignment, api.as_(acme.token(assignment)))
    shop.call("report", headers={"Prefer": "wait=1"})
    eventually(lambda: Call.objects.tasks().exists(), "the server works on a task")
    return shop


def test_each_look_at_a_task_is_use_of_its_session(task: Shop) -> None:
    unused_for(31)
    polling.poll(task.row.pk)
    assert McpSession.objects.get().idle_until > timezone.now() + timedelta(minutes=20)


def test_a_session_with_a_task_is_neither_idle_nor_makes_room(task: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 1)
    unused_for(31)
    assert ending.sweep(timezone.now()) == 0
    full = task.call("report", headers=named("another") | {"Prefer": "wait=1"})
    assert (full.status_code, full.json()["code"]) == (429, "too_many_sessions")
    Call.objects.all().end(CallState.CANCELLED, "cancelled", "Enough.", timezone.now())
    assert ending.sweep(timezone.now()) == 1


def test_a_session_that_is_joined_as_the_last_one_is_left_is_kept_in_use(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves, may_go, close = threading.Event(), threading.Event(), pubsub.RollCall.close

    async def slowly(roll: pubsub.RollCall) -> None:
        leaves.set()
        await asyncio.to_thread(may_go.wait, PATIENCE)
        await close(roll)

    monkeypatch.setattr(pubsub.RollCall, "close", slowly)
    put(cart.api, "a")
    assert cart.api.request("DELETE", "/v1/sessions").status_code == 204
    assert leaves.wait(PATIENCE)
    put(cart.api, "b")
    may_go.set()
    put(cart.api, "c")
    eventually(lambda: McpSession.objects.live().get().calls == 2, "the calls are counted")
