"""The pages of the audit trail, and its export as a file: JSON Lines or CSV, sent as it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from connections import audit, spreadsheets
from connections.audit_filters import EventsFilter, EventsForm, of_days, of_others
from connections.columns import stamp
from connections.filters import TenantFilter
from connections.large_lists import LargeList
from connections.models import AuditEvent, Tenant
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, person, tenants_of
from connections.threads import in_thread

DEFAULT_DAYS: Final = 90
_AT_ONCE: Final = 1_000  # events of one query
_KINDS: Final = {  # what an action is about, as people call it
    "accesstoken": "API token", "auditevent": "Audit trail", "bulletin": "Message", "company": "Company sign-in",
    "mcpsession": "Session", "membership": "Member", "tenant": "Organization",
}  # fmt: skip


class ExportForm(EventsForm):
    """Which events, and as what."""

    organization = forms.ModelChoiceField(queryset=Tenant.objects.none(), required=False, widget=forms.HiddenInput)
    kind = forms.ChoiceField(label="As", choices=[("jsonl", "JSON Lines"), ("csv", "CSV")], initial="jsonl")

    def __init__(self, *args: Any, tenants: QuerySet[Tenant], **kwargs: Any) -> None:
        """Know the organizations whose events this person sees."""
        super().__init__(*args, **kwargs)
        for name in ("who", "what"):  # these are chosen above the list
            self.fields[name].widget = forms.HiddenInput()
        if isinstance(field := self.fields["organization"], forms.ModelChoiceField):
            field.queryset = tenants

    @classmethod
    def beside(cls, shown: QueryDict, **kwargs: Any) -> ExportForm:
        """Return the form for a list that shows this: it offers the same events, of the last 90 days if of any."""
        today = timezone.localdate()
        days = {
            "since": shown.get("since") or today - timedelta(days=DEFAULT_DAYS - 1),
            "until": shown.get("until") or today,
        }
        initial = {name: shown.get(name, "") for name in ("who", "what", "organization")} | days
        return cls(initial=initial, auto_id="export_%s", **kwargs)

    def events(self, rows: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """Return those of the events that are asked for, oldest first."""
        rows = of_others(of_days(rows, self.cleaned_data), self.cleaned_data)
        if organization := self.cleaned_data["organization"]:
            rows = rows.filter(tenant=organization)
        return rows.order_by("at", "id")


@admin.register(AuditEvent)
class AuditEventAdmin(LargeList, ReadOnlyAdmin):
    """Who did what, when; a database trigger forbids changes."""

    seen_by = ADMINS_AND_AUDITORS
    change_list_template = "admin/connections/auditevent/change_list.html"
    list_display = [stamp("at", "when"), "who", "did", "about", "came_out"]
    empty_sentence = "Nothing has happened yet. Who does what is written down here."
    list_filter = [TenantFilter, EventsFilter]
    search_fields = ["actor", "action", "object_label", "object_id", "request_id"]
    fields = [
        "at", "actor", "tenant", "action", "object_type", "object_id", "object_label", "outcome", "data", "request_id",
    ]  # fmt: skip
    search_help_text = "Search the newest 20,000"
    unlisted = ("data",)
    found_by = ("pk", "object_id")

    @admin.display(description="who", ordering="actor")
    def who(self, event: Any) -> str:
        """Show who did it, and that it was the staff of the platform."""
        return f"{event.actor} (staff)" if event.by_staff else str(event.actor)

    @admin.display(description="what happened")
    def did(self, event: AuditEvent) -> str:
        """Show the action in words."""
        what, _, verb = event.action.partition(".")
        return f"{_KINDS.get(what, what.capitalize())}: {verb.replace('_', ' ')}"

    @admin.display(description="to what")
    def about(self, event: AuditEvent) -> str:
        """Show the name that the object had."""
        return event.object_label

    @admin.display(description="outcome")
    def came_out(self, event: AuditEvent) -> str:
        """Show how it came out, in words."""
        return event.outcome.replace("_", " ")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        """Return the events with what the list shows of their data, which it does not read."""
        rows: QuerySet[AuditEvent] = super().get_queryset(request)
        return rows.annotate(by_staff=Case(When(data__by_staff=True, then=True), default=False))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and offer the file."""
        form = ExportForm.beside(request.GET, tenants=self._tenants(request))
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
        asked = {name: str(form.cleaned_data[name] or "") for name in ("since", "until", "who", "what")}
        audit.record(user, "auditevent.exported", user, tenant=of, kind=kind, **asked)
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
