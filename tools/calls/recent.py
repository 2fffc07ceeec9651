"""What an organization's calls did lately, for its start page: by the hour, and by tool and assignment.

Only the newest calls are looked at, so that the page of an organization with a million calls costs what others' do:
the index of its calls leads to them, the newest first.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, F, Q
from django.db.models.functions import TruncHour
from django.utils import timezone

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


class Lately(NamedTuple):
    """What these calls were: by hour, by tool and assignment, and how long 95 of 100 took at most, lately and all."""

    hours: list[Hour]
    busiest: list[Busy]
    late: timedelta | None
    slow: timedelta | None


# The rows are read once: reading them is what takes the time.
_TOLD = """
    WITH looked_at AS MATERIALIZED ({})
    SELECT hour, NULL::text, NULL::uuid, NULL::text, count(*), count(*) FILTER (WHERE fails), count(took),
        NULL::interval, NULL::interval FROM looked_at GROUP BY hour
    UNION ALL
    SELECT NULL, tool_name, assignment, a.name, calls, failed, 0, NULL, NULL FROM (
        SELECT tool_name, assignment, count(*) AS calls, count(*) FILTER (WHERE fails) AS failed
        FROM looked_at GROUP BY tool_name, assignment
    ) AS pairs LEFT JOIN tools_assignment AS a ON a.id = assignment
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, 0, 0, 0,
        percentile_disc(0.95) WITHIN GROUP (ORDER BY took) FILTER (WHERE late),
        percentile_disc(0.95) WITHIN GROUP (ORDER BY took) FROM looked_at
    ORDER BY 1
"""


def told(calls: CallQuerySet, begun: datetime) -> Lately:
    """Return what these calls were; `late` is of those since `begun`."""
    if connection.vendor != "postgresql":
        ended = calls.filter(started_at__isnull=False, finished_at__isnull=False).order_by()
        late = _slowest_but(ended.filter(created_at__gte=begun))
        return Lately(_by_hour(calls), _busiest(calls), late, _slowest_but(ended))
    looked_at = calls.order_by().values(
        "tool_name", "assignment", hour=TruncHour("created_at"), took=F("finished_at") - F("started_at"),
        fails=ExpressionWrapper(Q(state__in=FAILED), BooleanField()),
        late=ExpressionWrapper(Q(created_at__gte=begun), BooleanField()),
    )  # fmt: skip
    sql, parameters = looked_at.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(_TOLD.format(sql), parameters)
        rows = cursor.fetchall()
    hours = [Hour(timezone.make_aware(at), *counts) for at, _, _, _, *counts, _, _ in rows if at is not None]
    pairs = [Busy(tool, whose, name, *counts) for _, tool, whose, name, *counts, _, _, _ in rows if tool is not None]
    late, slow = next(row[-2:] for row in rows if row[0] is None and row[1] is None)
    return Lately(hours, pairs, late, slow)


def _by_hour(calls: CallQuerySet) -> list[Hour]:
    """Return the hours that have calls, the first one first."""
    ended = Q(started_at__isnull=False, finished_at__isnull=False)
    hours = calls.order_by().annotate(hour=TruncHour("created_at")).values("hour")
    counted = hours.annotate(
        calls=Count("pk"), failed=Count("pk", filter=Q(state__in=FAILED)), ended=Count("pk", filter=ended)
    )
    return [Hour(*row) for row in counted.order_by("hour").values_list("hour", "calls", "failed", "ended")]


def _slowest_but(ended: CallQuerySet) -> timedelta | None:
    """Return what 95 of 100 of them took at most, where the database has no percentiles."""
    count = ended.count()
    took = ended.annotate(took=F("finished_at") - F("started_at")).order_by("took").values_list("took", flat=True)
    place = -(-count * 95 // 100) - 1
    return took[place : place + 1].first() if count else None


def _busiest(calls: CallQuerySet) -> list[Busy]:
    """Return how often each assignment called each tool."""
    pairs = calls.order_by().values("tool_name", "assignment", "assignment__name")
    counted = pairs.annotate(calls=Count("pk"), failed=Count("pk", filter=Q(state__in=FAILED)))
    return [Busy(*row) for row in counted.values_list("tool_name", "assignment", "assignment__name", "calls", "failed")]
