"""Limits and circuit breakers, as several processes keep to them together; times are those of a real Valkey."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings

from tests.servers import valkey
from tools.calls import limits
from tools.calls.limits import Bounds, Breakers, BreakerSignal, Slot
from tools.errors import CallError, CircuitOpen, LimitReached

LEASE = 30.0
PATIENCE = 15.0
PROCESSES = 4

together = multiprocessing.get_context("spawn")


@pytest.fixture
def broker() -> Iterator[valkey.Broker]:
    """A Valkey that a test may break."""
    with valkey.broker() as one:
        yield one


@pytest.fixture(autouse=True)
def clean() -> None:
    forget_everything()


def forget_everything() -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.delete(*server.scan_iter("duvo:limits:*"), "nothing")


def bounds(**more: Any) -> Bounds:
    """Somebody new, without limits except these."""
    free = Bounds(uuid4(), uuid4(), uuid4(), None, None, None, None)
    return replace(free, **more)


async def acquire(what: Bounds, lease: float = LEASE) -> Slot:
    return await limits.acquire(what, lease=lease)


async def refused(what: Bounds) -> CallError:
    with pytest.raises(CallError) as refusal:
        await acquire(what)
    return refusal.value


async def acquire_when_possible(what: Bounds, lease: float = LEASE) -> Slot:
    """Wait as long as the refusals say."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await acquire(what, lease)
        except CallError as refusal:
            assert time.monotonic() < deadline, "it was never let in"
            await asyncio.sleep(min(refusal.retry_after, 0.1))


async def fail(what: Bounds, times: int = 1) -> None:
    """Calls whose transport fails."""
    for _ in range(times):
        limits.release(await acquire(what), BreakerSignal.TRANSPORT_FAILED)


async def told() -> None:
    """Return when everything that was told before has been heard."""
    await limits.breakers()


# --- several processes --------------------------------------------------------------------------------------------


def many_attempts(cases: list[Bounds], start: Any, inside: Any) -> None:
    async def attempt(what: Bounds) -> bool:
        try:
            await acquire(what)
        except CallError:
            return False
        return True

    async def all_at_once(what: Bounds) -> int:
        await until(limits.breakers)  # a process that has just begun may be too slow for its first answer
        start.wait(PATIENCE)
        return sum(await asyncio.gather(*(attempt(what) for _ in range(50))))

    inside.put([asyncio.run(all_at_once(what)) for what in cases])


def enter_and_die(what: Bounds, lease: float) -> None:
    async def die_inside() -> None:
        await acquire(what, lease)
        os._exit(9)

    asyncio.run(die_inside())


def test_limits_are_exact_over_several_processes() -> None:
    down = bounds()
    asyncio.run(open_breaker(down))
    pause_is_over(down)
    cases = {
        bounds(connection_concurrency=20): 20,
        bounds(tenant_concurrency=20): 20,
        bounds(connection_rate=30): 30,
        bounds(assignment_rate=30): 30,
        bounds(connection_concurrency=40, tenant_concurrency=25, connection_rate=30): 25,
        down: 1,
    }
    start, inside = together.Barrier(PROCESSES), together.Queue()
    callers = [together.Process(target=many_attempts, args=(list(cases), start, inside)) for _ in range(PROCESSES)]
    for caller in callers:
        caller.start()
    counts = [inside.get(timeout=60) for _ in callers]
    for caller in callers:
        caller.join(PATIENCE)
    assert [sum(of_all) for of_all in zip(*counts, strict=True)] == list(cases.values())


async def open_breaker(what: Bounds) -> None:
    await fail(what, 5)
    await told()


def pause_is_over(what: Bounds) -> None:
    """Let the pause of an open breaker pass at once."""
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        assert server.hset(f"duvo:limits:breaker:{what.connection_id}", "over", "1") == 0


async def test_the_place_of_a_process_that_died_falls_free_after_its_lease() -> None:
    what, lease = bounds(connection_concurrency=1, tenant_concurrency=1), 1.0
    caller = together.Process(target=enter_and_die, args=(what, lease))
    caller.start()
    await asyncio.to_thread(caller.join, 60)
    assert caller.exitcode == 9
    died = time.monotonic()
    await acquire_when_possible(what)
    assert time.monotonic() - died <= lease + 0.5


# --- slots --------------------------------------------------------------------------------------------------------


async def test_a_place_that_is_left_is_free_for_the_next() -> None:
    what = bounds(connection_concurrency=1)
    slot = await acquire(what)
    assert (await refused(what)).code == "connection_busy"
    limits.release(slot, BreakerSignal.ANSWERED)
    await acquire(what)


