"""What an organization's calls did lately, for its start page: by the hour, and by tool and assignment.

Only the newest calls are looked at, so that the page of an organization with a million calls costs what others' do:
the index of its calls leads to them, the newest first.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Aggregate, Count, DurationField, F, Q
from django.db.models.functions import TruncHour

from connections.models import Tenant
from tools.models import Call
from tools.models.call_states import CallState
from tools.models.calls import CallQuerySet

DAYS = 7
MOST = 20_000  # calls that are looked at
FAILED = [CallState.FAILED, CallState.TIMED_OUT, CallState.OUTCOME_UNKNOWN]


class Hour(NamedTuple):
    """The calls of one hour: how many, how many of them failed, and how many ended after they had begun."""

    at: datetime
    calls: int
    failed: int
    ended: int


class Busy(NamedTuple):
    """The calls of one tool for one assignment."""

    tool: str
    assignment: UUID | None
    name: str | None  # of the assignment
    calls: int
    failed: int


def of(tenant: Tenant, now: datetime) -> tuple[CallQuerySet, datetime, bool]:
    """Return the calls of the last seven days, since when that is, and whether there were more than are looked at."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    since = hour.replace(hour=0) - timedelta(days=DAYS - 1)
    rows = Call.objects.filter(tenant=tenant)
    last = list(rows.order_by("-created_at").values_list("created_at", flat=True)[MOST : MOST + 1])
    cut = bool(last) and last[0] >= since
    since = last[0] if cut else since
    return rows.filter(created_at__gt=since) if cut else rows.filter(created_at__gte=since), since, cut


def by_hour(calls: CallQuerySet) -> list[Hour]:
    """Return the hours that have calls, the first one first."""
    ended = Q(started_at__isnull=False, finished_at__isnull=False)
    hours = calls.order_by().annotate(hour=TruncHour("created_at")).values("hour")
    counted = hours.annotate(
        calls=Count("pk"), failed=Count("pk", filter=Q(state__in=FAILED)), ended=Count("pk", filter=ended)
    )
    return [Hour(*row) for row in counted.order_by("hour").values_list("hour", "calls", "failed", "ended")]


def slow(calls: CallQuerySet, begun: datetime) -> tuple[timedelta | None, timedelta | None]:
    """Return the time that 95 of 100 calls took at most: of those since then, and of all; None where none ended."""
    ended = calls.filter(started_at__isnull=False, finished_at__isnull=False).order_by()
    if connection.vendor != "postgresql":
        return _slowest_but(ended.filter(created_at__gte=begun)), _slowest_but(ended)
    took = F("finished_at") - F("started_at")
    found = ended.aggregate(late=_Slow(took, filter=Q(created_at__gte=begun)), all=_Slow(took))
    return found["late"], found["all"]


class _Slow(Aggregate):
    """What 95 of 100 values do not exceed."""

    template = "percentile_disc(0.95) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = DurationField()


def _slowest_but(ended: CallQuerySet) -> timedelta | None:
    """Return the same where the database has no percentiles."""
    count = ended.count()
    took = ended.annotate(took=F("finished_at") - F("started_at")).order_by("took").values_list("took", flat=True)
    place = -(-count * 95 // 100) - 1
    return took[place : place + 1].first() if count else None


def busiest(calls: CallQuerySet) -> list[Busy]:
    """Return how often each assignment called each tool."""
    pairs = calls.order_by().values("tool_name", "assignment", "assignment__name")
    counted = pairs.annotate(calls=Count("pk"), failed=Count("pk", filter=Q(state__in=FAILED)))
    return [Busy(*row) for row in counted.values_list("tool_name", "assignment", "assignment__name", "calls", "failed")]
