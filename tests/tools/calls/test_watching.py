"""The watch over running calls, when calls end or come again while it looks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from uuid import uuid4

import pytest

from tools.calls import limits, watching
from tools.calls.exchanging import Exchanged, Seen
from tools.calls.limits import Bounds, BreakerSignal
from tools.errors import LeaseLost
from tools.models.call_states import CallState

PATIENCE = 10.0  # seconds


class SlowRows:
    """Rows that are read as slowly as a test wants."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answered = threading.Event()
        self.asked_again = threading.Event()
        self.lost: set[Any] = set()
        self.seen: dict[Any, Seen] = {}

    def __call__(self, _: Any, __: Any, ___: Any, alive: list[Any], ____: Any) -> Exchanged:
        seen = self.seen  # as it is when the look begins
        if alive:
            self.asked.set()
            assert self.answered.wait(PATIENCE)
        elif self.answered.is_set():
            self.asked_again.set()
        return Exchanged(seen, set(), self.lost, set(), set())

    async def are_asked(self) -> None:
        assert await asyncio.to_thread(self.asked.wait, PATIENCE)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> SlowRows:
    slow = SlowRows()
    monkeypatch.setattr(watching, "exchange", slow)
    monkeypatch.setattr(watching, "_ends", lambda *_: ({}, set()))  # there is no database here
    monkeypatch.setattr(watching, "_next_heartbeat", lambda: 0.0)
    return slow


async def looked() -> None:
    """Return once nobody looks any more."""
    look = watching._watch().polling
    assert look is not None
    await asyncio.wait_for(look, PATIENCE)  # noqa: TID251 - nobody cancels this


async def test_a_slot_that_is_released_during_a_poll_is_not_taken_again(rows: SlowRows) -> None:
    bounds = Bounds(uuid4(), uuid4(), uuid4(), None, 1, None, None)
    slot = await limits.acquire(bounds, lease=PATIENCE)
    with watching.running(uuid4(), 1, seal=str, slot=slot):
        await rows.are_asked()
    limits.release(slot, BreakerSignal.NEITHER)
    rows.answered.set()
    await looked()
    limits.release(await limits.acquire(bounds, lease=PATIENCE), BreakerSignal.NEITHER)


async def test_a_later_attempt_in_the_same_process_ends_the_earlier_and_is_watched_on(rows: SlowRows) -> None:
    call_id = uuid4()
    rows.answered.set()

    async def earlier() -> None:
        with watching.running(call_id, 1, seal=str):
            await asyncio.sleep(PATIENCE)

    first = asyncio.create_task(earlier())
    await rows.are_asked()
    with watching.running(call_id, 2, seal=str) as second:
        with pytest.raises(LeaseLost):
            await first
        assert watching._watch().running[call_id] is second
    await looked()


async def test_a_lease_that_an_earlier_attempt_lost_does_not_end_the_later(
    rows: SlowRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = uuid4()
    rows.lost = {call_id}
    with watching.running(call_id, 1, seal=str):
        await rows.are_asked()
    monkeypatch.setattr(watching, "_next_heartbeat", lambda: asyncio.get_running_loop().time() + PATIENCE)
    with watching.running(call_id, 2, seal=str) as second:
        rows.answered.set()
        assert await asyncio.to_thread(rows.asked_again.wait, PATIENCE)
        assert second.interrupted is None
    await looked()


async def test_what_was_read_before_somebody_came_is_no_news_to_them(rows: SlowRows) -> None:
    call_id, before = uuid4(), Seen(CallState.INPUT_REQUIRED, 1, answered=False)
    rows.seen = {call_id: before}
    with watching.running(call_id, 1, seal=str):  # its heartbeat holds the look up
        first = asyncio.ensure_future(watching.until(call_id, lambda _: True, PATIENCE))
        await rows.are_asked()
        second = asyncio.ensure_future(watching.until(call_id, lambda seen: not seen.answered, PATIENCE))
        await asyncio.sleep(0)
        rows.seen = {call_id: Seen(CallState.SUCCEEDED, 2, answered=False)}
        rows.answered.set()
        assert await first == before
        assert await second == rows.seen[call_id]
