"""By whom, of which kind and in which days: the filters of the audit trail, on its page and for its file."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from connections.filters import CompactFilter
from connections.forms.fields import DayField
from connections.models import AuditEvent

_LONGEST = 200  # characters of a name
KINDS: Final = {
    "decisions": ("Approvals and other decisions", Q(object_type__in=["call", "tool"]) & ~Q(action="call.read")),
    "read": ("Opened and downloaded", Q(action__in=["call.read", "auditevent.exported"])),
    "people": ("People, roles and sign-ins", Q(object_type__in=["user", "account", "membership", "invitation"])),
    "connections": ("Connections", Q(object_type="connection")),
    "assignments": ("Assignments and tokens", Q(object_type__in=["assignment", "accesstoken", "mcpsession"])),
    "organization": ("The organization", Q(object_type__in=["tenant", "company", "bulletin"])),
}


class EventsForm(forms.Form):
    """Which events; all of it may be left out."""

    who = forms.CharField(label="Person", required=False, max_length=_LONGEST)
    what = forms.ChoiceField(
        label="Kind", required=False, choices=[("", "All"), *((name, words) for name, (words, _) in KINDS.items())]
    )
    since = DayField("From")
    until = DayField("to")


def of_days(rows: QuerySet[AuditEvent], asked: dict[str, Any]) -> QuerySet[AuditEvent]:
    """Return the events of the days that are asked for, in the page's time zone."""
    if asked["since"]:
        rows = rows.filter(at__gte=_start(asked["since"]))
    return rows.filter(at__lt=_start(asked["until"] + timedelta(days=1))) if asked["until"] else rows


def of_others(rows: QuerySet[AuditEvent], asked: dict[str, Any]) -> QuerySet[AuditEvent]:
    """Return the events of the person and of the kind that are asked for."""
    if asked["who"]:
        rows = rows.filter(actor__icontains=asked["who"])
    return rows.filter(KINDS[asked["what"]][1]) if asked["what"] else rows


def _start(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


class EventsFilter(CompactFilter):
    """The four fields in one form, with links to the days that are asked for most."""

    title = "person, kind and days"
    template = "admin/connections/auditevent/filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        """Take what the query string asks for."""
        super().__init__(request, params, model, model_admin)
        self.page = model_admin
        sent = {name: (params.pop(name, None) or [""])[-1] for name in EventsForm.base_fields}
        self.used_parameters = {name: value for name, value in sent.items() if value}
        self.form = EventsForm(sent, auto_id="events_%s")
        self.form.is_valid()

    def expected_parameters(self) -> list[str | None]:
        """Return what the query string may hold for this filter."""
        return list(EventsForm.base_fields)

    def has_output(self) -> bool:
        """Show it always."""
        return True

    def choices(self, changelist: ChangeList) -> Any:
        """Return links to some days, which keep everything else that is asked for."""
        self.keep(changelist)
        asked = tuple(self.used_parameters.get(name, "") for name in ("since", "until"))
        for words, since, until in _periods(timezone.localdate()):
            days = {"since": since, "until": until}
            yield {
                "display": words,
                "selected": asked == (since, until),
                "query_string": changelist.get_query_string(
                    {name: day for name, day in days.items() if day}, [name for name, day in days.items() if not day]
                ),
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list; by person and kind among the newest of the days, as a search does."""
        if not self.form.is_valid():
            return queryset.none()
        asked = self.form.cleaned_data
        rows = of_days(queryset, asked)
        return of_others(self.page.newest(rows), asked) if asked["who"] or asked["what"] else rows


def _periods(today: date) -> list[tuple[str, str, str]]:
    """Return in words which days are offered, with the first and the last one."""
    this_month = today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return [
        ("Any time", "", ""),
        ("Today", str(today), str(today)),
        ("7 days", str(today - timedelta(days=6)), str(today)),
        ("This month", str(this_month), str(today)),
        ("Last month", str(last_month), str(this_month - timedelta(days=1))),
    ]
