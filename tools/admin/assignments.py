"""The pages of assignments and of API tokens. A token is shown once, in the answer to the click that made it."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_POST

from connections.columns import stamp
from connections.forms import TenantForm
from connections.models import Membership, User
from connections.tenancy import TenantAdmin, TenantFilter, only_tenant, person
from tools.models import AccessToken, Assignment, Tool

if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Membership]
else:
    _ModelChoiceField = forms.ModelChoiceField

MOST_OFFERED = 1_000  # tools to choose from on one page
LONGEST_INSTRUCTIONS = 20_000  # characters
EXPIRED_ALREADY = "Choose a day in the future, or leave it blank for a token without an end."


class AssignmentForm(TenantForm):
    """An assignment and the tools it may use; only tools of its own organization can be chosen."""

    tools = forms.ModelMultipleChoiceField(
        label="Chosen tools",
        queryset=Tool.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    max_rate = forms.IntegerField(
        label="Calls per minute",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="How many calls it may make in a minute. Leave blank for no limit.",
    )

    instructions = forms.CharField(
        required=False,
        max_length=LONGEST_INSTRUCTIONS,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What the agent is to do. Never put credentials here: connections hold them.",
    )

    class Meta:
        model = Assignment
        fields = ["tenant", "name", "instructions", "enabled", "max_rate", "scope", "tools"]
        widgets = {"scope": forms.RadioSelect}
        help_texts = {"enabled": "The tokens of a disabled assignment open nothing."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Offer the tools of the assignment's organization; before it is known, none."""
        super().__init__(*args, **kwargs)
        if self.tenant is not None and isinstance(self.fields["tools"], forms.ModelMultipleChoiceField):
            offered = Tool.objects.filter(connection__tenant=self.tenant, gone_at=None)
            first = offered.values("pk")[:MOST_OFFERED]
            chosen = self.instance.tools.values("pk") if self.instance.pk and not self.instance._state.adding else []  # noqa: SLF001 - Django's own flag
            self.fields["tools"].queryset = offered.filter(Q(pk__in=first) | Q(pk__in=chosen)).only("public_name")
            if (total := offered.count()) > MOST_OFFERED:
                self.fields["tools"].help_text = f"The first {MOST_OFFERED:,} of {total:,} tools, and those chosen."


class TokenForm(forms.Form):
    """What a person says of a new token."""

    label = forms.CharField(label="What is it for?", max_length=80, required=False)
    expires_on = forms.DateField(
        label="Last day of use",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Leave blank for a token without an end.",
    )

    def clean_expires_on(self) -> datetime | None:
        """Return the end of that day (UTC); raises ValidationError for a day in the past."""
        day = self.cleaned_data["expires_on"]
        if day is None:
            return None
        end = datetime.combine(day, time.max, tzinfo=UTC)
        if end <= timezone.now():
            raise ValidationError(EXPIRED_ALREADY, code="in_the_past")
        return end


class MembershipField(_ModelChoiceField):
    """A choice among a person's organizations, each with the role they have there."""

    def label_from_instance(self, obj: Any) -> str:
        """Return organization and role."""
        return f"{obj.tenant} ({obj.get_role_display()})"


class OwnTokenForm(TokenForm):
    """A token of a person, for one of their organizations."""

    membership = MembershipField(label="Organization", queryset=Membership.objects.none(), empty_label=None)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        """Offer this person's organizations."""
        super().__init__(*args, **kwargs)
        field = self.fields["membership"]
        if isinstance(field, MembershipField):
            field.queryset = user.memberships.select_related("tenant")


