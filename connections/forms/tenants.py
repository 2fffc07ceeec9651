"""Forms of rows that belong to a tenant, and of who belongs to it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django import forms
from django.contrib.auth.forms import (
    AdminUserCreationForm,
    ReadOnlyPasswordHashField,
    ReadOnlyPasswordHashWidget,
    UserChangeForm,
    UsernameField,
)
from django.contrib.auth.hashers import is_password_usable
from django.core.exceptions import ValidationError

from connections import choices, tenancy
from connections.forms.fields import NameField, ZoneField
from connections.forms.shown import ShownForm
from connections.forms.telling import KindsField, reachable
from connections.models import Membership, Role, Tenant, User
from connections.notices import audit_feed

NO_WEBHOOK = "Enter the webhook's URL first: the audit trail is sent there."
LAST_ADMIN = "This is the organization's only admin. Make somebody else an admin first."


class TenantForm(ShownForm):
    """A form of a row that belongs to a tenant; it asks which one only where there is a choice, and never again."""

    user: User
    tenant: Tenant | None = None

    def __init__(self, *args: Any, tenant: Tenant | None = None, user: User | None = None, **kwargs: Any) -> None:
        """Take the tenant when it is known, and who fills in the form."""
        super().__init__(*args, **kwargs)
        self.user = user or self.user
        if self.is_change:
            self.tenant = self.instance.tenant
        else:
            self.tenant = tenant or self.tenant or tenancy.only_tenant(self.user)
        if self.tenant is not None:
            self.fields.pop("tenant", None)
            self.instance.tenant = self.tenant
        elif isinstance(field := self.fields.get("tenant"), forms.ModelChoiceField):
            field.queryset = tenancy.tenants_of(self.user, tenancy.ADMINS)
            field.empty_label = "Choose an organization"
            field.error_messages["required"] = "Choose the organization that it is to belong to."
            if self.user.sees_every_organization:
                field.label_from_instance = attrgetter("told_apart")  # type: ignore[method-assign,assignment]
            choices.name_among_many(field)

    def _get_validation_exclusions(self) -> set[str]:
        # Uniqueness within the tenant is checked although the tenant is not asked for.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded if self.instance.tenant_id is None else excluded - {"tenant"}


class KeptNumber(forms.IntegerField):
    """A number that stays as it is when it is left blank."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether another number was entered."""
        return data not in self.empty_values and super().has_changed(initial, data)


def _quota(label: str, **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=0, max_value=10_000_000, required=False, **more)


