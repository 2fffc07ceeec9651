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
from tools.calls import limits
from tools.models import Call
from tools.models.call_states import OPEN_STATES, CallState

_PATIENCE = 2.0  # seconds
_COUNTERS = {
    "calls": "Calls that have ended.",
    "limit_refusals": "Calls that a limit or an open circuit did not let in.",
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
    try:
        families = [*_counted(), *_now()]
    except (redis.RedisError, DatabaseError):
        return HttpResponse("The metrics cannot be read now.\n", status=503)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


class _Given(Collector):
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counted() -> list[Metric]:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE, decode_responses=True
    ) as client:
        kept: dict[str, str] = client.hgetall(metrics.HASH)
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
    open_calls = Call.objects.filter(finished_at=None)
    by_state = dict(open_calls.values_list("state").annotate(Count("pk")))
    in_flight = GaugeMetricFamily("duvo_calls_open", "Calls that have not ended.", labels=["state"])
    for state in OPEN_STATES:
        in_flight.add_metric([state.value], by_state.get(state.value, 0))
    oldest = open_calls.filter(state=CallState.QUEUED).aggregate(Min("created_at"))["created_at__min"]
    age = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    waiting = GaugeMetricFamily("duvo_queue_oldest_seconds", "How long the oldest queued call has waited.", value=age)
    return [in_flight, waiting, *_breakers()]


def _breakers() -> list[Metric]:
    state = egress.run(limits.breakers())
    if state is None:
        return []
    family = GaugeMetricFamily("duvo_breakers", "Connections whose calls pause.", labels=["state"])
    family.add_metric(["open"], state.open)
    family.add_metric(["half_open"], state.half_open)
    return [family]
