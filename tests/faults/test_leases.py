"""A process is stopped for longer than its lease, and wakes up again: what it believes by then is no longer true."""

from __future__ import annotations

import pytest

from tests.faults.house import eventually
from tests.faults.scene import AT_ONCE, Made, Scene

pytestmark = pytest.mark.faults


def test_an_answer_that_comes_after_the_lease_changes_nothing(scene: Scene) -> None:
    call = scene.call(then="hold")
    worker = scene.worker()
    scene.arrived(call)
    scene.freeze(worker)
    scene.ends(call, "outcome_unknown")
    after = scene.call(then="answer")
    scene.let_go(call)
    scene.thaw(worker)
    scene.ends(after, "succeeded")  # the same worker makes it, so it is awake
    assert scene.states(call) == ["queued", "running", "outcome_unknown"]
    assert scene.executions(call) == 1


def test_a_process_that_was_replaced_does_not_overwrite_the_outcome_of_the_other(scene: Scene) -> None:
    call = scene.call("patient__again", then="hold", keyed=True)
    first = scene.worker()
    scene.arrived(call)
    scene.freeze(first)
    replace(scene, call)
    assert scene.row(call).attempts == 2
    scene.let_go(call)
    scene.thaw(first)
    scene.ends(scene.call(), "succeeded")  # the first makes it: it is awake
    assert (scene.text(call), scene.executions(call)) == ("execution 2", 2)
    assert scene.states(call) == ["queued", "running", "queued", "running", "succeeded"]


def test_a_process_that_was_replaced_before_it_sent_sends_nothing(scene: Scene) -> None:
    call = scene.call()
    first = scene.worker()
    with scene.held_moves():
        eventually(lambda: scene.house.stuck_on_a_lock('UPDATE "tools_call"'), "the claim")
        scene.freeze(first)
    replace(scene, call)
    scene.thaw(first)
    scene.ends(scene.call(), "succeeded")
    assert scene.executions(call) == 1
    assert scene.states(call) == ["queued", "running", "queued", "running", "succeeded"]


def replace(scene: Scene, call: Made) -> None:
    """Have another worker make a call whose worker is stopped."""
    scene.goes_through(call, "queued", "running", "queued")
    second = scene.worker()
    scene.ends(call, "succeeded")
    scene.kill(second)


def test_a_call_that_takes_longer_than_its_lease_stays_with_its_process(scene: Scene) -> None:
    long = 2 * scene.house.lease + 1
    queued, at_once = scene.call(seconds=long), scene.call(seconds=long, where=AT_ONCE)
    scene.worker()
    for call in (queued, at_once):
        assert scene.ends(call, "succeeded").attempts == 1
        assert scene.executions(call) == 1
