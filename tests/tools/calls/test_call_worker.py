"""Calls that nobody waits for: a real Celery worker in a process of its own takes them from the broker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from connections import sealing
from tests.processes import StartWorker
from tests.servers import kinds
from tests.servers.running import Rule
from tests.tools.conftest import Shop, eventually
from tools.calls import life
from tools.models import AccessToken, Assignment, Call
from tools.models.call_states import CallState

ASYNC = {"headers": {"Prefer": "respond-async"}}


def ended(call_id: str) -> Call:
    """Return the call once it has ended."""
    found: Call = eventually(lambda: Call.objects.filter(pk=call_id).exclude(finished_at=None).first(), "its end")
    return found


def open_call(shop: Shop, state: CallState, lease: timedelta) -> UUID:
    """Leave a row as a process leaves it that died; the lease ends this long from now."""
    now, tool = timezone.now(), shop.connection.tools.get(name="echo")
    call = Call(
        tenant=shop.connection.tenant,
        assignment=shop.assignment,
        connection=shop.connection,
        tool=tool,
        tool_name="orders__echo",
        tool_digest=tool.approved_digest,
        server_url=shop.connection.server_url,
        state=state,
        started_at=now if state == CallState.RUNNING else None,
        sent_at=now if state == CallState.RUNNING else None,
        lease_until=now + lease,
    )
    call.sealed_arguments = sealing.seal({"text": "x"}, context=call.seal_context)
    call.save()
    return call.pk


def test_a_queued_call_is_answered_at_once_and_run_by_a_worker(shop: Shop, start_worker: StartWorker) -> None:
    answer = shop.call("echo", {"text": "later"}, **ASYNC)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "respond-async"
    path = answer.headers["location"].removeprefix(settings.PUBLIC_URL)
    assert shop.api.get(path).json()["state"] == "queued"
    assert shop.server.executions("echo") == 0
    start_worker()
    body = eventually(lambda: (now := shop.api.get(path).json())["finished_at"] and now, "the call's end")
    assert (body["state"], body["content"]) == ("succeeded", [{"type": "text", "text": "later"}])
    assert shop.server.executions("echo") == 1


def test_two_workers_make_each_call_once(shop: Shop, start_worker: StartWorker) -> None:
    queued = [shop.call("slow", {"steps": 4}, **ASYNC).json()["id"] for _ in range(8)]
    start_worker()
    start_worker()
    assert {ended(call).state for call in queued} == {"succeeded"}
    assert shop.server.executions("slow") == 8


def test_a_worker_that_is_told_to_end_finishes_what_it_has_and_takes_no_more(
    shop: Shop, start_worker: StartWorker
) -> None:
    first = shop.call("slow", {"steps": 4, "pause": 0.5}, **ASYNC).json()["id"]
    worker = start_worker()
    eventually(lambda: shop.server.executions("slow"), "the call at the server")
    worker.terminate()
    assert worker.wait(30) == 0
    assert Call.objects.get(pk=first).state == "succeeded"
    assert shop.call("echo", {"text": "x"}, **ASYNC).json()["state"] == "queued"


def test_failures_in_a_worker_are_told_in_the_row(shop: Shop, start_worker: StartWorker) -> None:
    shop.answers(kinds.answers(503, b"secret detail"))
    failing = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    denied = shop.call("add", {"a": 1, "b": 2}, **ASYNC).json()["id"]
    shop.set_tool("add", policy="deny")
    start_worker()
    assert (ended(failing).state, ended(failing).error_code) == ("failed", "upstream_server_failed")
    assert (ended(denied).state, ended(denied).error_code) == ("failed", "tool_denied")
    assert "secret" not in ended(failing).error_sentence


def test_a_worker_that_is_killed_in_a_call_leaves_an_honest_row(shop: Shop, start_worker: StartWorker) -> None:
    shop.answers(kinds.hangs)
    call_id = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    worker = start_worker()
    eventually(lambda: shop.server.count("tools/call"), "the call at the server")
    worker.kill()
    worker.wait()
    left = Call.objects.get(pk=call_id)
    assert left.state == "running"
    assert left.lease_until is not None
    shop.answers()
    start_worker()
    after = shop.call("echo", {"text": "after"}, **ASYNC).json()["id"]
    assert ended(after).state == "succeeded"
    assert life.sweep(left.lease_until + timedelta(seconds=1)) == []
    left.refresh_from_db()
    assert (left.state, left.error_code) == ("outcome_unknown", "outcome_unknown")
    assert shop.server.count("tools/call") == 2  # the killed call once, the one after it once


# --- what the sweeper finds; no worker is needed --------------------------------------------------------------------


def test_the_sweeper_ends_the_calls_of_dead_processes_and_only_those(shop: Shop) -> None:
    dead = open_call(shop, CallState.RUNNING, timedelta(seconds=-1))
    alive = open_call(shop, CallState.RUNNING, timedelta(seconds=60))
    assert life.sweep(timezone.now()) == []
    body = shop.api.get(f"/v1/calls/{dead}").json()
    assert (body["state"], body["error"]["code"]) == ("outcome_unknown", "outcome_unknown")
    assert Call.objects.get(pk=alive).state == "running"
    assert shop.server.count("tools/call") == 0


def test_a_queued_call_is_run_once_whoever_comes_second(shop: Shop) -> None:
    waiting = open_call(shop, CallState.QUEUED, timedelta(seconds=-1))
    assert life.sweep(timezone.now()) == [], "its row is all that a worker needs"
    life.resume(waiting)
    life.resume(waiting)
    assert Call.objects.get(pk=waiting).state == "succeeded"
    assert shop.server.executions("echo") == 1


@pytest.mark.parametrize("gone", [Assignment, AccessToken])
def test_a_queued_call_whose_caller_is_gone_ends(shop: Shop, gone: Any) -> None:
    waiting = open_call(shop, CallState.QUEUED, timedelta(seconds=60))
    gone.objects.all().delete()
    life.resume(waiting)
    row = Call.objects.get(pk=waiting)
    assert row.finished
    assert row.state == ("failed" if gone is Assignment else "succeeded")


@pytest.mark.parametrize("rule", [kinds.drops, kinds.floods])
def test_a_call_of_a_worker_may_end_unknown_too(shop: Shop, rule: Rule) -> None:
    shop.answers(rule)
    waiting = open_call(shop, CallState.QUEUED, timedelta(seconds=60))
    life.resume(waiting)
    assert Call.objects.get(pk=waiting).state == "outcome_unknown"


def test_a_call_whose_processes_all_died_before_it_was_sent_has_failed(shop: Shop) -> None:
    call = open_call(shop, CallState.RUNNING, timedelta(seconds=-1))
    Call.objects.filter(pk=call).update(sent_at=None, attempts=3)
    life.sweep(timezone.now())
    assert (Call.objects.get().state, Call.objects.get().error_code) == ("failed", "never_sent")
