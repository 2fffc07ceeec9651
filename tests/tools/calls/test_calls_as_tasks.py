"""A server that answers with a task: the call goes on without a process, and survives the restart of everything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.servers import kinds
from tests.servers.asking import ONE_NAME, form
from tests.servers.tasks import TaskBox
from tests.tools.conftest import OpenShop, Shop
from tools.calls import answering, life, polling, runs
from tools.models import Call


@pytest.fixture
def box() -> TaskBox:
    return TaskBox()


@pytest.fixture
def desk(open_shop: OpenShop, box: TaskBox) -> Shop:
    """A shop whose server works on reports as tasks."""
    return open_shop(box)


def begun(desk: Shop) -> Call:
    answer = desk.call("report", headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    return desk.row


def looked(call: Call) -> Call:
    polling.poll(call.pk)
    call.refresh_from_db()
    return call


def test_a_task_is_looked_at_until_it_ends(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    assert (call.lease_until, box.only.id in call.sealed_task) == (None, False)
    assert looked(call).state == "running"
    box.only.complete("The report.", structuredContent={"pages": 3})
    assert looked(call).state == "succeeded"
    seen = desk.api.get(f"/v1/calls/{call.pk}").json()
    assert (seen["content"][0]["text"], seen["structured_content"]) == ("The report.", {"pages": 3})
    assert box.executions["report"] == 1


def test_the_server_says_when_to_look_again_and_nobody_looks_twice(desk: Shop, box: TaskBox) -> None:
    box_interval = 7_000
    call = begun(desk)
    box.only.interval_ms = box_interval
    looked(call)
    assert call.poll_at is not None
    due = call.poll_at - timezone.now()
    assert timedelta(seconds=5) < due <= timedelta(seconds=7)
    assert polling.due(timezone.now()) == []
    later = call.poll_at + timedelta(seconds=1)
    assert polling.due(later) == [call.pk]
    assert polling.due(later) == [], "a look is under way"
    assert polling.due(later + timedelta(minutes=2)) == [call.pk], "a look that got lost is made again"


def test_a_sweep_leaves_a_task_alone(desk: Shop) -> None:
    call = begun(desk)
    life.sweep(timezone.now() + timedelta(minutes=4))
    call.refresh_from_db()
    assert call.state == "running"


def test_a_failed_task_is_a_failed_call(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.only.fail()
    looked(call)
    assert (call.state, call.error_code) == ("failed", "upstream_rpc_error")
    assert "secret" not in call.error_sentence


def test_a_task_whose_result_is_an_error_is_the_tools_own_error(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.only.complete("No such order.", isError=True)
    assert looked(call).state == "failed"
    seen = desk.api.get(f"/v1/calls/{call.pk}").json()
    assert (seen["is_error"], seen["content"][0]["text"]) == (True, "No such order.")


def test_a_task_that_the_server_cancels_is_a_cancelled_call(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.only.cancel()
    assert looked(call).state == "cancelled"


def test_a_cancelled_call_cancels_its_task(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    assert desk.api.post(f"/v1/calls/{call.pk}/cancel").json()["state"] == "cancelled"
    polling.cancel(call.pk)
    assert box.only.status == "cancelled"


def test_a_call_that_is_cancelled_as_it_becomes_a_task_cancels_it(
    desk: Shop, box: TaskBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = runs._leave_to_task

    def cancelled_meanwhile(run: runs.Run, task: Any) -> Any:
        Call.objects.filter(pk=run.call_id).update(cancel_requested_at=timezone.now())
        return leave(run, task)

    monkeypatch.setattr(runs, "_leave_to_task", cancelled_meanwhile)
    assert desk.call("report", headers={"Prefer": "wait=5"}).json()["code"] == "cancelled"
    assert box.only.status == "cancelled"


def test_a_task_asks_and_goes_on_with_the_answer(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.only.ask(who=form("What is your name?", ONE_NAME))
    assert looked(call).state == "input_required"
    shown = desk.api.get(f"/v1/calls/{call.pk}").json()["input_required"]["requests"]
    assert shown["who"]["message"] == "What is your name?"
    answer = {"action": "accept", "content": {"name": "Ada"}}
    desk.api.post(f"/v1/calls/{call.pk}/input", {"responses": {"who": answer}})
    assert polling.due(timezone.now() + timedelta(seconds=1)) == [call.pk]
    assert looked(call).state == "running"
    assert box.only.responses == {"who": answer}
    box.only.complete()
    assert looked(call).state == "succeeded"


def test_a_question_that_was_answered_is_not_put_again(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.only.ask(who=form("What is your name?", ONE_NAME))
    looked(call)
    answering.answer(call, {"who": {"action": "decline"}})
    looked(call)
    box.only.status, box.only.responses = "input_required", {}  # a server that is slow to take it in
    assert looked(call).state == "running"
    box.only.ask(what=form("What is your quest?", ONE_NAME))
    assert looked(call).state == "input_required"


def test_an_answer_that_comes_too_late_for_a_task_that_has_ended_does_not_hide_its_result(
    desk: Shop, box: TaskBox
) -> None:
    call = begun(desk)
    box.only.ask(who=form("What is your name?", ONE_NAME))
    looked(call)
    answering.answer(call, {"who": {"action": "decline"}})
    box.only.complete("It went on without you.")
    assert looked(call).state == "succeeded"


def test_a_look_that_comes_late_leaves_newer_answers_alone(desk: Shop, box: TaskBox) -> None:
    call, stale = begun(desk), desk.row
    box.only.ask(who=form("What is your name?", ONE_NAME))
    looked(call)
    answer = {"action": "accept", "content": {"name": "Ada"}}
    answering.answer(call, {"who": answer})
    polling._poll_again(stale, timedelta(seconds=1), sealed_answers="")
    call.refresh_from_db()
    looked(call)
    assert box.only.responses == {"who": answer}


def test_a_server_that_is_out_of_reach_is_asked_again(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    desk.server.behave(kinds.only_modern, kinds.only_on("tasks/get", kinds.answers(503)))
    assert looked(call).state == "running"
    assert call.poll_at is not None
    assert call.poll_at > timezone.now() + timedelta(seconds=5)
    desk.server.behave(kinds.only_modern)
    box.only.complete()
    assert looked(call).state == "succeeded"


def test_a_task_that_the_server_has_forgotten_has_an_unknown_outcome(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    box.jobs.clear()
    looked(call)
    assert (call.state, call.error_code) == ("outcome_unknown", "outcome_unknown")


def test_a_task_that_takes_longer_than_the_tool_may_is_cancelled(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    Call.objects.update(started_at=timezone.now() - timedelta(hours=1))
    looked(call)
    assert (call.state, box.only.status) == ("timed_out", "cancelled")


def test_the_task_of_a_tool_that_was_denied_meanwhile_is_looked_at_no_more(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    desk.set_tool("report", policy="deny")
    box.only.complete()
    assert (looked(call).state, call.error_code, box.used["tasks/get"]) == ("cancelled", "tool_denied", 0)


def test_what_the_task_says_of_itself_is_progress(desk: Shop, box: TaskBox) -> None:
    call = begun(desk)
    looked(call)
    seen = desk.api.get(f"/v1/calls/{call.pk}").json()
    assert seen["progress"]["message"] == "Collecting the figures"
    before = call.events.count()
    looked(call)
    assert call.events.count() == before, "the same words are no step"


def test_a_task_that_cannot_even_be_asked_for_ends_as_unknown(desk: Shop) -> None:
    call = begun(desk)
    Call.objects.update(sealed_task="no key opens this")
    assert looked(call).state == "running"
    Call.objects.update(started_at=timezone.now() - timedelta(hours=2))
    assert (looked(call).state, call.error_code) == ("outcome_unknown", "outcome_unknown")