async def test_a_place_is_held_no_longer_than_its_lease_unless_it_is_kept() -> None:
    kept, left_alone = bounds(connection_concurrency=1), bounds(tenant_concurrency=1)
    slots = [await acquire(kept, 0.3)]
    await acquire(left_alone, 0.3)
    await limits.renew(slots, lease=LEASE)
    await acquire_when_possible(left_alone)
    assert (await refused(kept)).code == "connection_busy"


async def test_places_that_redis_has_forgotten_are_taken_again_when_they_are_kept() -> None:
    what = bounds(connection_concurrency=1, tenant_concurrency=1)
    slot = await acquire(what)
    forget_everything()
    await limits.renew([slot], lease=LEASE)
    assert (await refused(what)).code == "organization_busy"


async def test_keeping_nothing_asks_nothing() -> None:
    await limits.renew([], lease=LEASE)


async def test_a_caller_that_goes_away_while_it_enters_leaves_no_place_taken() -> None:
    what = bounds(connection_concurrency=1)
    for turns in range(4):
        acquiring = asyncio.create_task(acquire(what))
        for _ in range(turns):
            await asyncio.sleep(0)
        acquiring.cancel()
        await asyncio.wait([acquiring])
        if not acquiring.cancelled():
            limits.release(acquiring.result(), BreakerSignal.NEITHER)
    await acquire(what)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("tenant_concurrency", "organization_busy"),
        ("connection_concurrency", "connection_busy"),
        ("connection_rate", "connection_rate"),
        ("assignment_rate", "assignment_rate"),
    ],
)
async def test_a_refusal_says_which_limit_it_was(limit: str, code: str) -> None:
    what = bounds(**{limit: 2})
    await acquire(what)
    await acquire(what)
    refusal = await refused(what)
    assert isinstance(refusal, LimitReached)
    assert (refusal.status, refusal.code) == (429, code)
    assert "limit of 2 calls" in refusal.sentence
    assert refusal.retry_after > 0


async def test_a_limit_of_nothing_refuses_every_call() -> None:
    for limit in ("tenant_concurrency", "connection_concurrency", "connection_rate", "assignment_rate"):
        assert (await refused(bounds(**{limit: 0}))).retry_after > 0


async def test_tenants_connections_and_assignments_do_not_influence_one_another() -> None:
    acme = bounds(tenant_concurrency=1, connection_concurrency=1, connection_rate=1, assignment_rate=1)
    rival = replace(acme, tenant_id=uuid4(), connection_id=uuid4(), assignment_id=uuid4())
    await acquire(acme)
    await refused(acme)
    await acquire(rival)
    await refused(rival)
    other = replace(acme, tenant_concurrency=2)
    assert (await refused(replace(other, assignment_id=uuid4()))).code == "connection_busy"
    assert (await refused(replace(other, connection_id=uuid4()))).code == "assignment_rate"
    await acquire(replace(other, connection_id=uuid4(), assignment_id=uuid4()))


# --- rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["connection_rate", "assignment_rate"])
async def test_the_next_token_is_there_exactly_when_the_refusal_says(limit: str) -> None:
    what = bounds(**{limit: 100})
    for _ in range(100):
        await acquire(what)
    refusal = await refused(what)
    assert 0 < refusal.retry_after <= 0.6
    await asyncio.sleep(refusal.retry_after)
    await acquire(what)
    assert (await refused(what)).code == limit


async def test_a_call_that_one_limit_refuses_takes_nothing_of_another() -> None:
    what = bounds(tenant_concurrency=50, connection_concurrency=1, connection_rate=3, assignment_rate=4)
    first = await acquire(what)
    for _ in range(5):
        assert (await refused(what)).code == "connection_busy"
    limits.release(first, BreakerSignal.ANSWERED)
    limits.release(await acquire(what), BreakerSignal.ANSWERED)
    limits.release(await acquire(what), BreakerSignal.ANSWERED)
    for _ in range(3):
        assert (await refused(what)).code == "connection_rate"
    elsewhere = replace(what, connection_id=uuid4(), connection_concurrency=None)
    await acquire(elsewhere)  # the last of four tokens: no refusal took one
    assert (await refused(elsewhere)).code == "assignment_rate"
    others = [replace(elsewhere, connection_id=uuid4(), assignment_id=uuid4()) for _ in range(50)]
    await asyncio.gather(*(acquire(other) for other in others[:49]))  # nor a slot in the organization
    assert (await refused(others[49])).code == "organization_busy"


async def test_a_queued_call_is_counted_once_and_takes_its_place_later() -> None:
    what = bounds(assignment_rate=1, connection_concurrency=1)
    await limits.count(what)
    with pytest.raises(LimitReached) as refusal:
        await limits.count(what)
    assert refusal.value.code == "assignment_rate"
    await limits.acquire(what, lease=LEASE, counted=True)
    assert (await refused(what)).code == "connection_busy"


