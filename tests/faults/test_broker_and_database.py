"""The broker or the database goes away and comes back while calls are queued and under way."""

from __future__ import annotations

import time

import pytest
import redis

from tests.faults.house import eventually
from tests.faults.scene import AT_ONCE, Scene

pytestmark = pytest.mark.faults


def test_calls_that_are_queued_outlive_a_restart_of_the_broker(scene: Scene) -> None:
    calls = [scene.call() for _ in range(20)]
    scene.house.broker.stop()
    scene.house.broker.start()
    scene.worker()
    for call in calls:
        assert scene.ends(call, "succeeded").attempts == 1
        assert scene.executions(call) == 1


def test_a_call_under_way_outlives_a_restart_of_the_broker(scene: Scene) -> None:
    call = scene.call(then="hold")
    scene.worker()
    scene.arrived(call)
    scene.house.broker.stop()
    without_broker = scene.call()
    scene.house.broker.start()
    scene.let_go(call)
    scene.ends(call, "succeeded")
    scene.ends(without_broker, "succeeded")
    assert [scene.executions(one) for one in (call, without_broker)] == [1, 1]


def test_calls_under_way_outlive_an_outage_of_the_broker_that_is_longer_than_a_lease(scene: Scene) -> None:
    calls = [scene.call(then="hold"), scene.call(then="hold", where=AT_ONCE)]
    scene.worker()
    for call in calls:
        scene.arrived(call)
    scene.house.broker.stop()
    for call in calls:
        scene.stays_alive(call)
    scene.house.broker.start()
    for call in calls:
        scene.let_go(call)
        assert scene.ends(call, "succeeded").attempts == 1
        assert scene.executions(call) == 1


def test_calls_are_made_when_the_broker_has_forgotten_everything(scene: Scene) -> None:
    calls = [scene.call() for _ in range(5)]
    with redis.Redis.from_url(scene.house.broker.url) as broker:
        broker.flushall()
    scene.worker()
    for call in calls:
        scene.ends(call, "succeeded")
        assert scene.executions(call) == 1


def test_calls_under_way_outlive_a_restart_of_the_database(scene: Scene) -> None:
    calls = [scene.call(then="hold"), scene.call(then="hold", where=AT_ONCE)]
    waiting = scene.wait_for(then="hold")
    scene.worker()
    for call in calls:
        scene.arrived(call)
    scene.house.cluster.stop()
    scene.house.cluster.start()
    for call in (*calls, waiting):
        scene.let_go(call)
    for call in (*calls, waiting):
        assert scene.ends(call, "succeeded").attempts == 1
        assert scene.executions(call) == 1
    assert waiting.answer is not None
    assert waiting.answer.result().json()["state"] == "succeeded"


def test_an_answer_that_comes_while_the_database_is_away_is_told_or_unknown(scene: Scene) -> None:
    call, waiting = scene.call(then="hold"), scene.wait_for(then="hold")
    scene.worker()
    scene.arrived(call)
    scene.house.cluster.stop()
    for one in (call, waiting):
        scene.let_go(one)
        scene.house.server.answered(one.request.marker)
    scene.house.cluster.start()
    assert waiting.answer is not None
    assert waiting.answer.result().json()["content"] == [{"type": "text", "text": "execution 1"}]
    for one in (call, waiting):
        scene.ends(one, "succeeded", "outcome_unknown")
        assert scene.executions(one) == 1


def test_calls_under_way_end_honestly_after_an_outage_of_the_database_that_is_longer_than_a_lease(scene: Scene) -> None:
    call, repeatable = scene.call(then="hold"), scene.call("patient__again", then="hold", keyed=True)
    scene.worker()
    scene.arrived(call)
    scene.arrived(repeatable)
    scene.house.cluster.stop()
    back = time.monotonic() + scene.house.lease + 1
    eventually(lambda: time.monotonic() > back, "the end of the outage")
    scene.house.cluster.start()
    scene.let_go(call)
    scene.let_go(repeatable)
    scene.ends(call, "succeeded", "outcome_unknown")
    assert scene.executions(call) == 1
    assert scene.ends(repeatable, "succeeded").attempts >= scene.executions(repeatable)
