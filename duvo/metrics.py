"""`/metrics` for Prometheus: what all processes have counted, and what the database says at this moment."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable

import redis
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Min
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from connections import egress, metrics
from connections.models import Connection
from duvo import health
from tools.calls import limits
from tools.models import Call
from tools.models.call_states import OPEN_STATES, CallState

_PATIENCE = 2.0  # seconds
_COUNTERS = {
    "calls": "Calls that have ended.",
    "limit_refusals": "Requests of callers that a limit or an open circuit refused.",
    "probes": "Checks of connections that have ended.",
    "sign_ins": "People who signed in, failed to, or had to wait.",
    "token_refreshes": "Tokens that were to be renewed.",
}


@never_cache
def show(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics to whoever sends METRICS_TOKEN; 404 without that setting."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(
        token.strip().encode(), settings.METRICS_TOKEN.encode()
    ):
        return HttpResponse(
            "Send the METRICS_TOKEN as a bearer token.\n", status=401, headers={"WWW-Authenticate": "Bearer"}
        )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given([*_health(), *_counted(), *_now()]))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


class _Given(Collector):
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _health() -> list[Metric]:
    state = health.now()
    works = GaugeMetricFamily("duvo_up", "Whether this part of the product works (1) or not (0).", labels=["part"])
    for name, up in state.parts.items():
        works.add_metric([name], float(up))
    ages = GaugeMetricFamily(
        "duvo_heartbeat_age_seconds", "How long ago such a process last showed that it works.", labels=["process"]
    )
    for name, age in state.ages.items():
        if age is not None:
            ages.add_metric([name], age)
    return [works, ages]


def _counted() -> list[Metric]:
    """Return what was counted; nothing while Redis does not answer, which `duvo_up` says."""
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE, decode_responses=True
        ) as client:
            kept: dict[str, str] = client.hgetall(metrics.HASH)
    except (redis.RedisError, OSError):
        return []
    families: list[Metric] = []
    for name, documentation in _COUNTERS.items():
        family = CounterMetricFamily(f"duvo_{name}", documentation, labels=list(metrics.LABELS[name]))
        for field, amount in kept.items():
            counted, *values = field.split("|")
            if counted == name:
                family.add_metric(values, float(amount))
        families.append(family)
    return [*families, _durations(kept)]


def _durations(kept: dict[str, str]) -> Metric:
    family = HistogramMetricFamily("duvo_call_seconds", "How long calls took, in seconds.", labels=["outcome"])
    counted: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for field, amount in kept.items():
        if field.startswith("call_seconds|"):
            _, outcome, part = field.split("|")
            counted[outcome][part] = float(amount)
    for outcome, parts in counted.items():
        total, buckets = 0.0, []
        for index, bound in enumerate([*map(str, metrics.BUCKETS), "+Inf"]):
            total += parts[str(index)]
            buckets.append((bound, total))
        family.add_metric([outcome], buckets, parts["sum"])
    return family


def _now() -> list[Metric]:
    """Return what the database says; only what Redis says of breakers while it does not answer."""
    try:
        rows = _rows() if health.now().parts["database"] else []
    except DatabaseError:
        rows = []
    return [*rows, *_breakers()]


def _rows() -> list[Metric]:
    open_calls = Call.objects.filter(finished_at=None)
    by_state = dict(open_calls.values_list("state").annotate(Count("pk")))
    in_flight = GaugeMetricFamily("duvo_calls_open", "Calls that have not ended.", labels=["state"])
    logins = open_calls.awaiting_login().count()
    by_state[CallState.QUEUED.value] = by_state.get(CallState.QUEUED.value, 0) - logins
    for state in OPEN_STATES:
        in_flight.add_metric([state.value], by_state.get(state.value, 0))
    in_flight.add_metric(["awaiting_login"], logins)
    oldest = open_calls.filter(state=CallState.QUEUED, waits_until=None).aggregate(Min("created_at"))["created_at__min"]
    now = timezone.now()
    age = (now - oldest).total_seconds() if oldest else 0.0
    waiting = GaugeMetricFamily("duvo_queue_oldest_seconds", "How long the oldest queued call has waited.", value=age)
    overdue = GaugeMetricFamily(
        "duvo_checks_overdue", "Connections whose check is overdue.", value=Connection.objects.overdue(now).count()
    )
    return [in_flight, waiting, overdue]


def _breakers() -> list[Metric]:
    state = egress.run(limits.breakers())
    if state is None:
        return []
    family = GaugeMetricFamily("duvo_breakers", "Connections whose calls pause.", labels=["state"])
    family.add_metric(["open"], state.open)
    family.add_metric(["half_open"], state.half_open)
    return [family]