class OrganizationForm(ShownForm):
    """An organization's name, the webhook of its own systems, and the limits of its calls."""

    time_zone = ZoneField(
        label="Time zone", required=False,
        help_text="Of the times that your people read, and of the days on Activity. Type a city to find it.",
    )  # fmt: skip
    unposted = KindsField("Send the webhook nothing about", "What is not marked is sent.")
    audit_to_webhook = forms.BooleanField(
        label="Send the webhook the audit trail, too", required=False,
        help_text="Every audit event from then on, in order, with its id; up to 100 in a message.",
    )  # fmt: skip
    retention_days = forms.IntegerField(
        label="Days that calls are kept", min_value=1, max_value=3650,
        help_text="1 to 3650. Calls that ended longer ago are deleted for good, with their arguments and results; "
        "a lower number takes effect within the hour.",
    )  # fmt: skip
    decision_hours = forms.IntegerField(
        label="Hours to decide or answer", min_value=1, max_value=720,
        help_text="1 to 720. How long a call waits for an admin's approval, for the answer to a question, or for its "
        "owner to connect.",
    )  # fmt: skip
    max_token_days = KeptNumber(
        label="Days that an API token lives at most", required=False, min_value=1, max_value=3650,
        help_text="1 to 3650. Tokens that were issued longer ago end at once, and a higher number brings none back.",
    )  # fmt: skip
    max_concurrency = forms.IntegerField(
        label="Concurrent calls", min_value=1, max_value=100_000,
        help_text="How many calls of all connections may run at once. More are told to come back in a moment.",
    )  # fmt: skip

    max_connections = _quota("Connections")
    max_assignments = _quota("Assignments")
    max_tokens = _quota("API tokens")
    max_open_calls = _quota("Open calls", help_text="Queued, running, or waiting for a person.")
    max_sessions = _quota("Live sessions", help_text="At servers that remember, over all assignments.")
    max_stored = _quota("MB stored", help_text="Calls with all that hangs on them, and definitions of tools.")

    class Meta:
        model = Tenant
        fields = [
            "name", "time_zone", "require_second_factor", "webhook_url", "unposted", "members_own", "retention_days",
            "decision_hours", "max_token_days", "max_concurrency",
            "max_connections", "max_assignments", "max_tokens", "max_open_calls", "max_sessions",
            "max_stored",
        ]  # fmt: skip
        field_classes = {"name": NameField}
        help_texts = {
            "webhook_url": "We send a signed message there when something needs your people. Leave blank for none.",
            "members_own": "Members then add assignments of their own, with the approved tools of the organization, "
            "and issue their tokens. Admins may make them owners of any.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Show a new organization's numbers, which may be left as they are, or left out."""
        super().__init__(*args, **kwargs)
        if self.is_change:
            self.initial["audit_to_webhook"] = audit_feed.is_on(self.instance)
        else:
            for name, field in self.fields.items():
                if isinstance(field, forms.IntegerField):
                    field.required, field.initial = False, getattr(self.instance, name)

    def clean(self) -> dict[str, Any]:
        """Keep the numbers that were left blank."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name, field in self.fields.items():
            if isinstance(field, forms.IntegerField) and name in cleaned and cleaned[name] is None:
                cleaned[name] = getattr(self.instance, name)
        if cleaned.get("audit_to_webhook") and not cleaned.get("webhook_url") and "webhook_url" not in self.errors:
            if not self.initial.get("audit_to_webhook"):
                self.add_error("audit_to_webhook", ValidationError(NO_WEBHOOK, code="required"))
            cleaned["audit_to_webhook"] = False  # it goes with the webhook
        return cleaned

    def clean_time_zone(self) -> str:
        """Return the name of the zone; left blank, it stays as it is."""
        return str(self.cleaned_data["time_zone"] or self.instance.time_zone)

    def clean_max_token_days(self) -> int:
        """Return the days; left blank, they stay as they are."""
        return int(self.cleaned_data["max_token_days"] or self.instance.max_token_days)

    def clean_webhook_url(self) -> str:
        """Return the URL in normal form; raises ValidationError with the reason why it cannot be used."""
        entered = str(self.cleaned_data["webhook_url"]).strip()
        if not entered or entered == self.instance.webhook_url:
            return entered
        return reachable(entered, self.instance)


class MembershipForm(ShownForm):
    """A member's role; an organization keeps at least one admin."""

    unmailed = KindsField(
        "Mail them nothing about", "Admins are mailed what is not marked; members only what is about their own sign-in."
    )

    class Meta:
        model = Membership
        fields = ["user", "tenant", "role", "unmailed"]
        error_messages = {"tenant": {"required": "Choose the organization that the person is to belong to."}}

    def clean_role(self) -> str:
        """Return the role; raises ValidationError when nobody could change the organization any more."""
        role = str(self.cleaned_data["role"])
        if role != Role.ADMIN and self.instance.is_last_admin():
            raise ValidationError(LAST_ADMIN, code="last_admin")
        return role


class UserNameField(NameField, UsernameField):
    """The name that a person signs in with."""


class PasswordIsSet(ReadOnlyPasswordHashWidget):
    """Says that there is a password, without any part of its hash."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """Return the stock context with nothing of the hash in it."""
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["summary"] = [{"label": "Set" if is_password_usable(value) else "Not set"}]
        return context


class UserForm(ShownForm, UserChangeForm):  # type: ignore[type-arg]
    """A person of the platform."""

    password = ReadOnlyPasswordHashField(label="Password", widget=PasswordIsSet)

    class Meta(UserChangeForm.Meta):
        field_classes = {"username": UserNameField, "first_name": NameField, "last_name": NameField}


class NewUserForm(AdminUserCreationForm):  # type: ignore[type-arg]
    """A new person of the platform."""

    class Meta(AdminUserCreationForm.Meta):
        model = User
        fields = ("username", "email")
        field_classes = {"username": UserNameField}
        help_texts = {"email": "Where the person is told what needs them, and gets a new password."}
