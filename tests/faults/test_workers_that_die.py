"""A process is killed while it has a call in hand: its row says what is known, and no more is done than may be."""

from __future__ import annotations

import httpx2
import pytest

from tests.faults.house import Process, eventually
from tests.faults.scene import WAITING, Made, Scene

pytestmark = pytest.mark.faults


def claimed_and_dead(scene: Scene, call: Made, worker: Process) -> None:
    """Kill the worker at the moment of its claim: the row says running, and nothing was sent."""
    with scene.held_moves():
        eventually(lambda: scene.house.stuck_on_a_lock('UPDATE "tools_call"'), "the claim")
        scene.kill(worker)
    eventually(lambda: scene.row(call).state == "running", "the claim of the dead")


def test_a_worker_that_dies_before_it_sends_gives_the_call_back_and_it_is_made_once(scene: Scene) -> None:
    call = scene.call()
    claimed_and_dead(scene, call, scene.worker())
    assert not scene.row(call).sent
    scene.worker()
    row = scene.ends(call, "succeeded")
    assert (row.attempts, scene.executions(call)) == (2, 1)
    assert scene.states(call) == ["queued", "running", "queued", "running", "succeeded"]


def test_a_worker_that_dies_after_it_sent_leaves_an_unknown_outcome(scene: Scene) -> None:
    call, keyed = scene.call(then="hold"), scene.call(then="hold", keyed=True)
    worker = scene.worker()
    scene.arrived(call)
    scene.arrived(keyed)
    scene.kill(worker)
    scene.worker()
    for one in (call, keyed):  # the tool is not idempotent, so a key changes nothing
        assert scene.ends(one, "outcome_unknown").error_code == "outcome_unknown"
        assert scene.executions(one) == 1


def test_a_call_with_a_key_to_an_idempotent_tool_is_made_again_after_its_worker_died(scene: Scene) -> None:
    call, without_key = scene.call("patient__again", then="hold", keyed=True), scene.call("patient__again", then="hold")
    worker = scene.worker()
    scene.arrived(call)
    scene.arrived(without_key)
    scene.kill(worker)
    scene.worker()
    assert scene.ends(call, "succeeded").attempts == 2
    assert (scene.text(call), scene.executions(call)) == ("execution 2", 2)
    scene.ends(without_key, "outcome_unknown")
    assert scene.executions(without_key) == 1


def test_a_call_is_made_three_times_at_most(scene: Scene) -> None:
    call = scene.call("patient__again", then="hold", times=9, keyed=True)
    for attempt in (1, 2, 3):
        worker = scene.worker()
        scene.arrived(call, attempt)
        scene.kill(worker)
    scene.worker()
    assert scene.ends(call, "outcome_unknown").attempts == 3
    assert scene.executions(call) == 3


@pytest.mark.parametrize("repeatable", [False, True])
def test_an_answer_that_has_reached_the_database_counts_though_its_worker_dies(scene: Scene, repeatable: bool) -> None:
    """One statement writes it, so the database carries it out also when nobody waits for it any more."""
    call = scene.call("patient__again" if repeatable else "patient__once", then="hold", keyed=repeatable)
    worker = scene.worker()
    scene.arrived(call)
    with scene.held_row(call):
        scene.let_go(call)
        eventually(lambda: scene.house.stuck_on_a_lock("sealed_result ="), "the outcome")
        scene.kill(worker)
    scene.worker()
    assert scene.ends(call, "succeeded").attempts == 1
    assert scene.executions(call) == 1


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_web_process_that_dies_in_a_call_leaves_what_is_known(scene: Scene, repeatable: bool) -> None:
    tool = "patient__again" if repeatable else "patient__once"
    call = scene.wait_for(tool, then="hold", keyed=repeatable)
    scene.kill(scene.house.web.process)
    assert call.answer is not None
    with pytest.raises(httpx2.TransportError):
        call.answer.result()
    scene.house.web = scene.house.start_web()
    scene.worker()
    scene.ends(call, "succeeded" if repeatable else "outcome_unknown")
    if repeatable:  # the caller asks again with its key, and is given the call that it made
        again = scene.send(call.request, WAITING).json()
        assert (again["id"], again["content"][0]["text"]) == (call.id, "execution 2")
    assert scene.executions(call) == (2 if repeatable else 1)
