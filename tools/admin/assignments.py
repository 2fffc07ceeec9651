"""The pages of assignments. A token is shown once, in the response to the request that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.views.decorators.http import require_POST, require_safe

from connections.columns import stamp
from connections.filters import TenantFilter
from connections.forms import TenantForm
from connections.forms.fields import NameField
from connections.models import Membership, Role, Tenant, User
from connections.quotas import ASSIGNMENTS, QuotaReached, take
from connections.tenancy import ADMINS, person, tenants_of
from tools.admin.consents import ConsentAdmin
from tools.admin.token_forms import TokenForm, revoke, revoked_message, show_once
from tools.calls import acting
from tools.models import AccessToken, Assignment, Tool
from tools.models.assignments import AlreadyIssued

MOST_OFFERED = 250  # tools to choose from on one page; others are chosen by their names
LONGEST_INSTRUCTIONS = 20_000  # characters
if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Membership]
else:
    _ModelChoiceField = forms.ModelChoiceField

IN_THE_OWNERS_NAME = ("name", "instructions", "scope", "tools")  # what decides what is done in the owner's name


class OwnerField(_ModelChoiceField):
    """A choice among the people who may own assignments."""

    def label_from_instance(self, obj: Any) -> str:
        """Return the person's name, and that they are no admin."""
        return obj.user.get_username() if obj.role == Role.ADMIN else str(obj)


