"""The pages of assignments. A token is shown once, in the response to the request that made it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from connections.columns import stamp
from connections.filters import TenantFilter
from connections.quotas import QuotaReached
from connections.tenancy import person
from tools.admin.consents import ConsentAdmin
from tools.admin.token_forms import TokenForm, calls_go_on, revoked_message, show_once
from tools.assigning import assignments, preflight, tokens
from tools.assigning.assignments import MOST_OFFERED, AssignmentForm, only_place
from tools.errors import ActingRefused
from tools.models import AccessToken, Assignment
from tools.models.assignments import AlreadyIssued


@admin.register(Assignment)
class AssignmentAdmin(ConsentAdmin):
    """Assignments: who calls, with which tools and tokens."""

    form = AssignmentForm
    change_form_template = "admin/tools/assignment/change_form.html"
    empty_sentence = "No assignments yet. An assignment is a program that may call your tools; it gets a token."
    list_display = ["name", "tenant", "owner", "enabled", "scope", stamp("created_at", "since")]
    list_filter = [TenantFilter, "enabled", "scope"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return what this person sees, with the organization and the owner, which every page of one tells."""
        return super().get_queryset(request).select_related("tenant", "owner")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form for this person; admins choose the owner."""
        user = person(request)
        chooses = super().has_change_permission(request, obj)
        members = {"user": user, "chooses_owner": chooses, "tenant": None if obj else only_place(user)}
        return type("Form", (AssignmentForm,), members)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let members add, too, where their organization lets them."""
        return super().has_add_permission(request) or bool(person(request).owns_in)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let members change those that they own, where their organization lets them."""
        mine = obj is not None and assignments.may_change(person(request), obj)
        return mine or super().has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for the organization first where there is a choice: the tools to choose from follow from it."""
        undecided = obj is None and only_place(person(request)) is None
        fields = ["tenant", "name"] if undecided else ["name"]
        tools = ["scope"] if undecided else ["scope", "tools"]
        return [(None, {"fields": [*fields, "instructions", "enabled", "max_rate"]}), ("Tools", {"fields": tools})]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Have the form store it, with all that follows."""
        form.store()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the form has saved."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Do nothing: the form has recorded it."""

    log_change = log_addition  # type: ignore[assignment]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete it, and count again who can use which personal connection."""
        assignments.delete(obj)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the tokens below the form, and in whose name they act."""
        assignment: Assignment = self.get_object(request, unquote(object_id))
        now, mine = timezone.now(), AccessToken.objects.filter(assignment=assignment)
        acts = set(mine.acting().values_list("pk", flat=True))  # and not those of everybody
        tokens = assignment.access_tokens.select_related("created_by", "assignment")
        context = {
            "preflight": preflight.of(assignment),
            "chosen": assignment.tools.values_list("public_name", flat=True)[:MOST_OFFERED],
            "tokens": [(token, token.state(now), token.pk in acts) for token in tokens],
            "token_form": TokenForm(auto_id="token_%s", longest=assignment.tenant.max_token_days),
            **self.consents_of(request, assignment),
        }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the buttons."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/tokens/", view(require_POST(self.new_token_view)), name="tools_assignment_token"),
            path(
                "<path:object_id>/tokens/<uuid:token_id>/",
                view(require_safe(self.first_call_view)),
                name="tools_assignment_first_call",
            ),
            path(
                "<path:object_id>/tokens/<uuid:token_id>/revoke/",
                view(require_POST(self.revoke_view)),
                name="tools_assignment_revoke",
            ),
            *super().get_urls(),
        ]

    def new_token_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a token and show it, this once."""
        assignment = self._get_changeable(request, object_id)
        form = TokenForm(request.POST, auto_id="token_%s", longest=assignment.tenant.max_token_days)
        if not form.is_valid():
            for errors in form.errors.values():
                self.message_user(request, str(errors[0]), messages.ERROR)
            return self._to_its_page(assignment)
        try:
            row, token = tokens.issue(
                assignment,
                person(request),
                label=form.cleaned_data["label"],
                expires_at=form.cleaned_data["expires_on"],
                pk=form.cleaned_data["once"],
            )
        except AlreadyIssued:  # the page was reloaded
            return self.first_call_view(request, object_id, form.cleaned_data["once"])
        except (ActingRefused, QuotaReached) as refusal:
            self.message_user(request, refusal.sentence, messages.ERROR)
            return self._to_its_page(assignment)
        back = reverse("admin:tools_assignment_change", args=[assignment.pk])
        return show_once(request, self, row, token, back)

    def first_call_view(self, request: HttpRequest, object_id: str, token_id: UUID) -> HttpResponse:
        """Show what to copy for a token, without the token itself, and what has come of it."""
        assignment = self._get_changeable(request, object_id)
        token = get_object_or_404(assignment.access_tokens.select_related("assignment__tenant"), pk=token_id)
        return show_once(request, self, token, "", reverse("admin:tools_assignment_change", args=[assignment.pk]))

    def revoke_view(self, request: HttpRequest, object_id: str, token_id: UUID) -> HttpResponse:
        """Revoke one token of the assignment."""
        assignment = self._get_changeable(request, object_id)
        token = get_object_or_404(assignment.access_tokens, pk=token_id)
        began = tokens.revoke(token, person(request), calls_go_on=calls_go_on(request))
        self.message_user(request, revoked_message(token, began), messages.SUCCESS)
        return self._to_its_page(assignment)

    def _get_changeable(self, request: HttpRequest, object_id: str) -> Assignment:
        assignment: Assignment = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, assignment):
            raise PermissionDenied
        return assignment
