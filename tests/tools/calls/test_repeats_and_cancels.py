"""The same request twice is one call; a call can be waited for, listed and cancelled from anywhere."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from connections import egress, sealing
from connections.models import User
from tests.conftest import House
from tests.live import Api
from tests.processes import StartWeb, StartWorker
from tests.servers import kinds
from tests.servers.toolbox import Result, Toolbox, furnished, schema, text
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.calls import ledger, life, runs
from tools.models import Call, StoredContent
from tools.models.call_states import CallState
from tools.models.calls import CallQuerySet

KEY = {"Idempotency-Key": "order-4711"}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def gate() -> threading.Event:
    """Set when the tool `wait` may end."""
    return threading.Event()


@pytest.fixture
def patient(open_shop: OpenShop, gate: threading.Event) -> Iterator[Shop]:
    """A shop with a tool that ends when it is told."""

    async def wait(_: dict[str, Any], __: Any) -> Result:
        await asyncio.to_thread(gate.wait)
        return text("at last")

    box: Toolbox = furnished()
    box.add("wait", wait, input_schema=schema())
    yield open_shop(box)
    gate.set()


# --- idempotency keys -----------------------------------------------------------------------------------------------


def test_the_same_key_and_the_same_body_are_the_same_call(shop: Shop) -> None:
    first = shop.call("add", {"a": 1, "b": 2}, headers=KEY)
    again = shop.call("add", {"b": 2, "a": 1}, headers={"Idempotency-Key": '"order-4711"'})
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert shop.server.executions("add") == 1
    other = shop.call("add", {"a": 1, "b": 2}, headers={"Idempotency-Key": "order-4712"})
    assert other.json()["id"] != first.json()["id"]
    assert shop.server.executions("add") == 2


@pytest.mark.parametrize(("tool", "arguments"), [("add", {"a": 1, "b": 3}), ("echo", {"text": "x"})])
def test_a_key_that_was_used_for_something_else_is_refused(shop: Shop, tool: str, arguments: dict[str, Any]) -> None:
    assert shop.call("add", {"a": 1, "b": 2}, headers=KEY).status_code == 200
    refused = shop.call(tool, arguments, headers=KEY)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert shop.server.executions(tool) == (1 if tool == "add" else 0)


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "ä", '""'])
def test_a_key_that_is_none_is_refused(shop: Shop, key: str) -> None:
    refused = shop.call("echo", {"text": "x"}, headers={"Idempotency-Key": key.encode()})
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_invalid")
    assert not Call.objects.exists()


def test_a_key_belongs_to_its_assignment(shop: Shop, acme: House) -> None:
    first = shop.call("echo", {"text": "x"}, headers=KEY).json()
    other = shop.api.as_(acme.token(acme.assignment("Other"))).call("orders__echo", {"text": "y"}, headers=KEY)
    assert other.status_code == 200
    assert other.json()["id"] != first["id"]


def test_a_key_is_free_again_after_a_day(shop: Shop) -> None:
    first = shop.call("echo", {"text": "x"}, headers=KEY).json()
    Call.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    second = shop.call("echo", {"text": "y"}, headers=KEY)
    assert second.status_code == 200
    assert second.json()["id"] != first["id"]
    assert Call.objects.filter(idempotency_key="order-4711").count() == 1


@pytest.mark.parametrize(
    "change", [{"policy": "deny"}, {"broken": "It changed its mind."}, {"gone_at": timezone.now()}]
)
def test_a_repeat_finds_its_call_although_the_tool_is_no_longer_offered(shop: Shop, change: dict[str, Any]) -> None:
    first = shop.call("add", {"a": 1, "b": 2}, headers=KEY)
    shop.set_tool("add", **change)
    assert shop.call("add", {"a": 1, "b": 2}, headers=KEY).json() == first.json()
    assert shop.call("add", {"a": 1, "b": 2}).status_code in {403, 404, 409}


@pytest.mark.parametrize("levels", [252, 253, 254, 300])
def test_arguments_nested_too_deeply_are_refused_with_a_key_as_without(shop: Shop, levels: int) -> None:
    body = b'{"arguments": {"text": "x", "deep": %b%b}}' % (b"[" * levels, b"]" * levels)
    refused = shop.post(body, idempotency_key="order-4711")
    assert refused.status_code == 422, refused.text
    assert not Call.objects.exists()


def test_twenty_at_once_with_one_key_are_executed_once(shop: Shop) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: shop.call("slow", {"steps": 4}, headers=KEY), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert shop.server.executions("slow") == 1
    assert Call.objects.count() == 1


def test_one_key_at_two_web_processes_is_executed_once(shop: Shop, start_web: StartWeb) -> None:
    bases = [start_web().base, start_web().base]

    def call(number: int) -> httpx2.Response:
        return Api(bases[number % 2], shop.api.token).call("orders__slow", {"steps": 4}, headers=KEY)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(call, range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert shop.server.executions("slow") == 1


def test_a_repeat_without_waiting_is_told_that_the_call_runs(patient: Shop, gate: threading.Event) -> None:
    first = patient.call("wait", headers=KEY | {"Prefer": "wait=0"})
    again = patient.call("wait", headers=KEY | {"Prefer": "wait=0"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["location"] == first.headers["location"]
    gate.set()
    assert patient.call("wait", headers=KEY).json()["content"] == [{"type": "text", "text": "at last"}]
    assert patient.server.executions("wait") == 1


def test_the_repeat_of_a_call_that_failed_fails_alike(shop: Shop) -> None:
    shop.answers(kinds.answers(503))
    first = shop.call("echo", {"text": "x"}, headers=KEY)
    again = shop.call("echo", {"text": "x"}, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (first.status_code, first.json()["code"])
    assert again.json()["call"] == first.json()["call"]
    assert Call.objects.count() == 1


# --- waiting --------------------------------------------------------------------------------------------------------


def test_who_asks_with_wait_is_answered_when_the_call_ends(patient: Shop, gate: threading.Event) -> None:
    path = f"/v1/calls/{patient.call('wait', headers={'Prefer': 'wait=0'}).json()['id']}"
    assert patient.api.get(path, headers={"Prefer": "wait=0"}).json()["state"] == "running"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.api.get, path, headers={"Prefer": "wait=20"})
        gate.set()
        answer = waiting.result(20)
    assert (answer.json()["state"], answer.headers["preference-applied"]) == ("succeeded", "wait=20")


def test_who_asks_with_wait_is_answered_when_the_time_is_up(patient: Shop) -> None:
    path = f"/v1/calls/{patient.call('wait', headers={'Prefer': 'wait=0'}).json()['id']}"
    began = time.monotonic()
    assert patient.api.get(path, headers={"Prefer": "wait=1"}).json()["state"] == "running"
    assert 0.9 < time.monotonic() - began < 10


def test_a_call_that_a_worker_makes_can_be_waited_for(shop: Shop, start_worker: StartWorker) -> None:
    queued = shop.call("echo", {"text": "later"}, headers=ASYNC).json()
    start_worker()
    answer = shop.api.get(f"/v1/calls/{queued['id']}", headers={"Prefer": "wait=25"})
    assert (answer.json()["state"], answer.json()["content"]) == ("succeeded", [{"type": "text", "text": "later"}])


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_a_running_call_is_interrupted_and_its_caller_told(patient: Shop) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.call, "wait")
        row = eventually(lambda: Call.objects.filter(state="running").first(), "the call")
        began = time.monotonic()
        cancelled = patient.api.post(f"/v1/calls/{row.pk}/cancel")
        assert time.monotonic() - began < 2
        answer = waiting.result(20)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.json()["error"]["code"] == "cancelled"
    assert (answer.status_code, answer.json()["code"]) == (409, "cancelled")
    row.refresh_from_db()
    assert (row.state, row.error_code, row.lease_until) == ("cancelled", "cancelled", None)


def test_a_call_in_another_process_is_interrupted(patient: Shop, start_worker: StartWorker) -> None:
    queued = patient.call("wait", headers=ASYNC).json()
    start_worker()
    eventually(lambda: patient.server.executions("wait") or None, "its start")
    cancelled = patient.api.post(f"/v1/calls/{queued['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


def test_a_queued_call_ends_before_it_begins(shop: Shop) -> None:
    queued = shop.call("echo", {"text": "x"}, headers=ASYNC).json()
    cancelled = shop.api.post(f"/v1/calls/{queued['id']}/cancel").json()
    assert (cancelled["state"], cancelled["error"]["detail"]) == (
        "cancelled",
        "The call was cancelled before it was made.",
    )
    assert not Call.objects.claim(timezone.now(), timezone.now())
    assert shop.server.executions("echo") == 0


def test_a_call_that_has_ended_stays_as_it_is(shop: Shop) -> None:
    ended = shop.call("echo", {"text": "x"}).json()
    assert shop.api.post(f"/v1/calls/{ended['id']}/cancel").json() == ended


def test_a_dead_process_does_not_hear_and_its_call_ends_as_unknown(shop: Shop) -> None:
    call = Call.objects.create(
        tenant=shop.connection.tenant, assignment=shop.assignment, tool_name="orders__echo", state="running",
        sealed_arguments="", sent_at=timezone.now(), lease_until=timezone.now() - timedelta(seconds=1),
    )  # fmt: skip
    life.cancel(call)
    life.sweep(timezone.now())
    call.refresh_from_db()
    assert call.state == CallState.OUTCOME_UNKNOWN


def test_an_unsent_call_of_a_dead_process_that_was_cancelled_is_cancelled(shop: Shop) -> None:
    call = orphan(shop, sent_at=None)
    life.cancel(call)
    assert life.sweep(timezone.now()) == []
    call.refresh_from_db()
    assert (call.state, call.error_sentence) == ("cancelled", "The call was cancelled before it was made.")


def test_a_cancel_ends_a_call_that_its_process_leaves_to_a_task_at_that_moment(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = orphan(shop, lease_until=timezone.now() + timedelta(minutes=1))
    end = CallQuerySet.end

    def end_and_leave(rows: CallQuerySet, *said: Any, **more: Any) -> int:
        ended = end(rows, *said, **more)
        Call.objects.filter(pk=call.pk, cancel_requested_at=None).update(lease_until=None)
        unwanted = Call.objects.filter(pk=call.pk).unwanted()
        return ended or end(unwanted, *said, **more)

    monkeypatch.setattr(CallQuerySet, "end", end_and_leave)
    life.cancel(call)
    call.refresh_from_db()
    assert call.state == "cancelled"


def test_the_organizations_admin_cancels_and_nobody_else(
    patient: Shop, acme: House, rival: House, signed_in: Callable[[User | None], Client]
) -> None:
    call = patient.call("wait", headers={"Prefer": "wait=0"}).json()["id"]
    form = {"action": "cancel", "_selected_action": call}
    for stranger in (acme.auditor, rival.admin):
        signed_in(stranger).post("/admin/tools/call/", form)
    assert Call.objects.get().cancel_requested_at is None
    signed_in(acme.admin).post("/admin/tools/call/", form)
    ended = patient.api.get(f"/v1/calls/{call}", headers={"Prefer": "wait=10"}).json()
    assert ended["state"] == "cancelled"
    assert acme.tenant.audit_events.filter(action="call.cancelled", object_id=call).count() == 1


# --- orphans --------------------------------------------------------------------------------------------------------


def orphan(shop: Shop, **members: Any) -> Call:
    """A call whose process died in the middle."""
    tool = shop.connection.tools.get(name="echo")
    call = Call(
        tenant=shop.connection.tenant, assignment=shop.assignment, connection=shop.connection,
        tool=tool, tool_name="orders__echo", tool_digest=tool.approved_digest, state="running",
        server_url=shop.connection.server_url,
        started_at=timezone.now(), sent_at=timezone.now(), lease_until=timezone.now() - timedelta(seconds=1),
    )  # fmt: skip
    call.sealed_arguments = sealing.seal({"text": "x"}, context=call.seal_context)
    for name, value in members.items():
        setattr(call, name, value)
    call.save()
    return call


def say_idempotent(shop: Shop, hint: bool) -> None:
    tool = shop.connection.tools.get(name="echo")
    shop.set_tool("echo", approved_definition={**tool.approved_definition, "annotations": {"idempotentHint": hint}})


def test_an_orphan_is_made_again_if_caller_and_tool_allow_it(shop: Shop) -> None:
    say_idempotent(shop, True)
    call = orphan(shop, idempotency_key="k")
    assert life.sweep(timezone.now()) == [call.pk]
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.attempts, shop.server.executions("echo")) == ("succeeded", 2, 1)


@pytest.mark.parametrize(
    ("idempotent", "members"),
    [
        (False, {"idempotency_key": "k"}),
        (True, {}),
        (True, {"idempotency_key": "k", "attempts": 3}),
        (True, {"idempotency_key": "k", "cancel_requested_at": timezone.now()}),
    ],
    ids=["the tool does not say so", "no key", "three attempts", "cancelled"],
)
def test_every_other_orphan_ends_as_unknown(shop: Shop, idempotent: bool, members: dict[str, Any]) -> None:
    say_idempotent(shop, idempotent)
    call = orphan(shop, **members)
    assert life.sweep(timezone.now()) == []
    call.refresh_from_db()
    assert call.state == "outcome_unknown"


def test_a_call_of_which_nothing_left_goes_back_to_the_queue(shop: Shop) -> None:
    call = orphan(shop, sent_at=None)
    assert life.sweep(timezone.now()) == [call.pk]
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.attempts, shop.server.executions("echo")) == ("succeeded", 2, 1)


def test_an_attempt_that_was_given_up_does_not_end_the_next(shop: Shop) -> None:
    call = orphan(shop, idempotency_key="k", attempts=2)
    late = ledger.Outcome(call.pk, 1, "failed", call.tenant_id, b"", "x", "From the dead.", timezone.now())
    assert egress.run(ledger.write(late)) is False
    call.refresh_from_db()
    assert call.state == "running"


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "with a stored content"])
def test_a_result_that_comes_after_the_call_has_ended_is_told_to_nobody(
    open_shop: OpenShop, gate: threading.Event, size: int
) -> None:
    async def wait(_: dict[str, Any], __: Any) -> Result:
        await asyncio.to_thread(gate.wait)
        return text("x" * size)

    box = Toolbox()
    box.add("wait", wait, input_schema=schema())
    shop = open_shop(box)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(shop.call, "wait", headers={"Prefer": "wait=20"})
        call = eventually(Call.objects.first, "the call")
        Call.objects.filter(pk=call.pk).end("outcome_unknown", "outcome_unknown", "Nobody knows.", timezone.now())
        gate.set()
        assert (answer.result(20).status_code, answer.result().json()["code"]) == (502, "outcome_unknown")
    assert not StoredContent.objects.exists()


def test_the_last_attempt_that_fails_leaves_open_what_an_earlier_one_did(shop: Shop) -> None:
    say_idempotent(shop, True)
    call = orphan(shop, idempotency_key="k")
    assert life.sweep(timezone.now()) == [call.pk]
    shop.answers(kinds.answers(503))
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code) == ("outcome_unknown", "outcome_unknown")


def test_what_a_call_tells_of_its_connection_is_worth_no_outcome(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(runs.access, "record_failure", away)
    shop.answers(kinds.answers(401))
    answer = shop.call("echo", {"text": "x"})
    assert answer.json()["code"] == "upstream_unauthorized"
    assert shop.row.error_code == "upstream_unauthorized"


def test_a_repeat_that_is_refused_leaves_open_what_the_first_attempt_did(shop: Shop) -> None:
    say_idempotent(shop, True)
    call = orphan(shop, idempotency_key="k")
    assert life.sweep(timezone.now()) == [call.pk]
    shop.set(enabled=False)
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code) == ("outcome_unknown", "outcome_unknown")


def test_a_cancelled_repeat_is_not_said_never_to_have_been_made(shop: Shop) -> None:
    say_idempotent(shop, True)
    call = orphan(shop, idempotency_key="k")
    assert life.sweep(timezone.now()) == [call.pk]
    life.cancel(call)
    call.refresh_from_db()
    assert (call.state, "before it was made" in call.error_sentence) == ("cancelled", False)


def test_an_orphan_that_was_sent_once_is_never_said_not_to_have_been(shop: Shop) -> None:
    say_idempotent(shop, True)
    call = orphan(shop, idempotency_key="k", attempts=2)
    assert life.sweep(timezone.now()) == [call.pk]
    past = timezone.now() - timedelta(seconds=1)
    assert Call.objects.filter(pk=call.pk).claim(past, past) == 1
    life.sweep(timezone.now())
    call.refresh_from_db()
    assert (call.state, call.attempts) == ("outcome_unknown", 3)


# --- listing --------------------------------------------------------------------------------------------------------


def test_an_assignment_lists_its_own_calls_newest_first(shop: Shop, acme: House) -> None:
    ids = [shop.call("echo", {"text": str(number)}).json()["id"] for number in range(3)]
    shop.call("fail")
    other = shop.api.as_(acme.token(acme.assignment("Other")))
    other.call("orders__echo", {"text": "theirs"})
    listed = shop.api.get("/v1/calls").json()["results"]
    assert [call["id"] for call in listed[1:]] == ids[::-1]
    assert "content" not in listed[0]
    assert [call["state"] for call in shop.api.get("/v1/calls?state=failed").json()["results"]] == ["failed"]
    assert len(shop.api.get("/v1/calls?tool=orders__echo").json()["results"]) == 3
    assert len(other.get("/v1/calls").json()["results"]) == 1
    refused = shop.api.get("/v1/calls?state=done")
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
