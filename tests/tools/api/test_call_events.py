"""The life of a call as a stream: each move and step once, in order, also for a client that comes back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone
from redis import Redis

from tests.conftest import House
from tests.loopback import NO_TLS
from tests.tools.conftest import Shop, eventually
from tools import callers
from tools.calls import life, pubsub, watching
from tools.models import Call, CallEvent


def events(shop: Shop, call_id: str, last: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """Everything that the stream tells, read to its end: (id, event, data)."""
    headers = {"Authorization": f"Bearer {shop.api.token}"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    told = []
    with (
        httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30) as client,
        client.stream("GET", f"{shop.api.base}/v1/calls/{call_id}/events", headers=headers) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                told.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
    return told


def states(told: list[tuple[int, str, dict[str, Any]]]) -> list[str]:
    return [data["state"] for _, kind, data in told if kind == "state"]


def test_a_finished_call_tells_its_life_and_the_stream_ends(shop: Shop) -> None:
    call = shop.call("echo", {"text": "x"}).json()["id"]
    told = events(shop, call)
    assert [number for number, _, _ in told] == [1, 2]
    assert states(told) == ["running", "succeeded"]


def test_progress_is_told_while_the_call_runs(shop: Shop) -> None:
    call = shop.call("slow", {"steps": 3, "pause": 1.2}, headers={"Prefer": "wait=0"}).json()["id"]
    told = events(shop, call)
    assert states(told) == ["running", "succeeded"]
    steps = [data for _, kind, data in told if kind == "progress"]
    assert steps
    assert (steps[0]["total"], steps[0]["message"].startswith("step ")) == (3, True)
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))


def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(shop: Shop) -> None:
    call = shop.call("echo", {"text": "x"}).json()["id"]
    assert [number for number, _, _ in events(shop, call, last=1)] == [2]
    assert events(shop, call, last=2) == []
    assert events(shop, call, last=99) == []


def test_an_error_is_told_by_its_code(shop: Shop) -> None:
    call = shop.call("fail").json()["id"]
    assert events(shop, call)[-1][2]["code"] == "tool_error"


def test_a_queued_call_that_is_cancelled_ends_the_stream(shop: Shop) -> None:
    call = shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    life.cancel(shop.row)
    assert states(events(shop, call)) == ["queued", "cancelled"]


@pytest.mark.parametrize("path", ["/v1/calls/{}", "/v1/calls/{}/events"])
def test_the_end_of_a_call_elsewhere_is_heard_at_once(
    shop: Shop, path: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL_EVERY", 60.0)  # nobody looks by himself
    call = shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    with ThreadPoolExecutor() as pool, Redis.from_url(settings.REDIS_URL) as redis:
        waiting = pool.submit(shop.api.get, path.format(call), headers={"Prefer": "wait=30"})
        eventually(lambda: dict(redis.pubsub_numsub(pubsub.CHANNEL)).get(pubsub.CHANNEL.encode()), "a listener")
        eventually(lambda: any(UUID(call) in watch.waiting for watch in watching._watches.values()), "who waits")
        life.resume(UUID(call))
        answer = waiting.result(timeout=20)
    assert "succeeded" in answer.text


def test_without_redis_a_wait_ends_as_well_a_little_later(shop: Shop, settings: Any) -> None:
    call = shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(shop.api.get, f"/v1/calls/{call}", headers={"Prefer": "wait=30"})
        life.resume(UUID(call))
        assert waiting.result(timeout=20).json()["state"] == "succeeded"


def test_a_stranger_sees_no_events(shop: Shop, acme: House, rival: House) -> None:
    call = shop.call("echo", {"text": "x"}).json()["id"]
    for token in (acme.token(acme.assignment("Other")), rival.token()):
        assert shop.api.as_(token).get(f"/v1/calls/{call}/events").status_code == 404


@pytest.mark.smoke
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("before", "after"),
    [("succeeded", "running"), ("queued", "succeeded"), ("awaiting_approval", "running"), ("running", "queued!")],
)
def test_the_database_refuses_what_is_no_move(acme: House, before: str, after: str) -> None:
    ends = {"finished_at": timezone.now(), "sealed_result": "x"}
    members: dict[str, Any] = {"waits_until": timezone.now() + timedelta(days=1), "state": before}
    call = Call.objects.create(
        tenant=acme.tenant, tool_name="x", sealed_arguments="x", **members, **(ends if before == "succeeded" else {})
    )
    more = ends if after == "succeeded" else {"finished_at": None}
    with pytest.raises(DatabaseError), transaction.atomic():
        Call.objects.filter(pk=call.pk).update(state=after, **more)
    call.refresh_from_db()
    assert call.state == before


@pytest.mark.smoke
@pytest.mark.django_db
def test_every_move_is_an_event_whoever_makes_it(acme: House) -> None:
    call = Call.objects.create(tenant=acme.tenant, tool_name="x", sealed_arguments="x")
    now = timezone.now()
    assert Call.objects.filter(pk=call.pk).claim(now, now)
    Call.objects.filter(pk=call.pk).update(progress_at=now, sealed_progress="sealed")
    Call.objects.filter(pk=call.pk).update(lease_until=now)
    Call.objects.filter(pk=call.pk).end("failed", "x", "It failed.", now)
    told = [(event.seq, event.state, event.code, event.sealed_progress) for event in CallEvent.objects.all()]
    assert told == [(1, "queued", "", ""), (2, "running", "", ""), (3, "running", "", "sealed"), (4, "failed", "x", "")]
    call.refresh_from_db()
    assert call.last_seq == 4


def test_a_revoked_token_hears_nothing_more(shop: Shop) -> None:
    shop.set_tool("echo", policy="ask")
    call = shop.call("echo", {"text": "x"}, headers={"Prefer": "wait=0"}).json()["id"]
    headers = {"Authorization": f"Bearer {shop.api.token}"}
    with (
        httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30) as client,
        client.stream("GET", f"{shop.api.base}/v1/calls/{call}/events", headers=headers) as answer,
    ):
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("data"))
        shop.assignment.access_tokens.get().revoke()
        callers.principals.clear()  # as it is everywhere within a second
        life.cancel(Call.objects.get())
        assert not [line for line in lines if "cancelled" in line]