async def test_counting_without_a_rate_asks_nothing() -> None:
    for _ in range(3):
        await limits.count(bounds())


# --- breakers -----------------------------------------------------------------------------------------------------


async def test_five_transport_failures_in_a_row_open_the_breaker_for_fifteen_seconds() -> None:
    what, other = bounds(), bounds()
    await fail(what, 4)
    limits.release(await acquire(what), BreakerSignal.TRANSPORT_FAILED)
    refusal = await refused(what)
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.status, refusal.code) == (503, "circuit_open")
    assert 10 < refusal.retry_after <= 15
    next_call = datetime.fromtimestamp(time.time() + refusal.retry_after, UTC)
    assert refusal.sentence.startswith("The server could not be reached 5 times in a row. The next call goes out at ")
    said = datetime.strptime(refusal.sentence[-13:], "%H:%M:%S UTC.").replace(tzinfo=UTC)
    assert abs((next_call - datetime.combine(next_call.date(), said.timetz())).total_seconds()) < 3
    await acquire(other)
    assert await limits.breakers() == Breakers(open=1, half_open=0)


@pytest.mark.parametrize(("signal", "opens"), [(BreakerSignal.ANSWERED, False), (BreakerSignal.NEITHER, True)])
async def test_only_an_answer_in_between_starts_the_count_anew(signal: BreakerSignal, opens: bool) -> None:
    what = bounds()
    await fail(what, 4)
    limits.release(await acquire(what), signal)
    await fail(what)
    await told()
    if opens:
        await refused(what)
    else:
        await acquire(what)


async def test_answers_and_calls_that_tell_nothing_never_open_the_breaker() -> None:
    what = bounds()
    for signal in [BreakerSignal.ANSWERED, BreakerSignal.NEITHER] * 10:
        limits.release(await acquire(what), signal)
    assert await limits.breakers() == Breakers(0, 0)


async def test_after_the_pause_exactly_one_call_tries_and_its_answer_closes_the_breaker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FIRST_PAUSE", 0.2)
    what = bounds()
    await fail(what, 5)
    pause = (await refused(what)).retry_after
    assert 0 < pause <= 0.2
    await asyncio.sleep(pause)
    probe = await acquire(what)
    refusal = await refused(what)
    assert isinstance(refusal, CircuitOpen)
    assert "One call is trying it now" in refusal.sentence
    assert await limits.breakers() == Breakers(open=0, half_open=1)
    limits.release(probe, BreakerSignal.ANSWERED)
    for _ in range(5):
        await acquire(what)
    assert await limits.breakers() == Breakers(0, 0)


FAILED, UNREACHED = BreakerSignal.SERVER_FAILED, BreakerSignal.TRANSPORT_FAILED


@pytest.mark.parametrize(
    ("signals", "told"),
    [
        ([UNREACHED] * 5, "The server could not be reached 5 times in a row."),
        (
            [FAILED] * 5,
            "The server was reached but failed with an error of its own (HTTP 502 or above) 5 times in a row.",
        ),
        (
            [FAILED, UNREACHED, FAILED, UNREACHED, UNREACHED],
            "The server could not be reached or failed with an error of its own (HTTP 502 or above) 5 times in a row.",
        ),
        ([FAILED, BreakerSignal.ANSWERED, *[UNREACHED] * 5], "The server could not be reached 5 times in a row."),
    ],
    ids=["not reached", "failed", "both", "an answer in between"],
)
async def test_an_open_breaker_says_what_happened(signals: list[BreakerSignal], told: str) -> None:
    what = bounds()
    for signal in signals:
        limits.release(await acquire(what), signal)
    assert (await refused(what)).sentence.startswith(f"{told} The next call goes out at ")


async def test_each_reopening_doubles_the_pause_up_to_five_minutes() -> None:
    what = bounds()
    await fail(what, 5)
    pauses = [(await refused(what)).retry_after]
    for _ in range(6):
        pause_is_over(what)
        await fail(what)
        pauses.append((await refused(what)).retry_after)
    assert pauses == pytest.approx([15, 30, 60, 120, 240, 300, 300], abs=5)
    assert "11 times in a row" in (await refused(what)).sentence
    pause_is_over(what)
    limits.release(await acquire(what), BreakerSignal.ANSWERED)
    await fail(what, 5)
    assert (await refused(what)).retry_after <= 15


async def test_calls_that_were_on_their_way_when_the_breaker_opened_do_not_prolong_the_pause() -> None:
    what = bounds()
    for slot in [await acquire(what) for _ in range(12)]:
        limits.release(slot, BreakerSignal.TRANSPORT_FAILED)
    assert (await refused(what)).retry_after <= 15


