"""The pages of the audit trail, and its export as a file: JSON Lines or CSV, sent as it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from connections import audit, spreadsheets
from connections.columns import stamp
from connections.filters import TenantFilter
from connections.forms.fields import DayField
from connections.large_lists import LargeList
from connections.models import AuditEvent, Tenant
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, person, tenants_of
from connections.threads import in_thread

DEFAULT_DAYS: Final = 90
_AT_ONCE: Final = 1_000  # events of one query


class ExportForm(forms.Form):
    """Which events, and as what."""

    since = DayField("From")
    until = DayField("to")
    organization = forms.ModelChoiceField(queryset=Tenant.objects.none(), required=False, widget=forms.HiddenInput)
    kind = forms.ChoiceField(label="As", choices=[("jsonl", "JSON Lines"), ("csv", "CSV")], initial="jsonl")

    def __init__(self, *args: Any, tenants: QuerySet[Tenant], **kwargs: Any) -> None:
        """Know the organizations whose events this person sees."""
        super().__init__(*args, **kwargs)
        if isinstance(field := self.fields["organization"], forms.ModelChoiceField):
            field.queryset = tenants
        today = timezone.now().astimezone(UTC).date()
        self.fields["since"].initial, self.fields["until"].initial = today - timedelta(days=DEFAULT_DAYS - 1), today

    def events(self, rows: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """Return those of the events that are asked for, oldest first."""
        data = self.cleaned_data
        if data["since"]:
            rows = rows.filter(at__gte=_start(data["since"]))
        if data["until"]:
            rows = rows.filter(at__lt=_start(data["until"] + timedelta(days=1)))
        if data["organization"]:
            rows = rows.filter(tenant=data["organization"])
        return rows.order_by("at", "id")


@admin.register(AuditEvent)
class AuditEventAdmin(LargeList, ReadOnlyAdmin):
    """Who did what, when; a database trigger forbids changes."""

    seen_by = ADMINS_AND_AUDITORS
    change_list_template = "admin/connections/auditevent/change_list.html"
    list_display = [stamp("at", "when"), "who", "action", "object_label", "outcome"]
    list_filter = [TenantFilter, "at"]
    search_fields = ["actor", "action", "object_label", "object_id", "request_id"]
    fields = [
        "at", "actor", "tenant", "action", "object_type", "object_id", "object_label", "outcome", "data", "request_id",
    ]  # fmt: skip
    search_help_text = "Search the newest 20,000"
    unlisted = ("data",)
    found_by = ("pk", "object_id")

    @admin.display(description="actor", ordering="actor")
    def who(self, event: Any) -> str:
        """Show who did it, and that it was the staff of the platform."""
        return f"{event.actor} (staff)" if event.by_staff else str(event.actor)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        """Return the events with what the list shows of their data, which it does not read."""
        rows: QuerySet[AuditEvent] = super().get_queryset(request)
        return rows.annotate(by_staff=Case(When(data__by_staff=True, then=True), default=False))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and offer the file."""
        form = ExportForm(tenants=self._tenants(request), auto_id="export_%s")
        response: HttpResponse = super().changelist_view(request, {"export": form, **(extra_context or {})})
        return response

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the file."""
        export = self.admin_site.admin_view(require_GET(self.export_view))
        return [path("export/", export, name="connections_auditevent_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the events as a file, and record that it was asked for."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenants = self._tenants(request)
        form = ExportForm(request.GET, tenants=tenants)
        if not form.is_valid():
            faults = [fault for each in form.errors.values() for fault in each]
            self.message_user(request, f"Nothing was downloaded. {' '.join(map(str, faults))}", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:connections_auditevent_changelist"))
        kind, user = form.cleaned_data["kind"], person(request)
        of = form.cleaned_data["organization"] or (tenants.first() if tenants.count() == 1 else None)
        days = {name: str(form.cleaned_data[name] or "") for name in ("since", "until")}
        audit.record(user, "auditevent.exported", user, tenant=of, kind=kind, **days)
        rows = form.events(self.get_queryset(request)).select_related("tenant")
        parts = _written(rows, _as_csv if kind == "csv" else _as_json_lines, heads=kind == "csv")
        name = f"audit-events-{timezone.now():%Y-%m-%d}.{kind}"
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/jsonl; charset=utf-8"
        return spreadsheets.download(name, parts, media)

    @staticmethod
    def _tenants(request: HttpRequest) -> QuerySet[Tenant]:
        return tenants_of(person(request), ADMINS_AND_AUDITORS)


async def _written(
    rows: QuerySet[AuditEvent], write: Callable[[Iterable[AuditEvent]], str], *, heads: bool
) -> AsyncIterator[str]:
    """Yield the file in parts, each read by a query of its own: no cursor stays open however slowly somebody reads."""
    if heads:
        yield "".join(spreadsheets.lines(audit.COLUMNS, []))
    last: AuditEvent | None = None
    while found := await in_thread(_after, rows, last):
        yield write(found)
        last = found[-1]


def _after(rows: QuerySet[AuditEvent], last: AuditEvent | None) -> list[AuditEvent]:
    if last is not None:
        rows = rows.filter(Q(at__gt=last.at) | Q(at=last.at, pk__gt=last.pk))
    return list(rows[:_AT_ONCE])


def _as_json_lines(events: Iterable[AuditEvent]) -> str:
    return "".join(f"{json.dumps(audit.said(event), ensure_ascii=False)}\n" for event in events)


def _as_csv(events: Iterable[AuditEvent]) -> str:
    told = ((audit.said(event) | {"data": json.dumps(event.data, ensure_ascii=False)}).values() for event in events)
    return "".join(spreadsheets.lines((), told))


def _start(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)
