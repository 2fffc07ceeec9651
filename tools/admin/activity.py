"""The page Activity: how much was called, by day and by what, with a chart, and as a file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from connections import moments, spreadsheets
from connections.forms.fields import DayField
from connections.models import Tenant
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, person, tenants_of
from tools.calls import activity
from tools.calls.activity import Use
from tools.models import DailyUse, UseMark

DEFAULT_DAYS = 7
PERIODS = (1, 7, 30, 90)
ROWS = 150  # on the page; the file has all
_ORGANIZATIONS = 250  # in the select
_HEADS = ("calls", "failures", "not ended", "average ms", "p95 ms", "bytes")
_BAR, _GAP, _HEIGHT = 10, 3, 80  # of the chart, in its own units


class RangeForm(forms.Form):
    """The days, by what, and of what; all of it may be left out."""

    since = DayField("From")
    until = DayField("to")
    by = forms.ChoiceField(label="By", required=False, choices=list(activity.BY.items()))
    organization = forms.ModelChoiceField(
        label="Organization", required=False, queryset=Tenant.objects.none(), empty_label="All"
    )
    tool = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    connection = forms.UUIDField(required=False, widget=forms.HiddenInput)
    assignment = forms.UUIDField(required=False, widget=forms.HiddenInput)
    owner = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=0, max_value=2**62)
    narrowed: ClassVar = ("tool", "connection", "assignment", "owner")

    def __init__(self, *args: Any, tenants: QuerySet[Tenant], **kwargs: Any) -> None:
        """Offer the organizations whose activity this person sees, if there are several."""
        super().__init__(*args, **kwargs)
        field = self.fields["organization"]
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = tenants
        if not 1 < tenants.count() <= _ORGANIZATIONS:
            field.widget = forms.HiddenInput()

    def clean(self) -> dict[str, Any]:
        """Fill in what is left out; raises ValidationError for days that are none or too many."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        today = timezone.localdate()
        until = data.get("until") or today
        since = data.get("since") or until - timedelta(days=DEFAULT_DAYS - 1)
        if since > until:
            raise ValidationError("The first day is after the last one. Exchange them.", code="order")
        if until - since >= timedelta(days=activity.LONGEST_RANGE):
            raise ValidationError(
                f"These are more than {activity.LONGEST_RANGE} days. Choose fewer at a time.", code="too_many"
            )
        return data | {"since": since, "until": until, "by": data.get("by") or "day"}


class Asked(NamedTuple):
    """The days, by what, which rows, and whose."""

    since: date
    until: date
    by: str
    rows: QuerySet[DailyUse]
    tenants: QuerySet[Tenant]
    zone: str  # of the days; "" where organizations have several


class Bar(NamedTuple):
    """One day of the chart: where its two parts stand, and what it says."""

    x: int
    y: float
    height: float
    failed_y: float
    failed_height: float
    says: str


@admin.register(DailyUse)
class ActivityAdmin(ReadOnlyAdmin):
    """How much was called, for admins and auditors."""

    seen_by = ADMINS_AND_AUDITORS
    fields = [
        "tenant", "day", "tool", "connection_name", "assignment_name", "owner_name", "calls", "failures", "open",
        "bytes",
    ]  # fmt: skip

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show what was called in some days, or give it as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenants = tenants_of(person(request), ADMINS_AND_AUDITORS)
        form = RangeForm(request.GET, tenants=tenants)
        if not form.is_valid():
            shown = RangeForm({}, tenants=tenants)
            shown.is_valid()
            asked = self._asked(request, shown)
        else:
            asked = self._asked(request, form)
            if request.GET.get("as") == "csv":
                return _file(asked)
        days = activity.told(asked.rows, "day")
        uses = days if asked.by == "day" else activity.told(asked.rows, asked.by, ROWS + 1)
        context = {
            **self.admin_site.each_context(request),
            "title": "Activity",
            "opts": self.opts,
            "form": form,
            "asked": asked,
            "what": activity.BY[asked.by],
            "total": activity.together(days),
            "uses": [(use, _calls_of(use, asked)) for use in uses[:ROWS]],
            "more": len(uses) > ROWS,
            "bars": _bars(days, asked),
            "narrowed": _narrowed(form, asked),
            "everything": _query(form, asked, without=form.narrowed),
            "periods": _periods(form, asked),
            "file": _query(form, asked, **{"as": "csv"}),
            "counted_at": UseMark.objects.filter(tenant__in=asked.tenants).order_by("counted_at").last(),
            "width": (_BAR + _GAP) * ((asked.until - asked.since).days + 1),
            "height": _HEIGHT,
        }
        return TemplateResponse(request, "admin/tools/dailyuse/activity.html", context | (extra_context or {}))

    def _asked(self, request: HttpRequest, form: RangeForm) -> Asked:
        data = form.cleaned_data
        rows = self.get_queryset(request).filter(day__gte=data["since"], day__lte=data["until"])
        tenants = tenants_of(person(request), ADMINS_AND_AUDITORS)
        if data.get("organization"):
            rows, tenants = rows.filter(tenant=data["organization"]), tenants.filter(pk=data["organization"].pk)
        for name in form.narrowed:
            if data.get(name) not in (None, ""):
                rows = rows.filter(**{name: data[name]})
        return Asked(data["since"], data["until"], data["by"], rows, tenants, activity.zone_of_days(tenants))


