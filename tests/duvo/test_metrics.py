"""What Prometheus sees: counts over all processes, gauges of the moment, and only for whoever has the token."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from django.test import Client
from django.utils import timezone
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from connections import metrics
from connections.models import Connection
from duvo import health
from tests.browser.conftest import eventually
from tests.conftest import House
from tests.tools.calls.test_call_worker import ASYNC, open_call
from tests.tools.conftest import Shop, open_shop, shop  # noqa: F401 - fixtures
from tools.calls import life
from tools.models import Call
from tools.models.call_states import CallState

TOKEN = "m" * 40


@pytest.fixture(autouse=True)
def _nothing_counted(settings: Any) -> Iterator[None]:
    settings.METRICS_TOKEN = TOKEN
    metrics.hand_over()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(metrics.HASH)
    yield
    metrics.hand_over()


def scraped() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    metrics.hand_over()
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.content
    families = text_string_to_metric_families(answer.content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.django_db
@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer "])
def test_only_the_token_opens_it(header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    assert Client().get("/metrics", headers=headers).status_code == 401


def test_without_the_setting_there_is_nothing(settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    assert Client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


def test_calls_are_counted_by_outcome_and_placement(shop: Shop) -> None:  # noqa: F811
    shop.call("echo", {"text": "x"})
    shop.call("fail")
    seen = scraped()
    assert seen["duvo_calls_total", (("outcome", "succeeded"), ("placement", "web"))] == 1
    assert seen["duvo_calls_total", (("outcome", "failed"), ("placement", "web"))] == 1
    assert seen["duvo_call_seconds_count", (("outcome", "succeeded"),)] == 1
    assert 0 < seen["duvo_call_seconds_sum", (("outcome", "succeeded"),)] < 30
    assert seen["duvo_call_seconds_bucket", (("le", "+Inf"), ("outcome", "succeeded"))] == 1
    assert seen["duvo_probes_total", (("outcome", "passed"),)] == 1


def test_calls_that_no_run_ends_are_counted_too(shop: Shop) -> None:  # noqa: F811
    open_call(shop, CallState.RUNNING, timedelta(seconds=-60))
    life.sweep(timezone.now())
    queued = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    shop.api.post(f"/v1/calls/{queued}/cancel")
    seen = scraped()
    assert seen["duvo_calls_total", (("outcome", "outcome_unknown"), ("placement", "other"))] == 1
    assert seen["duvo_calls_total", (("outcome", "cancelled"), ("placement", "other"))] == 1


def test_open_calls_and_the_age_of_the_queue_are_seen(shop: Shop, acme: House) -> None:  # noqa: F811
    shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"})
    seen = scraped()
    assert seen["duvo_calls_open", (("state", "queued"),)] == 1
    assert seen["duvo_calls_open", (("state", "running"),)] == 0
    assert 0 < seen["duvo_queue_oldest_seconds", ()] < 30
    assert seen["duvo_breakers", (("state", "open"),)] == 0
    Call.objects.all().delete()
    assert scraped()["duvo_queue_oldest_seconds", ()] == 0


@pytest.mark.django_db
def test_the_counts_of_several_processes_add_up() -> None:
    program = (
        "import django; django.setup()\n"
        "from connections import metrics\n"
        "for _ in range(500): metrics.call_ended('succeeded', 'queue', 0.02)\n"
    )  # what is left is handed over at the end of the process
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    seen = scraped()
    assert seen["duvo_calls_total", (("outcome", "succeeded"), ("placement", "queue"))] == 1500
    assert seen["duvo_call_seconds_bucket", (("le", "0.025"), ("outcome", "succeeded"))] == 1500
    assert seen["duvo_call_seconds_bucket", (("le", "0.01"), ("outcome", "succeeded"))] == 0


def test_only_what_callers_are_told_counts_as_refused(shop: Shop) -> None:  # noqa: F811
    """A worker that finds no slot for a queued call tries again: nobody is refused anything."""
    Connection.objects.update(max_rate=1)
    shop.call("echo", {"text": "x"})
    waiting = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    for _ in range(3):
        life.resume(UUID(waiting))
    assert Call.objects.get(pk=waiting).state == CallState.QUEUED
    assert not any(name == "duvo_limit_refusals_total" for name, _ in scraped())
    assert shop.call("echo", {"text": "x"}).status_code == 429
    assert scraped()["duvo_limit_refusals_total", (("limit", "connection_rate"),)] == 1


@pytest.mark.django_db
def test_a_label_has_a_closed_set_of_values() -> None:
    metrics.count("probes", outcome="acme's own word")
    assert scraped()["duvo_probes_total", (("outcome", "other"),)] == 1


@pytest.mark.django_db
def test_what_redis_does_not_take_is_kept(settings: Any) -> None:
    working, settings.REDIS_URL = settings.REDIS_URL, "unix:///nowhere/valkey.sock"
    metrics.count("probes", outcome="failed")
    metrics.hand_over()
    health.now.cache_clear()
    seen = scraped()
    assert seen["duvo_up", (("part", "broker"),)] == 0
    assert seen["duvo_calls_open", (("state", "queued"),)] == 0  # what the database says is there all the same
    assert "duvo_probes_total" not in {name for name, _ in seen}  # a counter that is away is not a counter at 0
    settings.REDIS_URL = working
    health.now.cache_clear()
    assert scraped()["duvo_probes_total", (("outcome", "failed"),)] == 1


@pytest.mark.django_db
def test_nothing_that_goes_wrong_ends_the_counting(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    working, settings.REDIS_URL = settings.REDIS_URL, "gopher://127.0.0.1"
    metrics.count("probes", outcome="failed")
    eventually(lambda: "could not be handed over" in caplog.text, "a log line")
    settings.REDIS_URL = working
    assert scraped()["duvo_probes_total", (("outcome", "failed"),)] == 1
    metrics.count("probes", outcome="failed")
    with redis.Redis.from_url(working) as client:
        eventually(lambda: client.hget(metrics.HASH, "probes|failed") == b"2", "what the thread handed over")


@pytest.mark.django_db
def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    metrics.call_ended("succeeded", "web", 0.02)
    metrics.hand_over()
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/openmetrics-text; version=1.0.0"}
    answer = Client().get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    seen = {family.name: family.type for family in openmetrics_families(answer.content.decode())}
    assert (seen["duvo_calls"], seen["duvo_call_seconds"], seen["duvo_calls_open"]) == ("counter", "histogram", "gauge")


@pytest.mark.django_db
def test_a_redis_that_never_answers_is_not_waited_for(settings: Any) -> None:
    working = settings.REDIS_URL
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings.REDIS_URL = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        health.now.cache_clear()
        began = time.monotonic()
        answer = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        settings.REDIS_URL = working
    health.now.cache_clear()
    assert b'duvo_up{part="broker"} 0.0' in answer.content
    assert time.monotonic() - began < 10