class AssignmentForm(TenantForm):
    """An assignment and the tools it may use; only tools of its own organization can be chosen."""

    chooses_owner = False
    owner = OwnerField(
        label="Owner",
        queryset=Membership.objects.none(),
        required=False,
        help_text="At personal connections it acts as this person. Another owner ends what its tokens may do in the "
        "name of the one before.",
    )

    tools = forms.ModelMultipleChoiceField(
        label="Chosen tools",
        queryset=Tool.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    more_tools = forms.CharField(
        label="More tools, by name",
        required=False,
        max_length=50_000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One a line, as they are called in the list of tools. They are added to those chosen above.",
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
        field_classes = {"name": NameField}
        widgets = {"scope": forms.RadioSelect}
        help_texts = {"enabled": "The tokens of a disabled assignment open nothing."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Offer the tools of the assignment's organization, and its people; before it is known, none."""
        super().__init__(*args, **kwargs)
        self._offer_owners()
        if isinstance(field := self.fields.get("tenant"), forms.ModelChoiceField):
            field.queryset = may_add_in(self.user)
        self._offer_tools()

    def _offer_tools(self) -> None:
        field, mine = self.fields["tools"], Tool.objects.filter(connection__tenant=self.tenant)
        self.offered = mine.filter(gone_at=None) if self.tenant is not None else mine.none()
        total = self.offered.count()
        if total > MOST_OFFERED:
            field.help_text = f"The first {MOST_OFFERED:,} of {total:,} tools, and those chosen."
        else:
            del self.fields["more_tools"]
        if self.tenant is not None and isinstance(field, forms.ModelMultipleChoiceField):
            first = self.offered.values("pk")[:MOST_OFFERED]
            # A chosen tool that the server does not offer at this moment is kept: else saving the form would remove it.
            chosen = self.instance.tools.values("pk") if self.is_change else []
            field.queryset = mine.filter(Q(pk__in=first) | Q(pk__in=chosen)).only("public_name")

    def _offer_owners(self) -> None:
        """Offer who may own it; an owner who may not any more is offered until somebody else is chosen."""
        field = self.fields["owner"]
        if self.tenant is None or not self.chooses_owner:
            del self.fields["owner"]
        elif isinstance(field, OwnerField):
            offered = Membership.objects.filter(
                Q(pk__in=acting.may_own(self.tenant).values("pk")) | Q(tenant=self.tenant, user=self.instance.owner_id)
            )
            field.queryset = offered.select_related("user").order_by("user__username")
            owner = self.instance.owner_id if self.is_change else self.user.pk
            self.initial["owner"] = field.queryset.filter(user=owner).values_list("pk", flat=True).first()

    def clean_more_tools(self) -> QuerySet[Tool]:
        """Return the tools with these names; raises ValidationError for names that no tool of the organization has."""
        names = set(self.cleaned_data["more_tools"].split())
        found = self.offered.filter(public_name__in=names)
        if missing := sorted(names - set(found.values_list("public_name", flat=True))):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValidationError(f"There is no tool “{missing[0][:64]}”{more}.", code="no_such_tool")
        return found

    @cached_property
    def changed_data(self) -> list[str]:
        """Name the tools, too, where they were changed by their names."""
        changed = super().changed_data
        return list(dict.fromkeys("tools" if name == "more_tools" else name for name in changed))

    def clean(self) -> dict[str, Any]:
        """Refuse to act in the name of another person who has not consented, and an assignment beyond the quota.

        The page saves in the same transaction, so nobody else uses up the quota meanwhile.
        """
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if by_name := data.pop("more_tools", None):
            named = Q(pk__in=by_name.values("pk")) | Q(pk__in=data.get("tools", by_name).values("pk"))
            data["tools"] = Tool.objects.filter(named).only("public_name")
        if self.is_change and self.reaches_a_person and (refusal := acting.refusal_for(self.user, self.instance)):
            raise ValidationError(refusal, code="in_the_owners_name")
        tenant = self.tenant or data.get("tenant")
        if tenant is not None and not self.is_change:
            try:
                take(ASSIGNMENTS, tenant.pk, tenant.assignments.all())
            except QuotaReached as full:
                raise ValidationError(full.sentence, code=full.code) from full
        return data

    @property
    def is_change(self) -> bool:
        """Whether the form changes an assignment that exists."""
        return not self.instance._state.adding  # noqa: SLF001 - Django's own flag

    @property
    def is_edit(self) -> bool:
        """Whether anything was changed that decides what is done in the owner's name; disabling only takes away."""
        enables = "enabled" in self.changed_data and bool(self.cleaned_data.get("enabled"))
        return enables or not set(self.changed_data).isdisjoint(IN_THE_OWNERS_NAME)

    @property
    def reaches_a_person(self) -> bool:
        """Whether this is an edit of an assignment that acts, or then would act, through personal sign-ins."""
        if not self.is_edit:
            return False
        data, before = self.cleaned_data, Assignment.objects.select_related("tenant").get(pk=self.instance.pk)
        scope, chosen = data.get("scope", before.scope), data.get("tools") or ()
        return acting.reaches(before) or acting.would_reach(before.tenant, scope, chosen)


def may_add_in(user: User) -> QuerySet[Tenant]:
    """Return the organizations in which this person may have assignments."""
    return tenants_of(user, ADMINS) | Tenant.objects.filter(pk__in=user.owns_in)


def only_place(user: User) -> Tenant | None:
    """Return the one organization in which this person may have assignments, None when there is a choice, or none."""
    places = list(may_add_in(user)[:2])
    return places[0] if len(places) == 1 else None


@admin.register(Assignment)
class AssignmentAdmin(ConsentAdmin):
    """Assignments: who calls, with which tools and tokens."""

    form = AssignmentForm
    change_form_template = "admin/tools/assignment/change_form.html"
    empty_sentence = "No assignments yet. An assignment is a program that may call your tools; it gets a token."
    list_display = ["name", "tenant", "owner", "enabled", "scope", stamp("created_at", "since")]
    list_filter = [TenantFilter, "enabled", "scope"]
    list_select_related = ["tenant", "owner"]
    search_fields = ["name"]

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
        user = person(request)
        owns = obj is not None and obj.owner_id == user.pk and obj.tenant_id in user.owns_in
        return owns or super().has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Ask for the organization first where there is a choice: the tools to choose from follow from it."""
        undecided = obj is None and only_place(person(request)) is None
        fields = ["tenant", "name"] if undecided else ["name"]
        tools = ["scope"] if undecided else ["scope", "tools"]
        return [(None, {"fields": [*fields, "instructions", "enabled", "max_rate"]}), ("Tools", {"fields": tools})]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and make who created it the owner, or whom an admin has chosen."""
        if not change:
            obj.owner = person(request)
        super().save_model(request, obj, form, change)
        told = [name for name in form.changed_data if name != "owner"]
        if change and told and form.reaches_a_person:
            acting.notify_owner(obj, person(request), f"changed {' and '.join(told)}")
        if (owner := form.cleaned_data.get("owner")) is not None:
            acting.hand_over(obj, owner, person(request))
        form.changed_data = told  # a new owner has an event of its own, and nobody takes an owner away

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the chosen tools, and who can use which personal connection from now on."""
        super().save_related(request, form, formsets, change)
        acting.settle(form.instance.tenant)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete it, and count again who can use which personal connection."""
        super().delete_model(request, obj)
        acting.settle(obj.tenant)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the tokens below the form, and in whose name they act."""
        assignment: Assignment = self.get_object(request, unquote(object_id))
        now, mine = timezone.now(), AccessToken.objects.filter(assignment=assignment)
        acts = set(mine.acting().values_list("pk", flat=True))  # and not those of everybody
        tokens = assignment.access_tokens.select_related("created_by", "assignment")
        context = {
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
        refusal = acting.refusal_for(person(request), assignment) if acting.reaches(assignment) else ""
        if refusal:
            self.audit(request, "token_refused", assignment, outcome="in_the_owners_name")
            self.message_user(request, refusal, messages.ERROR)
            return self._to_its_page(assignment)
        form = TokenForm(request.POST, auto_id="token_%s", longest=assignment.tenant.max_token_days)
        if not form.is_valid():
            for errors in form.errors.values():
                self.message_user(request, str(errors[0]), messages.ERROR)
            return self._to_its_page(assignment)
        try:
            with transaction.atomic():
                row, token = AccessToken.issue(
                    assignment=assignment,
                    label=form.cleaned_data["label"],
                    expires_at=form.cleaned_data["expires_on"],
                    by=person(request),
                    pk=form.cleaned_data["once"],
                )
                self.audit(request, "token_issued", assignment, prefix=row.prefix)
                if row.acts_as_id is not None:
                    acting.notify_owner(assignment, person(request), f"issued the token {row}")
        except AlreadyIssued:  # the page was reloaded
            return self.first_call_view(request, object_id, form.cleaned_data["once"])
        except QuotaReached as full:
            self.message_user(request, full.sentence, messages.ERROR)
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
        began = revoke(request, token)
        self.audit(request, "token_revoked", assignment, prefix=token.prefix, calls_ended=began)
        self.message_user(request, revoked_message(token, began), messages.SUCCESS)
        return self._to_its_page(assignment)

    def _get_changeable(self, request: HttpRequest, object_id: str) -> Assignment:
        assignment: Assignment = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, assignment):
            raise PermissionDenied
        return assignment