def _file(asked: Asked) -> HttpResponseBase:
    rows = ([use.name, use.id, *_numbers(use)] for use in activity.told(asked.rows, asked.by))
    name = f"activity-by-{asked.by}-{asked.since}-{asked.until}.csv"
    return spreadsheets.download(name, spreadsheets.lines([asked.by, "id", *_HEADS], rows))


def _numbers(use: Use) -> list[int | None]:
    return [use.calls, use.failures, use.open, use.average, use.p95, use.bytes]


def _query(form: RangeForm, asked: Asked, *, without: Iterable[str] = (), **more: str) -> str:
    data = form.cleaned_data if form.is_valid() else {}
    said = {"since": asked.since.isoformat(), "until": asked.until.isoformat(), "by": asked.by}
    for name in ("organization", *form.narrowed):
        if data.get(name) not in (None, "") and name not in set(without):
            said[name] = str(getattr(data[name], "pk", data[name]))
    return f"?{urlencode(said | more)}"


def _periods(form: RangeForm, asked: Asked) -> list[tuple[str, str, bool]]:
    today = timezone.localdate()
    periods = []
    for days in PERIODS:
        since = today - timedelta(days=days - 1)
        label = "today" if days == 1 else f"{days} days"
        chosen = (asked.since, asked.until) == (since, today)
        periods.append((_query(form, asked, since=since.isoformat(), until=today.isoformat()), label, chosen))
    return periods


def _narrowed(form: RangeForm, asked: Asked) -> str:
    """Return to what the page is narrowed down, in words."""
    given = [name for name in form.narrowed if form.is_valid() and form.cleaned_data.get(name) not in (None, "")]
    column = {"tool": "tool", "connection": "connection_name", "assignment": "assignment_name", "owner": "owner_name"}
    row = asked.rows.order_by("-day").first()
    return ", ".join(f"{name} {getattr(row, column[name]) if row else ''}".strip() for name in given)


def _calls_of(use: Use, asked: Asked) -> str:
    """Return where the calls are listed that were counted, "" where no list has just these."""
    first, last, chosen = asked.since, asked.until, {}
    if asked.by == "day":
        first = last = date.fromisoformat(use.name)
    elif asked.by == "tool":
        chosen = {"q": use.name}
    elif asked.by in ("connection", "assignment") and use.id:
        chosen = {f"{asked.by}__id__exact": use.id}
    else:
        return ""
    zone = moments.zone_of(asked.zone)
    begin, end = (activity.start_of(day, zone) for day in (first, last + timedelta(days=1)))
    chosen |= {"created_at__gte": begin.isoformat(" "), "created_at__lt": end.isoformat(" ")}
    return f"{reverse('admin:tools_call_changelist')}?{urlencode(chosen)}"


def _bars(uses: list[Use], asked: Asked) -> list[Bar]:
    most = max((use.calls for use in uses), default=0)
    bars = []
    for use in uses:
        place = (date.fromisoformat(use.name) - asked.since).days * (_BAR + _GAP)
        height = round(_HEIGHT * use.calls / most, 1) if most else 0
        failed = round(_HEIGHT * use.failures / most, 1) if most else 0
        says = f"{use.name}: {use.calls:,} calls, {use.failures:,} failed"
        bars.append(Bar(place, _HEIGHT - height, height, _HEIGHT - failed, failed, says))
    return bars
