"""The one way an assignment is made or changed: by the admin and by the API.

    form = AssignmentForm(data, instance=assignment, tenant=tenant, user=user)
    if form.is_valid():
        assignment = form.store()

Validate and store in one transaction: from the first to the second the row is locked. Where an assignment acts through
personal sign-ins, its owner edits it, and whoever has the owner's consent (see `calls.acting`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects
from django.forms.models import ModelChoiceIterator
from django.utils.functional import cached_property

from connections import audit, changes, deleting
from connections.forms import TenantForm
from connections.forms.fields import NameField
from connections.models import Membership, Role, Tenant, User
from connections.quotas import ASSIGNMENTS, QuotaReached, take
from connections.tenancy import ADMINS, tenants_of
from tools.calls import acting
from tools.models import Assignment, Tool

MOST_OFFERED = 250  # tools to choose from on one page; others are chosen by their names
LONGEST_INSTRUCTIONS = 20_000  # characters
NAME_TAKEN = "Another assignment of this organization has this name. Choose a different one."
IN_THE_OWNERS_NAME = "in_the_owners_name"  # the code of what only the owner may change, and with consent others
if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Membership]
    _ToolsField = forms.ModelMultipleChoiceField[Tool]
    _ToolsIterator = ModelChoiceIterator[Tool]
else:
    _ModelChoiceField = forms.ModelChoiceField
    _ToolsField = forms.ModelMultipleChoiceField
    _ToolsIterator = ModelChoiceIterator

_DECIDES = ("name", "instructions", "scope", "tools")  # what is done in the owner's name


def may_add(user: User, tenant: Tenant) -> bool:
    """Whether this person may have assignments in an organization of theirs."""
    return user.roles.get(tenant.pk) == Role.ADMIN or tenant.pk in user.owns_in


def may_change(user: User, assignment: Assignment) -> bool:
    """Whether this person may change it: admins any, members their own where their organization lets them have some."""
    owns = assignment.owner_id == user.pk and assignment.tenant_id in user.owns_in
    return owns or user.roles.get(assignment.tenant_id) == Role.ADMIN


def may_add_in(user: User) -> QuerySet[Tenant]:
    """Return the organizations in which this person may have assignments."""
    return tenants_of(user, ADMINS) | Tenant.objects.filter(pk__in=user.owns_in)


def only_place(user: User) -> Tenant | None:
    """Return the one organization in which this person may have assignments, None when there is a choice, or none."""
    places = list(may_add_in(user)[:2])
    return places[0] if len(places) == 1 else None


def choosable(tenant: Tenant, assignment: Assignment | None = None, *, most: int | None = None) -> QuerySet[Tool]:
    """Return the tools that can be chosen for an assignment, `most` of them and those that are chosen already."""
    mine = Tool.objects.filter(connection__tenant=tenant)
    offered = mine.filter(gone_at=None)
    # A chosen tool that the server does not offer at this moment is kept: else saving would remove it.
    chosen = assignment.tools.values("pk") if assignment is not None else []
    among = Q(gone_at=None) if most is None else Q(pk__in=offered.values("pk")[:most])
    return mine.filter(among | Q(pk__in=chosen))


class OwnerField(_ModelChoiceField):
    """A choice among the people who may own assignments."""

    def label_from_instance(self, obj: Any) -> str:
        """Return the person's name, and that they are no admin."""
        return obj.user.get_username() if obj.role == Role.ADMIN else str(obj)


class ByConnection(_ToolsIterator):
    """The tools to choose from, those of each connection together under its name."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each connection's name with its tools."""
        rows = self.queryset.select_related("connection").only("public_name", "connection__name")
        ordered = rows.order_by("connection__name", "connection", "public_name", "pk")
        for connection, tools in groupby(ordered, key=attrgetter("connection")):
            yield connection.name, [self.choice(tool) for tool in tools]


class ToolsField(_ToolsField):
    """A choice among tools."""

    iterator = ByConnection


