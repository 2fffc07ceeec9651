"""The limits as a caller meets them: 429 says which one it was, and a server that is down is left alone for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections.errors import Unreachable
from connections.models import Tenant
from tests.servers import kinds
from tests.tools.conftest import Shop, eventually
from tools.calls import life, limits, offers, outcomes, queued
from tools.calls.limits import BreakerSignal
from tools.models import Assignment, Call


def refused(answer: Any, code: str) -> bool:
    assert (answer.status_code, answer.json()["code"]) == (429, code), answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    return True


def limit_assignment(shop: Shop, rate: int) -> None:
    Assignment.objects.filter(pk=shop.assignment.pk).update(max_rate=rate)
    offers.forget()


def test_an_assignment_makes_so_many_calls_a_minute(shop: Shop) -> None:
    limit_assignment(shop, 3)
    assert [shop.call("echo", {"text": "x"}).status_code for _ in range(3)] == [200] * 3
    assert refused(shop.call("echo", {"text": "x"}), "assignment_rate")
    assert Call.objects.count() == 3, "a refused call leaves no row"


def test_queued_calls_count_when_they_are_asked_for(shop: Shop) -> None:
    limit_assignment(shop, 2)
    later = {"headers": {"Prefer": "respond-async"}}
    assert [shop.call("echo", {"text": "x"}, **later).status_code for _ in range(2)] == [202, 202]
    assert refused(shop.call("echo", {"text": "x"}, **later), "assignment_rate")
    for call in Call.objects.all():
        life.resume(call.pk)
    assert set(Call.objects.values_list("state", flat=True)) == {"succeeded"}, "they are not counted again"


def test_a_connection_takes_so_many_calls_a_minute_from_everybody(shop: Shop) -> None:
    shop.set(max_rate=2)
    assert [shop.call("echo", {"text": "x"}).status_code for _ in range(2)] == [200, 200]
    assert refused(shop.call("echo", {"text": "x"}), "connection_rate")


def test_an_organization_has_so_many_calls_at_a_time(shop: Shop) -> None:
    Tenant.objects.update(max_concurrency=1)
    offers.forget()
    with ThreadPoolExecutor(1) as other:
        running = other.submit(shop.call, "slow", {"steps": 4, "pause": 0.5})
        while not Call.objects.exists():
            pass
        assert refused(shop.call("echo", {"text": "x"}), "organization_busy")
        assert running.result().status_code == 200
    assert shop.call("echo", {"text": "x"}).status_code == 200


def test_the_same_key_is_answered_whatever_the_limit_says(shop: Shop) -> None:
    limit_assignment(shop, 1)
    keyed = {"headers": {"Idempotency-Key": "k"}}
    first, second = (shop.call("echo", {"text": "x"}, **keyed) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()


def test_a_server_that_is_down_is_left_alone_and_then_tried_by_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_PAUSE", 1)
    shop.answers(kinds.answers(503))
    for _ in range(limits.FAILURES):
        assert shop.call("echo", {"text": "x"}).json()["code"] == "upstream_server_failed"
    asked = shop.server.count("tools/call")
    paused = shop.call("echo", {"text": "x"})
    assert (paused.status_code, paused.json()["code"]) == (503, "circuit_open")
    assert "Retry-After" in paused.headers
    assert shop.server.count("tools/call") == asked
    shop.server.behave(kinds.only_modern)
    eventually(lambda: shop.call("echo", {"text": "x"}).status_code == 200, "the server is asked again")


def test_a_tools_own_errors_and_refusals_pause_nothing(shop: Shop) -> None:
    for _ in range(limits.FAILURES + 1):
        assert shop.call("fail").status_code == 200
    shop.answers(kinds.answers(401))
    for _ in range(limits.FAILURES + 1):
        assert shop.call("echo", {"text": "x"}).json()["code"] == "upstream_unauthorized"


@pytest.mark.parametrize(
    ("code", "verdict"), [("pool_full", BreakerSignal.NEITHER), ("connection_refused", BreakerSignal.TRANSPORT_FAILED)]
)
def test_only_what_the_server_did_counts_against_it(code: str, verdict: BreakerSignal) -> None:
    assert outcomes.breaker_signal(Unreachable("Not reached.", code=code)) is verdict


def test_a_queued_call_waits_for_its_place(shop: Shop) -> None:
    shop.set(max_rate=1)
    shop.call("echo", {"text": "first"})
    call = shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    life.resume(call)
    row = Call.objects.get(pk=call)
    assert row.state == "queued"
    assert row.events.count() == 1, "what only waits does not move"


def test_the_more_calls_wait_for_a_place_the_rarer_each_tries(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "_TRIES", 0.1)
    shop.set(max_rate=1)
    shop.call("echo", {"text": "first"})
    waiting = [shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()["id"] for _ in range(20)]
    life.resume(waiting[0])
    row = Call.objects.get(pk=waiting[0])
    assert row.state == "queued"
    assert row.lease_until - timezone.now() > timedelta(seconds=200)
