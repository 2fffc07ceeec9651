"""The pages of calls, for admins and auditors; arguments and result are opened on a call's page, which is audited."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET

from connections import moments
from connections.columns import stamp
from connections.errors import SealBroken
from connections.filters import TenantFilter
from connections.large_lists import LargeList
from connections.models import AuditEvent, Connection
from connections.tenancy import person
from tools.admin.decisions import DecisionAdmin, PressForm, RefusalForm
from tools.admin.rendering import blocks_of, is_whole, readable
from tools.admin.timeline import hints_of, timeline_of, word_of
from tools.api.contents import attachment, whole
from tools.calls import contents, disclosure, ending, life, offers
from tools.models import Call
from tools.models.call_states import OPEN_STATES, CallState
from tools.payloads.raw_json import encode

LOST = "It can no longer be opened: the key that sealed it is gone."


class StateFilter(admin.ChoicesFieldListFilter):
    """By state; an index leads to the open calls, and to those of the other rare states."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Narrow the list."""
        rows = super().queryset(request, queryset)
        chosen = set(self.lookup_val or ())
        if rows is None or not chosen or not chosen <= set(OPEN_STATES):
            return rows
        return rows.filter(finished_at=None)


@admin.register(Call)
class CallAdmin(LargeList, DecisionAdmin):
    """Which assignment called which tool, how it goes on and how it ended."""

    change_form_template = "admin/tools/call/change_form.html"
    empty_sentence = "No calls yet. A call appears here as soon as an assignment makes it."
    list_display = [
        "tool_name",
        "outcome",
        "assignment",
        "connection_and_account",
        stamp("created_at", "when"),
        "duration",
        "error_code",
    ]
    list_filter = [TenantFilter, ("state", StateFilter), "assignment", "connection", "created_at"]
    list_select_related = ["assignment", "connection"]
    actions = ["cancel"]
    unlisted = (*Call.sealed_fields, "assignment__instructions")
    search_fields = ["tool_name", "error_code", "request_id", "account"]
    search_help_text = "Search the newest 20,000"

    @admin.display(description="state", ordering="state")
    def outcome(self, call: Call) -> SafeString:
        """Show the state as a coloured word."""
        return format_html('<span class="status status-{}">{}</span>', *word_of(call))

    @admin.display(description="connection", ordering="connection")
    def connection_and_account(self, call: Call) -> Connection | SafeString | None:
        """Show the connection, and below it as whom the call acted at the provider, where that is known."""
        if not call.account:
            return call.connection
        return format_html('{}<br><span class="quiet breakable">as {}</span>', call.connection or "", call.account)

    @admin.display(description="duration")
    def duration(self, call: Call) -> str:
        """Show how long the call took, in seconds."""
        if not (call.started_at and call.finished_at):
            return ""
        return f"{(call.finished_at - call.started_at).total_seconds():.2f} s"

    # --- one call ---

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a call and its timeline; its arguments at once to who decides about it, else only on request."""
        return self.page(request, self.get_object(request, unquote(object_id)), **(extra_context or {}))

    def page(self, request: HttpRequest, call: Call, *, opens: bool = False, **more: Any) -> HttpResponse:
        """Return the page of a call; with `opens`, arguments and result are shown."""
        may_decide = self.may_decide(request, call)
        decides = may_decide and call.state == CallState.AWAITING_APPROVAL
        context = {
            **self.admin_site.each_context(request),
            "title": call.tool_name,
            "original": call,
            "opts": self.opts,
            "change": True,
            "life": timeline_of(call, timezone.now(), may_decide=may_decide),
            "hints": hints_of(call),
            "duration": self.duration(call),
            "may_decide": may_decide,
            "decides": decides,
            "end": None if call.finished else ending.of(call),
            "replaced": offers.replaced(call) if call.state == CallState.AWAITING_APPROVAL else None,
            "rule": _rule(call) if call.state == CallState.AWAITING_APPROVAL else "",
            "opens": opens,
            "opened": self._opened(request, call) if decides or opens else None,
            "questions": self.questions_of(request, call) if may_decide else None,
            "again": PressForm() if may_decide and call.finished and call.assignment_id else None,
            "made_again": _made_again(call),
            "refusal": RefusalForm(auto_id="refusal_%s"),
        }
        return TemplateResponse(request, self.change_form_template, context | more)

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs that the page uses."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/life/", view(require_GET(self.life_view)), name="tools_call_life"),
            path(
                "<path:object_id>/contents/<int:number>/",
                view(require_GET(self.download_view)),
                name="tools_call_download",
            ),
            path("<path:object_id>/contents/", view(require_GET(self.contents_view)), name="tools_call_contents"),
            path("<path:object_id>/whole/", view(require_GET(self.whole_view)), name="tools_call_whole"),
            *super().get_urls(),
        ]

    def life_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Return the timeline of the call as JSON, which the page polls while it is open."""
        call: Call = self.get_object(request, unquote(object_id))
        return JsonResponse(timeline_of(call, timezone.now(), may_decide=self.may_decide(request, call)))

    def contents_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page with arguments and result opened."""
        return self.page(request, self.get_object(request, unquote(object_id)), opens=True)

    def download_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Return a stored content of the call as a download."""
        call: Call = self.get_object(request, unquote(object_id))
        content = get_object_or_404(call.contents, number=number)
        try:
            return attachment(request, content, disclosure.download_by(person(request), content))
        except SealBroken:
            self.message_user(request, LOST, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:tools_call_contents", args=[call.pk]))

    def whole_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return arguments and result as a download, as the page shows only the beginning of long ones."""
        call: Call = self.get_object(request, unquote(object_id))
        try:
            arguments, result = disclosure.read_by(person(request), call)
        except SealBroken:
            self.message_user(request, LOST, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:tools_call_contents", args=[call.pk]))
        both = {"arguments": orjson.Fragment(encode(arguments)), "result": result}
        return whole(f"{call.pk}.json", orjson.dumps(both))

    @staticmethod
    def _opened(request: HttpRequest, call: Call) -> dict[str, Any]:
        try:
            arguments, result = disclosure.read_by(person(request), call)
        except SealBroken:
            return {"lost": LOST}
        copies = {contents.address(call.pk, number): _download(call.pk, number) for number in _numbers(call)}
        blocks = blocks_of(result, copies) if result else []
        shown = readable(arguments)
        cut = not is_whole(shown, *(block.text for block in blocks))
        return {"arguments": shown, "blocks": blocks, "has_result": result is not None, "cut": cut}

    # --- cancelling ---

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Let admins of an organization cancel; `changeable` says which calls."""
        return self._has_role(request, self.changed_by, None)

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """End the chosen calls that are still open, within a second, wherever they run."""
        chosen = list(self.changeable(request, queryset).filter(finished_at=None))
        for call in chosen:
            life.cancel(call)
            self.audit(request, "cancelled", call)
        self.message_user(request, f"Calls cancelled: {len(chosen)}.", messages.SUCCESS)


def _rule(call: Call) -> str:
    """Return why a call waits for an approval: what was decided about its tool, by whom and when."""
    decided = AuditEvent.objects.filter(object_id=str(call.tool_id), tenant=call.tenant_id, action="tool.set_to_ask")
    event = decided.first()
    if event is None:
        return "Each call of this tool waits until an admin has approved it."
    return f"Each call of this tool waits for an approval: {event.actor} decided so at {moments.shown(event.at)}."


def _made_again(call: Call) -> AuditEvent | None:
    """Return who has made it again, and of which earlier call (`data`), if it is such a one."""
    made = AuditEvent.objects.filter(object_id=str(call.pk), tenant=call.tenant_id, action="call.made_again")
    return made.first()


def _numbers(call: Call) -> list[int]:
    return list(call.contents.values_list("number", flat=True))


def _download(call_id: UUID, number: int) -> str:
    return reverse("admin:tools_call_download", args=[call_id, number])
