"""The GET stream of a session: one process reads it, another takes over, and what is asked there finds its call."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis

from tests.live import Api
from tests.processes import StartWeb, StartWorker
from tests.servers import valkey
from tests.servers.remembering import RememberingBox
from tests.tools.calls.test_sessions import ended, linger, put, said, streams
from tests.tools.conftest import Shop, eventually
from tools.calls import pubsub
from tools.calls.sessions import keeping
from tools.models import Call, McpSession, StreamReader
from tools.models.call_states import CallState

# --- who reads it ---


def test_a_stream_whose_reader_dies_is_read_by_another_process(cart: Shop, start_web: StartWeb) -> None:
    first, second = start_web(), start_web()
    put(Api(first.base, cart.api.token), "a")
    put(Api(second.base, cart.api.token), "b")
    assert streams(cart) == 1
    first.kill()
    eventually(lambda: streams(cart) == 2, "the stream is opened again")
    (row,) = McpSession.objects.all()
    assert put(Api(second.base, cart.api.token), "c") == "a, b, c"
    assert McpSession.objects.get().holder == row.holder


def test_a_worker_that_has_joined_no_session_takes_over_the_stream_of_the_only_web_process(
    cart: Shop, start_web: StartWeb, start_worker: StartWorker
) -> None:
    web = start_web()
    start_worker()
    put(Api(web.base, cart.api.token), "a")
    assert streams(cart) == 1
    web.kill()
    eventually(lambda: streams(cart) == 2, "the stream is opened again")


def test_a_reader_that_redis_no_longer_sees_is_succeeded_long_before_its_beat_is_due(cart: Shop) -> None:
    put(cart.api, "a")
    other, attends = uuid4(), Redis.from_url(settings.REDIS_URL).pubsub()
    StreamReader.objects.create(id=other, alive_until=timezone.now() + timedelta(hours=1))
    attends.subscribe(f"{pubsub.READER}{other}")
    McpSession.objects.update(holder=other)
    eventually(lambda: not reads(), "the stream is left to the other process")
    eventually(lambda: seen(other), "this process has seen the other one")
    attends.close()
    eventually(reads, "the stream is read here again")
    assert McpSession.objects.get().holder != other


def test_a_reader_that_redis_sees_may_be_late_with_its_beats_but_not_for_ever(cart: Shop) -> None:
    put(cart.api, "a")
    other, attends = uuid4(), Redis.from_url(settings.REDIS_URL).pubsub()
    late = StreamReader.objects.create(id=other, alive_until=timezone.now() + timedelta(hours=1))
    attends.subscribe(f"{pubsub.READER}{other}")
    McpSession.objects.update(holder=other)
    eventually(lambda: seen(other) and not reads(), "this process has seen the other one")
    for _ in range(4):
        StreamReader.objects.filter(pk=late.pk).update(alive_until=timezone.now() - timedelta(seconds=3))
        before = own_beat(other)
        eventually(lambda before=before: own_beat(other) > before, "another beat")  # type: ignore[misc]
    assert McpSession.objects.get().holder == other
    StreamReader.objects.filter(pk=late.pk).update(alive_until=timezone.now() - timedelta(minutes=1))
    eventually(reads, "the stream is read here again")
    attends.close()


def test_an_organization_has_so_many_streams_open_in_a_process_and_the_next_as_one_ends(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_READ", 1)
    for name in ("a", "b"):
        put(cart.api, "x", name)
    eventually(lambda: McpSession.objects.filter(calls=1).count() == 2, "some beats have passed")
    assert streams(cart) == 1
    assert cart.api.request("DELETE", "/v1/sessions/a").status_code == 204
    eventually(lambda: streams(cart) == 2, "the other one is read now", patience=60)


def reads() -> bool:
    """Whether this process reads the stream of a session."""
    joined = [one for here in keeping.everywhere().values() for one in list(here.joined.values())]
    return any(one.session.stream is not None and one.session.stream.held for one in joined)


def own_beat(other: UUID) -> datetime:
    """Until when this process says that it is alive."""
    return StreamReader.objects.exclude(pk=other).latest("alive_until").alive_until


def seen(reader: UUID) -> bool:
    """Whether this process has seen that a reader attends."""
    return any(here.roll is not None and reader in here.roll.attended for here in keeping.everywhere().values())


async def test_redis_that_is_started_anew_has_killed_nobody(settings: Any) -> None:
    with valkey.broker() as broker:
        settings.REDIS_URL = broker.url
        me, other, third = uuid4(), uuid4(), uuid4()
        roll = pubsub.RollCall(me)
        lasting = [asyncio.create_task(pubsub.attend(one)) for one in (me, third)]
        try:
            assert await died_after(roll, other, {third}) == {other}
            broker.stop()
            assert await roll.died({other, third}) == set()
            broker.start()
            assert await died_after(roll, other, {third}) == {other}
        finally:
            for task in lasting:
                task.cancel()
            await asyncio.wait(lasting)
            await roll.close()


async def test_who_calls_the_roll_can_be_stopped_at_any_moment() -> None:
    """With Python 3.11 `asyncio.wait_for` loses a cancellation that comes with the answer: nothing may use it."""
    roll = pubsub.RollCall(uuid4())

    async def without_end() -> None:
        while True:
            await roll.died({uuid4()})

    for turn in range(60):
        calling = asyncio.create_task(without_end())
        await asyncio.sleep(0.003 + turn % 10 / 3_000)
        calling.cancel()
        ended, _ = await asyncio.wait([calling], timeout=10)
        while not calling.done():  # or it would never end
            calling.cancel()
            await asyncio.wait([calling], timeout=0.1)
        assert ended, "its process could not be stopped"
    await roll.close()


async def died_after(roll: pubsub.RollCall, other: UUID, lasting: set[UUID]) -> set[UUID]:
    """Have another reader attend and die until Redis says so, and return who has died.

    While subscriptions come back, as after a start of Redis, a death may be missed: then the beats say so.
    """
    readers = {other, *lasting}
    async with asyncio.timeout(60):
        while True:
            attending = asyncio.create_task(pubsub.attend(other))
            while not roll.attended.issuperset(readers):
                assert not lasting & await roll.died(readers)
                await asyncio.sleep(0.01)
            attending.cancel()
            await asyncio.wait([attending])
            for _ in range(100):
                if died := await roll.died(readers):
                    return died
                await asyncio.sleep(0.01)


# --- what the server asks there ---


def test_a_question_reaches_the_call_that_another_process_makes(
    cart: Shop, start_web: StartWeb, box: RememberingBox
) -> None:
    cart.set(idle_timeout=3)
    first, second = (Api(start_web().base, cart.api.token) for _ in range(2))
    put(first, "a")  # its process reads the stream from now on
    asked = second.call("orders__ask")
    assert asked.status_code == 202, asked.text
    body = asked.json()
    assert body["state"] == "input_required"
    (question,) = body["input_required"]["requests"].items()
    assert question[1]["message"] == "What shall be put in?"
    assert not eventually_ended(body["id"], 5), "the clock stands still meanwhile"
    answers = {"responses": {question[0]: {"action": "accept", "content": {"name": "pear"}}}}
    done = second.post(f"/v1/calls/{body['id']}/input", answers, headers={"Prefer": "wait=30"})
    assert done.json()["content"][0]["text"] == "a, accept pear"


def eventually_ended(call_id: str, seconds: float) -> bool:
    try:
        eventually(lambda: Call.objects.get(pk=call_id).finished, "ended", seconds)
    except AssertionError:
        return False
    return True


def test_with_calls_in_two_processes_nobody_is_asked(cart: Shop, start_web: StartWeb) -> None:
    first, second = (Api(start_web().base, cart.api.token) for _ in range(2))
    put(first, "a")
    running = linger(first, "b", 4, Prefer="wait=0").json()["id"]
    eventually(lambda: Call.objects.filter(pk=running, state=CallState.RUNNING).exists(), "it runs")
    assert said(second.call("orders__ask")).endswith("cancel None")
    assert ended(first, running)["state"] == "succeeded"
