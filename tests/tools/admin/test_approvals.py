"""A tool whose calls are approved one by one: the call waits, an admin decides, and only then anything is sent."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread

import pytest
from django.db import connections
from django.utils import timezone

from connections.models import Tenant
from tests.tools.conftest import Shop, eventually
from tools.calls import life
from tools.models import Call

AT_ONCE = {"Prefer": "wait=0"}


@pytest.fixture
def asking_first(shop: Shop) -> Shop:
    shop.set_tool("echo", policy="ask")
    return shop


def test_a_call_waits_for_approval_and_is_made_after_it(asking_first: Shop) -> None:
    answer = asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    assert (answer.status_code, answer.json()["state"]) == (202, "awaiting_approval")
    assert answer.json()["waits_until"] is not None
    assert asking_first.server.executions("echo") == 0
    call = asking_first.row
    assert life.approve(call, by="admin@acme.example")
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.decided_by, asking_first.server.executions("echo")) == (
        "succeeded", "admin@acme.example", 1,
    )  # fmt: skip
    assert [event.state for event in call.events.all()] == ["awaiting_approval", "queued", "running", "succeeded"]


def test_a_queued_call_is_not_made_when_its_tool_needs_approval_by_now(shop: Shop) -> None:
    shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"})
    shop.set_tool("echo", policy="ask")
    call = shop.row
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code, shop.server.executions("echo")) == ("failed", "approval_refused", 0)


def test_a_caller_that_waits_gets_the_result_when_the_admin_is_quick(asking_first: Shop) -> None:
    def decide() -> None:
        call = eventually(lambda: Call.objects.filter(state="awaiting_approval").first(), "a call to approve")
        life.approve(call, by="admin@acme.example")
        life.resume(call.pk)
        connections.close_all()

    deciding = Thread(target=decide)
    deciding.start()
    answer = asking_first.call("echo", {"text": "now"}, headers={"Prefer": "wait=20"})
    deciding.join()
    assert (answer.status_code, answer.json()["content"][0]["text"]) == (200, "now")


def test_a_refused_call_tells_the_reason_and_sends_nothing(asking_first: Shop) -> None:
    asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    call = asking_first.row
    assert life.refuse(call, by="admin@acme.example", reason="Ask Grace first.")
    seen = asking_first.api.get(f"/v1/calls/{call.pk}").json()
    assert seen["state"] == "failed"
    assert seen["error"] == {
        "code": "approval_refused", "detail": "An organization admin refused the call: Ask Grace first."
    }  # fmt: skip
    assert asking_first.server.executions("echo") == 0


def test_a_caller_that_waits_hears_of_the_refusal_as_403(asking_first: Shop) -> None:
    def decide() -> None:
        call = eventually(lambda: Call.objects.filter(state="awaiting_approval").first(), "a call to approve")
        life.refuse(call, by="admin@acme.example", reason="")
        connections.close_all()

    deciding = Thread(target=decide)
    deciding.start()
    answer = asking_first.call("echo", {"text": "now"}, headers={"Prefer": "wait=20"})
    deciding.join()
    assert (answer.status_code, answer.json()["code"]) == (403, "approval_refused")


def test_the_first_decision_stands(asking_first: Shop) -> None:
    asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    call = asking_first.row
    assert life.refuse(call, by="ada", reason="")
    assert not life.approve(call, by="grace")
    assert not life.refuse(call, by="grace", reason="No.")
    call.refresh_from_db()
    assert (call.state, call.decided_by) == ("failed", "ada")


def test_an_approval_that_nobody_gives_expires(asking_first: Shop) -> None:
    Tenant.objects.update(decision_hours=2)
    asking_first.set_tool("echo", policy="ask")
    asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    call = asking_first.row
    assert call.waits_until is not None
    assert abs(call.waits_until - timezone.now() - timedelta(hours=2)) < timedelta(minutes=1)
    life.sweep(call.waits_until - timedelta(minutes=1))
    assert Call.objects.get().state == "awaiting_approval"
    life.sweep(call.waits_until + timedelta(minutes=1))
    assert (Call.objects.get().state, Call.objects.get().error_code) == ("failed", "approval_expired")


def test_a_call_that_awaits_approval_is_cancelled_at_once(asking_first: Shop) -> None:
    asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    cancelled = asking_first.api.post(f"/v1/calls/{asking_first.row.pk}/cancel").json()
    assert (cancelled["state"], cancelled["error"]["detail"]) == (
        "cancelled", "The call was cancelled before it was made.",
    )  # fmt: skip
    assert not life.approve(asking_first.row, by="ada")


def test_what_changed_between_asking_and_approval_is_looked_at_again(asking_first: Shop) -> None:
    asking_first.call("echo", {"text": "x"}, headers=AT_ONCE)
    schema = {"type": "object", "properties": {"text": {"type": "integer"}}}
    asking_first.set_tool("echo", approved_definition={"name": "echo", "inputSchema": schema})
    call = asking_first.row
    life.approve(call, by="ada")
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code, asking_first.server.executions("echo")) == ("failed", "arguments_invalid", 0)


def test_the_same_key_is_the_same_waiting_call(asking_first: Shop) -> None:
    keyed = {**AT_ONCE, "Idempotency-Key": "k"}
    first, second = (asking_first.call("echo", {"text": "x"}, headers=keyed).json()["id"] for _ in range(2))
    assert first == second


def test_a_denied_tool_answers_403(shop: Shop) -> None:
    shop.set_tool("echo", policy="deny")
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (403, "tool_denied")
    assert Call.objects.count() == 0
