"""The list of calls, and the page of one: an organization admin approves it, answers what it asks, or cancels it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from connections.columns import stamp
from connections.errors import SealBroken
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, TenantFilter, person
from tools import calls, reading
from tools.admin.life import hints_of, life_of
from tools.admin.questions import QuestionForm
from tools.difference import pretty
from tools.errors import AnswersRefused, NotAsked
from tools.models import Call
from tools.models.moves import CallState

DECIDED = "Somebody has decided before, or the call has ended."
LONGEST_REASON = 200  # characters


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    """Which assignment called which tool, and how it ended."""

    seen_by = ADMINS_AND_AUDITORS
    change_form_template = "admin/tools/call/change_form.html"
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
    fields = ["tool_name"]

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

    # --- one call ---

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the life of a call and what there is to decide; an admin who approves sees the arguments at once."""
        call: Call = self.get_object(request, unquote(object_id))
        context = extra_context or {}
        may_decide = self._has_role(request, self.changed_by, call)
        if may_decide and call.state == CallState.AWAITING_APPROVAL:
            context |= self._opened(request, call)
        if may_decide and call.state == CallState.INPUT_REQUIRED and not call.sealed_answers:
            context = {"questions": _forms(call)} | context
        context |= {
            "title": str(call.tool_name),
            "subtitle": None,
            "life": life_of(call, timezone.now()),
            "hints": hints_of(call),
            "duration": self.duration(call),
            "may_decide": may_decide,
            "all_visits": all(form.mode == "url" for form in context.get("questions", ())),
        }
        response = super().change_view(request, object_id, form_url, context)
        add_never_cache_headers(response)
        return response

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons, and the one that the page polls while the call is open."""
        view = self.admin_site.admin_view
        buttons = {
            "read": self.read_view,
            "approve": self.approve_view,
            "refuse": self.refuse_view,
            "answer": self.answer_view,
            "stop": self.stop_view,
        }
        return [
            path("<path:object_id>/life/", view(self.life_view), name="tools_call_life"),
            *(
                path(f"<path:object_id>/{name}/", view(require_POST(button)), name=f"tools_call_{name}")
                for name, button in buttons.items()
            ),
            *super().get_urls(),
        ]

    def life_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Answer the life of a call that this person sees."""
        return JsonResponse(life_of(self.get_object(request, unquote(object_id)), timezone.now()))

    def read_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show arguments and result, and write down that this person has read them."""
        call: Call = self.get_object(request, unquote(object_id))
        shown: HttpResponse = self.change_view(request, object_id, extra_context=self._opened(request, call))
        return shown

    def approve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let the call be made."""
        call = self._decided(request, object_id)
        done = calls.approve(call, by=person(request).get_username())
        return self._told(request, call, "approved", "Approved: the call is on its way.", done=done)

    def refuse_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the call with the reason that its caller is told."""
        call = self._decided(request, object_id)
        reason = request.POST.get("reason", "").strip()[:LONGEST_REASON].replace("\0", "")
        done = calls.refuse(call, by=person(request).get_username(), reason=reason)
        return self._told(request, call, "refused", "Refused: nothing was sent.", done=done)

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Cancel the call."""
        call = self._decided(request, object_id)
        if not call.finished:
            calls.cancel(call)
        return self._told(request, call, "cancelled", "The call is being cancelled.", done=not call.finished)

    def answer_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer what the call asks: with what was filled in, with a no, or with nothing."""
        call = self._decided(request, object_id)
        action = request.POST.get("action", "cancel")
        questions = _forms(call, request.POST if action == "accept" else None)
        if action == "accept" and not all([form.is_valid() for form in questions]):  # noqa: C419 - each shows its faults
            return self._again(request, object_id, questions)
        try:
            calls.answer(call, {form.key: _response(form, action) for form in questions})
        except NotAsked:
            return self._told(request, call, "answered", "", done=False)
        except AnswersRefused as refusal:
            for form in questions:
                form.add_faults(fault for fault in refusal.faults if fault.pointer.startswith(f"/{form.key}"))
            return self._again(request, object_id, questions)
        return self._told(request, call, "answered", "Sent: the call goes on.", done=True, outcome=action)

    def _again(self, request: HttpRequest, object_id: str, questions: list[QuestionForm]) -> HttpResponse:
        shown: HttpResponse = self.change_view(request, object_id, extra_context={"questions": questions})
        return shown

    def _decided(self, request: HttpRequest, object_id: str) -> Call:
        call: Call = self.get_object(request, unquote(object_id))
        if not self._has_role(request, self.changed_by, call):
            raise PermissionDenied
        return call

    def _told(
        self, request: HttpRequest, call: Call, action: str, sentence: str, *, done: bool, outcome: str = "ok"
    ) -> HttpResponse:
        if done:
            self.audit(request, action, call, outcome=outcome)
        self.message_user(request, sentence if done else DECIDED, messages.SUCCESS if done else messages.WARNING)
        return HttpResponseRedirect(reverse("admin:tools_call_change", args=[call.pk]))

    @staticmethod
    def _opened(request: HttpRequest, call: Call) -> dict[str, Any]:
        try:
            arguments, result = reading.read_by(person(request), call)
        except SealBroken as broken:
            return {"broken": broken.sentence}
        return {"arguments": pretty(arguments), "result": pretty(result) if result is not None else None}


def _forms(call: Call, data: Any = None) -> list[QuestionForm]:
    asked = (call.question() or {"requests": {}})["requests"]
    return [QuestionForm(key, question, data, number=number) for number, (key, question) in enumerate(asked.items(), 1)]


def _response(form: QuestionForm, action: str) -> dict[str, Any]:
    if action == "accept" and form.mode == "form":
        return {"action": action, "content": form.content()}
    return {"action": action if action in {"accept", "decline"} else "cancel"}
