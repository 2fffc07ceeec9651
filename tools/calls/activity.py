"""How much is called: counted by day, and told by tool, connection, assignment, owner or day.

count_all   counts what is new, every few minutes; counting again gives the same
before_purge   counts once more, and remembers that the days before are not complete any more
told        what a page or a program asks for: calls, failures, durations, bytes

A call counts for the day on which it was asked for, and for whom owned its assignment when that day was counted last.
A day is one of the organization's time zone. Days are counted anew as long as all of their calls are there, also in
another zone; those before stay days of the zone that there was.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, DurationField, Exists, ExpressionWrapper, F, Max, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone

from connections.models import Tenant
from tools.calls.usage import octets
from tools.models import Call, DailyUse, StoredContent, UseMark
from tools.models.call_states import CallState
from tools.models.usage import BOUNDS, CLASSES

KEPT_FOR: Final = timedelta(days=800)
_AT_ONCE: Final = 500  # rows of one statement
LONGEST_RANGE: Final = 400  # days that are told at a time
FAILURES: Final = (CallState.FAILED, CallState.TIMED_OUT, CallState.OUTCOME_UNKNOWN)
_KEY: Final = ("day", "tool_name", "connection", "assignment", "assignment__owner")
_NAMES: Final = ("connection__name", "assignment__name", "assignment__owner__username")
_COUNTED: Final = (
    "connection_name", "assignment_name", "owner_name", "calls", "failures", "open", "milliseconds", "bytes", *CLASSES,
)  # fmt: skip


# --- counting -------------------------------------------------------------------------------------------------------


def count_all(now: datetime) -> int:
    """Count the calls of every organization that has new ones; return how many organizations those were."""
    recent = Call.objects.filter(tenant=OuterRef("pk"), created_at__gte=now - timedelta(days=2))
    uncounted = Q(use_mark=None) & Exists(Call.objects.filter(tenant=OuterRef("pk")))
    unsettled = Exists(DailyUse.objects.filter(tenant=OuterRef("pk"), open__gt=0))
    moved = Q(use_mark__isnull=False) & ~Q(use_mark__zone=F("time_zone"))
    tenants = list(Tenant.objects.filter(Exists(recent) | uncounted | unsettled | moved))
    for tenant in tenants:
        count(tenant, now)
    DailyUse.objects.filter(day__lt=(now - KEPT_FOR).date()).delete()
    return len(tenants)


def count(tenant: Tenant, now: datetime) -> None:
    """Count an organization's calls of the days that may have changed; two who do so at a time wait for each other."""
    with transaction.atomic():
        list(Tenant.objects.select_for_update(no_key=True).filter(pk=tenant.pk).values_list("pk"))  # holds the lock
        mark, zone = UseMark.objects.filter(tenant=tenant).first(), tenant.zone
        whole = _first_whole_day(mark, zone)
        moved = mark is not None and mark.zone != tenant.time_zone
        yesterday = timezone.localdate(now, zone) - timedelta(days=1)
        since = max(whole, min(timezone.localdate(mark.counted_at, zone), yesterday)) if mark and not moved else whole
        unsettled = DailyUse.objects.filter(tenant=tenant, open__gt=0, day__gte=whole, day__lt=since)
        days = set(unsettled.values_list("day", flat=True))
        asked = Q(created_at__gte=start_of(since, zone)) if since > date.min else Q()
        for day in days:
            asked |= Q(created_at__gte=start_of(day, zone), created_at__lt=start_of(day + timedelta(days=1), zone))
        rows = {row.pk: row for row in _counted(tenant, asked)}
        stored = DailyUse.objects.filter(Q(day__gte=since) | Q(day__in=days), tenant=tenant)
        gone = sorted(set(stored.values_list("pk", flat=True)) - rows.keys())
        for first in range(0, len(gone), _AT_ONCE):
            DailyUse.objects.filter(pk__in=gone[first : first + _AT_ONCE]).delete()
        DailyUse.objects.bulk_create(
            rows.values(), batch_size=_AT_ONCE, update_conflicts=True, unique_fields=["id"], update_fields=_COUNTED
        )
        in_zone = {"zone": tenant.time_zone, "zone_since": whole if whole > date.min else None} if moved else {}
        made = {"zone": tenant.time_zone, "counted_at": now}
        UseMark.objects.update_or_create(tenant=tenant, defaults={"counted_at": now} | in_zone, create_defaults=made)


def before_purge(tenant: Tenant, before: datetime, now: datetime) -> None:
    """Count the calls that are about to be deleted: those that ended before `before`."""
    if not tenant.calls.filter(created_at__lt=before).exists():
        return
    count(tenant, now)
    UseMark.objects.filter(tenant=tenant).filter(Q(purged_before=None) | Q(purged_before__lt=before)).update(
        purged_before=before
    )


def _first_whole_day(mark: UseMark | None, zone: tzinfo) -> date:
    """Return the first day of which nothing is purged yet."""
    if mark is None or mark.purged_before is None:
        return date.min
    return timezone.localdate(mark.purged_before, zone) + timedelta(days=1)


_MILLISECOND: Final = timedelta(milliseconds=1)
_TOOK: Final = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())