async def test_a_try_that_tells_nothing_leaves_the_next_try_to_another_call() -> None:
    what = bounds()
    await open_breaker(what)
    pause_is_over(what)
    limits.release(await acquire(what), BreakerSignal.NEITHER)
    await acquire(what)
    await refused(what)


async def test_a_try_that_died_is_replaced_after_its_lease_unless_it_is_kept() -> None:
    what = bounds()
    await open_breaker(what)
    pause_is_over(what)
    dead = await acquire(what, 0.3)
    alive = await acquire_when_possible(what, 0.3)
    await limits.renew([alive], lease=LEASE)
    limits.release(dead, BreakerSignal.TRANSPORT_FAILED)
    other = bounds(connection_concurrency=1)
    await acquire(other, 0.3)
    await acquire_when_possible(other)  # so a lease has passed
    assert "One call is trying it now" in (await refused(what)).sentence


async def test_a_call_that_a_limit_refuses_does_not_use_up_the_one_try() -> None:
    what = bounds(connection_rate=5)
    await open_breaker(what)
    pause_is_over(what)
    assert (await refused(what)).code == "connection_rate"
    await acquire(replace(what, connection_rate=None))


async def test_everything_expires() -> None:
    what = bounds(tenant_concurrency=9, connection_concurrency=9, connection_rate=9, assignment_rate=9)
    await fail(what, 5)
    await acquire(replace(what, connection_id=uuid4()))
    await told()
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        left = {key: server.ttl(key) for key in server.scan_iter("duvo:limits:*")}
    assert len(left) >= 6
    assert all(0 < seconds <= 3 * 3600 for seconds in left.values())


# --- Redis itself -------------------------------------------------------------------------------------------------


@dataclass
class Redis:
    """What a test does to the one that answers."""

    address: str

    def forget_scripts(self) -> None:
        with redis.Redis.from_url(self.address) as server:
            server.script_flush()

    def stand_still(self, seconds: float) -> None:
        with redis.Redis.from_url(self.address) as server:
            server.client_pause(int(seconds * 1000))


async def test_a_script_that_redis_has_forgotten_is_loaded_again(broker: valkey.Broker, settings: Any) -> None:
    settings.REDIS_URL = broker.url
    what = bounds(connection_rate=2)
    await acquire(what)
    Redis(broker.url).forget_scripts()
    await acquire(what)
    assert (await refused(what)).code == "connection_rate"


async def test_a_restart_that_nobody_noticed_lets_no_call_pass_by_the_limits(
    broker: valkey.Broker, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = broker.url
    what = bounds(connection_concurrency=1)
    await acquire(what)
    broker.stop()
    broker.start()
    assert (await refused(what)).code == "connection_busy"
    assert not caplog.records


async def test_calls_go_on_without_redis_and_one_warning_says_so(
    broker: valkey.Broker, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ASK_AGAIN", 0.3)
    settings.REDIS_URL = broker.url
    what = bounds(connection_concurrency=1)
    slot = await acquire(what)
    broker.stop()
    began = time.monotonic()
    for _ in range(50):
        limits.release(await acquire(what), BreakerSignal.NEITHER)
    await limits.renew([slot], lease=LEASE)
    await limits.count(replace(what, assignment_rate=1))
    assert await limits.breakers() is None
    assert time.monotonic() - began < 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    broker.start()
    await until(limits.breakers)
    await limits.renew([slot], lease=LEASE)
    assert (await refused(what)).code == "connection_busy"


async def test_a_redis_that_stands_still_holds_calls_up_for_half_a_second_and_gets_places_back_later(
    broker: valkey.Broker, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ASK_AGAIN", 0.3)
    settings.REDIS_URL = broker.url
    what = bounds(connection_concurrency=1)
    slot = await acquire(what)
    Redis(broker.url).stand_still(1.5)
    began = time.monotonic()
    await asyncio.gather(*(acquire(what) for _ in range(20)))
    assert 0.4 < time.monotonic() - began < 1.4
    limits.release(slot, BreakerSignal.ANSWERED)
    await until(limits.breakers)
    await acquire(what)


async def until(answers: Callable[[], Any]) -> None:
    """Ask until there is an answer."""
    deadline = time.monotonic() + PATIENCE
    while await answers() is None:
        assert time.monotonic() < deadline, "Redis was never asked again"
        await asyncio.sleep(0.05)


def test_event_loops_of_one_process_share_the_limits() -> None:
    what = bounds(connection_concurrency=1)
    asyncio.run(acquire(what))
    with pytest.raises(LimitReached):
        asyncio.run(acquire(what))


def test_identifiers_of_places_are_their_own() -> None:
    async def two() -> set[str]:
        return {(await acquire(bounds())).id, (await acquire(bounds())).id}

    ids = asyncio.run(two())
    assert len(ids) == 2
    assert all(UUID(one).hex == one for one in ids)
