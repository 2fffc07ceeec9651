"""The list of calls, for admins and auditors; arguments and results are not shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from connections.columns import stamp
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, TenantFilter
from tools import calls
from tools.models import Call


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    """Which assignment called which tool, and how it ended."""

    seen_by = ADMINS_AND_AUDITORS
    empty_sentence = "No calls yet. A call appears here as soon as an assignment makes it."
    list_display = [
        "tool_name",
        "outcome",
        "assignment",
        "connection",
        stamp("created_at", "when"),
        "duration",
        "error_code",
    ]
    list_filter = [TenantFilter, "state", "assignment", "connection", "created_at"]
    list_select_related = ["assignment", "connection"]
    actions = ["cancel"]
    search_fields = ["tool_name", "error_code", "request_id"]
    show_full_result_count = False
    fields = [
        "tool_name", "outcome", "assignment", "connection", "tool", "error_code", "error_sentence",
        "created_at", "started_at", "finished_at", "duration", "request_id",
    ]  # fmt: skip
    readonly_fields = ["outcome", "duration"]

    @admin.display(description="state", ordering="state")
    def outcome(self, call: Call) -> SafeString:
        """Show the state as a coloured word."""
        return format_html('<span class="status status-{}">{}</span>', call.state, call.get_state_display())

    @admin.display(description="duration")
    def duration(self, call: Call) -> str:
        """Show how long the call took, in seconds."""
        if not (call.started_at and call.finished_at):
            return ""
        return f"{(call.finished_at - call.started_at).total_seconds():.2f} s"

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Let admins of an organization cancel; `changeable` says which calls."""
        return self._has_role(request, self.changed_by, None)

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """End the chosen calls that are still open, within a second, wherever they run."""
        chosen = list(self.changeable(request, queryset).filter(finished_at=None))
        for call in chosen:
            calls.cancel(call)
            self.audit(request, "cancelled", call)
        self.message_user(request, f"Calls cancelled: {len(chosen)}.", messages.SUCCESS)