class AssignmentForm(TenantForm):
    """An assignment and the tools it may use; only tools of its own organization can be chosen."""

    chooses_owner = False
    most_offered: int | None = MOST_OFFERED
    owner = OwnerField(
        label="Owner",
        queryset=Membership.objects.none(),
        required=False,
        help_text="At personal connections it acts as this person. Another owner ends what its tokens may do in the "
        "name of the one before.",
    )

    tools = ToolsField(
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
        if (instance := kwargs.get("instance")) is not None and not instance._state.adding:  # noqa: SLF001 - as below
            # Django would read the definitions of all of its tools, twice.
            prefetch_related_objects([instance], Prefetch("tools", Tool.objects.only("public_name")))
        super().__init__(*args, **kwargs)
        self._offer_owners()
        if isinstance(field := self.fields.get("tenant"), forms.ModelChoiceField):
            field.queryset = may_add_in(self.user)
        self._offer_tools()

    def _offer_tools(self) -> None:
        field, most = self.fields["tools"], self.most_offered
        if self.tenant is not None and isinstance(field, forms.ModelMultipleChoiceField):
            before = self.instance if self.is_change else None
            field.queryset = choosable(self.tenant, before, most=most).only("public_name")
        total = choosable(self.tenant).count() if self.tenant is not None and most is not None else 0
        if most is not None and total > most:
            field.help_text = f"The first {most:,} of {total:,} tools, and those chosen."
        else:
            del self.fields["more_tools"]

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

    @classmethod
    def data_of(cls, assignment: Assignment) -> dict[str, Any]:
        """Return what the form would send to leave this assignment as it is; a program's partial change starts here."""
        plain = {name: getattr(assignment, name) for name in ("name", "instructions", "enabled", "max_rate", "scope")}
        return plain | {"tools": list(assignment.tools.values_list("pk", flat=True)) if assignment.pk else []}

    def clean_more_tools(self) -> QuerySet[Tool]:
        """Return the tools with these names; raises ValidationError for names that no tool of the organization has."""
        names = set(self.cleaned_data["more_tools"].split())
        found = choosable(self.tenant).filter(public_name__in=names) if self.tenant else Tool.objects.none()
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

        It is stored in the same transaction, so nobody else uses up the quota meanwhile, or takes the name.
        """
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if by_name := data.pop("more_tools", None):
            named = Q(pk__in=by_name.values("pk")) | Q(pk__in=data.get("tools", by_name).values("pk"))
            data["tools"] = Tool.objects.filter(named).only("public_name")
        if self.is_change and self.reaches_a_person and (refusal := acting.refusal_for(self.user, self.instance)):
            raise ValidationError(refusal, code=IN_THE_OWNERS_NAME)
        tenant = self.tenant or data.get("tenant")
        if tenant is not None and not self.is_change:
            try:
                take(ASSIGNMENTS, tenant.pk, tenant.assignments.all())
            except QuotaReached as full:
                raise ValidationError(full.sentence, code=full.code) from full
        elif tenant is not None and "name" in self.changed_data:
            Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        if (
            tenant is not None
            and tenant.assignments.filter(name=data.get("name")).exclude(pk=self.instance.pk).exists()
        ):
            self.add_error("name", ValidationError(NAME_TAKEN, code="duplicate"))
        return data

    @property
    def is_change(self) -> bool:
        """Whether the form changes an assignment that exists."""
        return not self.instance._state.adding  # noqa: SLF001 - Django's own flag

    @property
    def is_edit(self) -> bool:
        """Whether anything was changed that decides what is done in the owner's name; disabling only takes away."""
        enables = "enabled" in self.changed_data and bool(self.cleaned_data.get("enabled"))
        return enables or not set(self.changed_data).isdisjoint(_DECIDES)

    @property
    def reaches_a_person(self) -> bool:
        """Whether this is an edit of an assignment that acts, or then would act, through personal sign-ins."""
        if not self.is_edit:
            return False
        data, before = self.cleaned_data, Assignment.objects.select_related("tenant").get(pk=self.instance.pk)
        scope, chosen = data.get("scope", before.scope), data.get("tools") or ()
        return acting.reaches(before) or acting.would_reach(before.tenant, scope, chosen)

    def store(self) -> Assignment:
        """Save a valid form, in its transaction, with all that follows; return the assignment.

        Whoever adds one owns it, unless an admin has chosen somebody, or the staff of the platform adds it. The owner
        is notified of what another person changed in their name, and who can use which personal connection is counted
        again.
        """
        assignment: Assignment = self.instance
        is_change, told = self.is_change, [name for name in self.changed_data if name != "owner"]
        concerns_owner = is_change and bool(told) and self.reaches_a_person
        if not is_change:
            assignment.owner = None if self.user.is_staff_in(assignment.tenant_id) else self.user
        self.save()
        if not is_change:
            audit.record(self.user, "assignment.created", assignment, tenant=assignment.tenant)
        elif told:
            audit.record(
                self.user, "assignment.changed", assignment, tenant=assignment.tenant, fields=told,
                changes=changes.of(self, told),
            )  # fmt: skip
        if concerns_owner:
            acting.notify_owner(assignment, self.user, f"changed {' and '.join(told)}")
        if (owner := self.cleaned_data.get("owner")) is not None:
            acting.hand_over(assignment, owner, self.user)
        acting.settle(assignment.tenant)
        return assignment


def delete(assignment: Assignment) -> None:
    """Delete an assignment with its tokens, whatever is under way for it, and count again who can use what."""
    tenant = assignment.tenant
    deleting.carry_out(partial(_delete, assignment, tenant))


def _delete(assignment: Assignment, tenant: Tenant) -> None:
    key = assignment.pk
    assignment.delete()
    assignment.pk = key  # Django takes it from a deleted row; it may be another try's, and the audit event's
    acting.settle(tenant)
