"""Where a call runs and how long it may take: chosen per tool, or learned from what was slow."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread

import pytest
from django.db import connections
from django.utils import timezone

from tests.servers import kinds
from tests.tools.conftest import Shop, eventually
from tools.calls import life, offers
from tools.models import Call, Placement, Tool

AT_ONCE = {"Prefer": "wait=0"}


def the_tool(shop: Shop) -> Tool:
    return shop.connection.tools.get(name="echo")


def test_a_slow_tool_moves_to_the_queue_for_a_day(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.calls.runs.SLOW", 0.0)
    shop.call("echo", {"text": "slow"})
    until = the_tool(shop).slow_until
    assert until is not None
    assert timedelta(hours=23) < until - timezone.now() <= timedelta(days=1)
    offers.forget()
    assert shop.call("echo", {"text": "x"}, headers=AT_ONCE).json()["state"] == "queued"
    shop.set_tool("echo", slow_until=timezone.now())
    assert shop.call("echo", {"text": "x"}).json()["state"] == "succeeded"


def test_a_quick_tool_stays_where_it_is(shop: Shop) -> None:
    shop.call("echo", {"text": "quick"})
    assert the_tool(shop).slow_until is None


def test_a_caller_waits_for_a_tool_in_the_queue_as_for_any_other(shop: Shop) -> None:
    shop.set_tool("echo", placement=Placement.QUEUE)

    def work() -> None:
        call = eventually(lambda: Call.objects.filter(state="queued").first(), "a queued call")
        life.resume(call.pk)
        connections.close_all()

    worker = Thread(target=work)
    worker.start()
    answer = shop.call("echo", {"text": "x"})
    worker.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")


def test_a_tool_may_always_run_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.calls.runs.SLOW", 0.0)
    shop.set_tool("echo", placement=Placement.AT_ONCE)
    assert [shop.call("echo", {"text": "x"}).status_code for _ in range(2)] == [200, 200]
    assert the_tool(shop).slow_until is None


@pytest.mark.parametrize("clock", ["idle_timeout", "call_timeout"])
def test_a_tool_has_its_own_clocks(shop: Shop, clock: str) -> None:
    shop.set(idle_timeout=60, call_timeout=300)
    shop.set_tool("echo", **{clock: 1})
    shop.answers(kinds.hangs)
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (504, "timed_out")