@admin.register(Assignment)
class AssignmentAdmin(TenantAdmin):
    """Assignments: who calls, with which tools and tokens."""

    form = AssignmentForm
    change_form_template = "admin/tools/assignment/change_form.html"
    empty_sentence = "No assignments yet. An assignment is a program that may call your tools; it gets a token."
    list_display = ["name", "tenant", "enabled", "scope", stamp("created_at", "since")]
    list_filter = [TenantFilter, "enabled", "scope"]
    list_select_related = ["tenant"]
    search_fields = ["name"]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form for this person."""
        return type("Form", (AssignmentForm,), {"user": person(request)})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for the organization first where there is a choice: the tools to choose from follow from it."""
        undecided = obj is None and only_tenant(person(request)) is None
        fields = ["tenant", "name"] if undecided else ["name"]
        tools = ["scope"] if undecided else ["scope", "tools"]
        return [(None, {"fields": [*fields, "instructions", "enabled", "max_rate"]}), ("Tools", {"fields": tools})]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and remember who made it."""
        if not change:
            obj.owner = person(request)
        super().save_model(request, obj, form, change)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the tokens below the form."""
        assignment = self.get_object(request, unquote(object_id))
        context = {
            "tokens": assignment.access_tokens.all(),
            "token_form": TokenForm(auto_id="token_%s"),
            "chosen": assignment.tools.values_list("public_name", flat=True)[:MOST_OFFERED],
        }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/tokens/", view(require_POST(self.new_token_view)), name="tools_assignment_token"),
            path(
                "<path:object_id>/tokens/<uuid:token_id>/revoke/",
                view(require_POST(self.revoke_view)),
                name="tools_assignment_revoke",
            ),
            *super().get_urls(),
        ]

    def new_token_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a token and show it, this once."""
        assignment = self._changed(request, object_id)
        form = TokenForm(request.POST, auto_id="token_%s")
        if not form.is_valid():
            for errors in form.errors.values():
                self.message_user(request, str(errors[0]), messages.ERROR)
            return self._to_its_page(assignment)
        with transaction.atomic():
            row, token = AccessToken.issue(
                assignment=assignment,
                label=form.cleaned_data["label"],
                expires_at=form.cleaned_data["expires_on"],
                by=person(request),
            )
            self.audit(request, "token_issued", assignment, prefix=row.prefix)
        back = reverse("admin:tools_assignment_change", args=[assignment.pk])
        return show_once(request, self, row, token, back)

    def revoke_view(self, request: HttpRequest, object_id: str, token_id: UUID) -> HttpResponse:
        """Revoke one token of the assignment."""
        assignment = self._changed(request, object_id)
        token = get_object_or_404(assignment.access_tokens, pk=token_id)
        with transaction.atomic():
            token.revoke()
            self.audit(request, "token_revoked", assignment, prefix=token.prefix)
        self.message_user(request, f"The token {token} is revoked.", messages.SUCCESS)
        return self._to_its_page(assignment)

    def _changed(self, request: HttpRequest, object_id: str) -> Assignment:
        assignment: Assignment = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, assignment):
            raise PermissionDenied
        return assignment

    @staticmethod
    def _to_its_page(assignment: Assignment) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:tools_assignment_change", args=[assignment.pk]))


@admin.register(AccessToken)
class AccessTokenAdmin(TenantAdmin):
    """One's own tokens: they script the set-up with one's own role."""

    tenant_path = "membership__tenant"
    change_form_template = "admin/tools/accesstoken/change_form.html"
    empty_sentence = "No tokens yet. A token of your own lets your scripts set up connections with your role."
    list_display = [
        "prefix", "label", "organization", stamp("created_at", "created"), stamp("expires_at", "expires"),
        stamp("last_used_at", "last used"), stamp("revoked_at", "revoked"),
    ]  # fmt: skip
    list_select_related = ["membership__tenant"]
    fields = ["prefix", "label", "organization", "created_at", "expires_at", "last_used_at", "revoked_at"]
    readonly_fields = ["prefix", "label", "organization", "created_at", "expires_at", "last_used_at", "revoked_at"]
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return one's own tokens, whoever one is."""
        return super().get_queryset(request).filter(membership__user=person(request))

    @admin.display(description="organization")
    def organization(self, token: AccessToken) -> str:
        """Show for which organization it speaks."""
        return str(token.membership.tenant) if token.membership else ""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let those add who belong to an organization."""
        return bool(person(request).roles)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people see their own."""
        user = person(request)
        return bool(user.roles) if obj is None else obj.membership.user_id == user.pk

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a token; it can be revoked."""
        return False

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """Ask what the token is for; make it and show it, this once."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = OwnTokenForm(request.POST or None, user=person(request))
        if request.method == "POST" and form.is_valid():
            with transaction.atomic():
                row, token = AccessToken.issue(
                    membership=form.cleaned_data["membership"],
                    label=form.cleaned_data["label"],
                    expires_at=form.cleaned_data["expires_on"],
                    by=person(request),
                )
                self.audit(request, "issued", row, prefix=row.prefix)
            return show_once(request, self, row, token, reverse("admin:tools_accesstoken_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": "New API token",
            "form": form,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/tools/accesstoken/add.html", context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        revoke = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<path:object_id>/revoke/", revoke, name="tools_accesstoken_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke one of one's own tokens."""
        token: AccessToken = self.get_object(request, unquote(object_id))
        with transaction.atomic():
            token.revoke()
            self.audit(request, "revoked", token, prefix=token.prefix)
        self.message_user(request, f"The token {token} is revoked.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:tools_accesstoken_changelist"))


def show_once(request: HttpRequest, page: TenantAdmin, row: AccessToken, token: str, back: str) -> HttpResponse:
    """Answer with the token itself; no cache, session or message keeps it."""
    context = {
        **page.admin_site.each_context(request),
        "title": "Copy this token now",
        "token": token,
        "row": row,
        "back": back,
        "opts": page.opts,
    }
    response = TemplateResponse(request, "admin/tools/token.html", context)
    add_never_cache_headers(response)
    return response