def _counted(tenant: Tenant, asked: Q) -> list[DailyUse]:
    calls = Call.objects.filter(asked, tenant=tenant).order_by()
    calls = calls.annotate(day=TruncDate("created_at", tzinfo=tenant.zone), took=_TOOK)
    sizes = octets("sealed_arguments") + octets("sealed_result")
    found = calls.values_list(*_KEY, *_NAMES).annotate(
        all_calls=Count("pk"), all_failures=Count("pk", filter=Q(state__in=FAILURES)),
        all_open=Count("pk", filter=Q(finished_at=None)), all_took=Sum("took"), all_bytes=Sum(sizes), **_classes(),
    )  # fmt: skip
    contents = StoredContent.objects.filter(call__in=Call.objects.filter(asked, tenant=tenant)).order_by()
    contents = contents.annotate(day=TruncDate("call__created_at", tzinfo=tenant.zone))
    large = {
        tuple(key): size
        for *key, size in contents.values_list("day", *(f"call__{name}" for name in _KEY[1:])).annotate(Sum("size"))
    }
    return [_row(tenant, values, large.get(tuple(values[: len(_KEY)]), 0)) for values in found.iterator()]


def _classes() -> dict[str, Count]:
    ends = [timedelta(milliseconds=bound) for bound in BOUNDS]
    bounds = [Q(took__lt=ends[0]), *(Q(took__gte=low, took__lt=high) for low, high in itertools.pairwise(ends))]
    bounds.append(Q(took__gte=ends[-1]))
    return {f"all_{name}": Count("pk", filter=bound) for name, bound in zip(CLASSES, bounds, strict=True)}


def _row(tenant: Tenant, values: tuple[Any, ...], large: int) -> DailyUse:
    day, tool, connection, assignment, owner, *names = values[: len(_KEY) + len(_NAMES)]
    calls, failures, open_, took, size, *classes = values[len(_KEY) + len(_NAMES) :]
    row = DailyUse(
        tenant=tenant, day=day, tool=tool, connection=connection, assignment=assignment, owner=owner,
        connection_name=names[0] or "", assignment_name=names[1] or "", owner_name=names[2] or "",
        calls=calls, failures=failures, open=open_, milliseconds=max(0, round(took / _MILLISECOND)) if took else 0,
        bytes=(size or 0) + large, **dict(zip(CLASSES, classes, strict=True)),
    )  # fmt: skip
    row.name_itself()
    return row


def start_of(day: date, zone: tzinfo) -> datetime:
    """Return when a day begins."""
    return datetime.combine(day, time.min, tzinfo=zone)


def zone_of_days(tenants: QuerySet[Tenant]) -> str:
    """Return the zone in which the days of these organizations are counted, "" where these have several."""
    zones = set(tenants.order_by().values_list(Coalesce("use_mark__zone", "time_zone"), flat=True).distinct()[:2])
    return zones.pop() if len(zones) == 1 else ""


# --- telling --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """What was used of one thing: a tool, connection, assignment, owner or day."""

    name: str
    id: str
    calls: int
    failures: int
    open: int
    milliseconds: int
    bytes: int
    durations: tuple[int, ...]  # how many calls are in each of the classes

    @property
    def failed_percent(self) -> float:
        """How many of a hundred calls failed."""
        return round(100 * self.failures / self.calls, 1) if self.calls else 0.0

    @property
    def average(self) -> int | None:
        """Milliseconds of a call in the middle of all that ran."""
        ran = sum(self.durations)
        return round(self.milliseconds / ran) if ran else None

    @property
    def p95(self) -> int | None:
        """Milliseconds within which 95 of 100 calls ended, as nearly as the classes tell."""
        ran = sum(self.durations)
        wanted, below, low = 0.95 * ran, 0, 0
        if not ran:
            return None
        for high, here in zip(BOUNDS, self.durations, strict=False):
            if here and below + here >= wanted:
                return round(low + (high - low) * (wanted - below) / here)
            below, low = below + here, high
        return BOUNDS[-1]


BY: Final = {"day": "Day", "tool": "Tool", "connection": "Connection", "assignment": "Assignment", "owner": "Owner"}
_UNNAMED: Final = {"connection": "(deleted)", "assignment": "(deleted)", "owner": "(nobody)"}
_PLAIN: Final = ("calls", "failures", "open", "milliseconds", "bytes")
_SUMMED: Final = (*_PLAIN, *CLASSES)
_SUMS: Final[dict[str, Any]] = {f"all_{name}": Sum(name) for name in _SUMMED}


def told(rows: QuerySet[DailyUse], by: str, most: int | None = None) -> list[Use]:
    """Return the use by `by` (a key of BY), `most` of it: by day in order of time, else what was called most first."""
    name = F(by) if by in ("day", "tool") else Max(f"{by}_name")
    order = [by] if by == "day" else ["-all_calls", by]
    found = rows.order_by().values(key=F(by)).annotate(named=name, **_SUMS).order_by(*order)
    each: list[dict[str, Any]] = [dict(one) for one in found[:most]]
    return [_use(str(one["named"] or _UNNAMED[by]), str(one["key"] or ""), one) for one in each]


def total(rows: QuerySet[DailyUse]) -> Use:
    """Return all of it together."""
    return _use("All", "", rows.order_by().aggregate(**_SUMS))


def together(uses: list[Use]) -> Use:
    """Return the same of what has been told without leaving anything out: to ask again is as dear as the first time."""
    sums = {name: sum(getattr(use, name) for use in uses) for name in _PLAIN}
    return Use("All", "", **sums, durations=tuple(map(sum, zip(*(use.durations for use in uses), strict=True))))


def _use(name: str, key: str, found: dict[str, Any]) -> Use:
    calls, failures, open_, milliseconds, size, *classes = (found[f"all_{one}"] or 0 for one in _SUMMED)
    return Use(name, key, calls, failures, open_, milliseconds, size, tuple(classes))
