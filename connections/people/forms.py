"""What admins fill in about people, and what people fill in about themselves when they come in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import SetPasswordMixin
from django.core.exceptions import ValidationError

from connections.forms.fields import NameField
from connections.forms.tenants import TenantForm
from connections.models import Invitation, Tenant, User
from connections.people import inviting

LONGEST = 30  # days that a link works at most


class InvitationForm(TenantForm):
    """Whom an admin invites, and as what."""

    days = forms.IntegerField(
        label="Days that the link works", min_value=1, max_value=LONGEST, initial=7, help_text=f"1 to {LONGEST}."
    )

    class Meta:
        model = Invitation
        fields = ["tenant", "email", "role"]
        labels = {"email": "E-mail address", "tenant": "Organization"}
        help_texts = {
            "email": "They get a mail with a link, which works once and only for them.",
            "role": "Admins change everything, members see it and sign in to what is personal, auditors only read.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ask the browser for an address."""
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True
        self.fields["email"].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    def clean_email(self) -> str:
        """Return the address in small letters, as mail servers take it."""
        return str(self.cleaned_data["email"]).lower()

    def clean(self) -> dict[str, Any]:
        """Refuse whoever is a member already, or more invitations than an organization may have."""
        data = super().clean()
        tenant: Tenant | None = self.tenant or data.get("tenant")
        email = data.get("email")
        if tenant is None or not email:
            return data
        member = next((each for each in tenant.memberships.select_related("user") if _is(each.user, email)), None)
        if member is not None:
            self.add_error("email", f"{email} is a member already, as {member.get_role_display().lower()}.")
        pending = tenant.invitations.pending()
        if pending.count() >= inviting.MOST_PENDING and not pending.filter(email=email).exists():
            sentence = f"{inviting.MOST_PENDING} invitations wait already. Withdraw some that are not needed."
            self.add_error(None, ValidationError(sentence, code="too_many"))
        return data

    def validate_constraints(self) -> None:
        """Leave it to `inviting`: an address that is invited already is invited again."""


class JoinForm(SetPasswordMixin, forms.Form):  # type: ignore[type-arg]
    """Who somebody is that has no account yet."""

    email = forms.EmailField(label="Your e-mail address", help_text="You sign in with it.")
    name = NameField(label="Your name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password1, password2 = SetPasswordMixin.create_password_fields("Password", "Password again")

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        """Take the address for which the link was made; "" where it is still to be entered."""
        super().__init__(*args, **kwargs)
        self.invited = email
        self.fields["password1"].help_text = "At least 8 characters, and not one that is often used."
        self.fields["password2"].help_text = ""
        if email:
            del self.fields["email"]
        else:
            self.fields["email"].widget.attrs |= {"autocomplete": "username", "autofocus": True}

    def clean_email(self) -> str:
        """Return the address in small letters; raises ValidationError when somebody has it."""
        email = str(self.cleaned_data["email"]).lower()
        if inviting.account_of(email):
            raise ValidationError("There is an account with this address. Sign in with it instead.", code="taken")
        return email

    def clean(self) -> dict[str, Any]:
        """Have the password judged in the light of who uses it."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        self.validate_passwords()
        self.validate_password_for_user(self.person(), "password2")
        return data

    def person(self) -> User:
        """Return the account as it would be, without its password; it is not saved."""
        email = self.invited or self.cleaned_data.get("email", "")
        return User(username=email[:150], email=email, first_name=self.cleaned_data.get("name", ""))

    def person_with_password(self) -> User:
        """Return the account to be saved; making the hash of its password takes half a second."""
        person = self.person()
        person.set_password(self.cleaned_data["password1"])
        return person


class NewPasswordForm(SetPasswordMixin, forms.Form):  # type: ignore[type-arg]
    """A new password, for who has forgotten the old one."""

    password1, password2 = SetPasswordMixin.create_password_fields("New password", "New password again")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        """Take whose it is to be."""
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["password1"].help_text = "At least 8 characters, and not one that is often used."
        self.fields["password2"].help_text = ""

    def clean(self) -> dict[str, Any]:
        """Have the password judged in the light of who uses it."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        self.validate_passwords()
        self.validate_password_for_user(self.user, "password2")
        return data


class ForgottenForm(forms.Form):
    """Who has forgotten a password."""

    name = forms.CharField(
        label="E-mail address", max_length=254,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}),
    )  # fmt: skip


class AddressForm(forms.Form):
    """Another e-mail address."""

    email = forms.EmailField(label="New e-mail address", help_text="It counts once you have opened the link in a mail.")

    def clean_email(self) -> str:
        """Return the address in small letters."""
        return str(self.cleaned_data["email"]).lower()


class FoundForm(forms.Form):
    """The name of a first organization."""

    name = NameField(
        label="Name", max_length=100, help_text="As your colleagues know it. It can be changed later.",
        widget=forms.TextInput(attrs={"autocomplete": "organization", "autofocus": True}),
    )  # fmt: skip


def _is(user: User, email: str) -> bool:
    return email in {user.email.casefold(), user.username.casefold()}
