"""What people are told, and where: the channel of an organization, and what each person is mailed about."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError

from connections import egress
from connections.context import acting_for
from connections.errors import DuvoError
from connections.models import FOR_PEOPLE, Channel, Kind, Membership, Role, Tenant

MAILED: dict[str, list[Kind]] = {  # what a person of this role can be mailed about at all
    Role.ADMIN.value: list(FOR_PEOPLE),
    Role.MEMBER.value: [Kind.SIGN_IN, Kind.LOGIN_REQUIRED],
}


def reachable(entered: str, tenant: Tenant) -> str:
    """Return a URL that we may send to, in normal form; raises ValidationError with the reason why we may not."""
    try:
        url = egress.check_hop(entered)
        parts = urlsplit(url)
        https = parts.scheme == "https"
        with acting_for(tenant.pk):
            egress.resolve(parts.hostname or "", parts.port or (443 if https else 80), https=https)
    except DuvoError as refusal:
        raise ValidationError(refusal.sentence, code=refusal.code) from refusal
    return url


class KindsField(forms.MultipleChoiceField):
    """Kinds of messages that somebody wants to be told nothing about."""

    def __init__(self, label: str, help_text: str) -> None:
        """Show each kind with a check box."""
        choices = [(kind.value, kind.label) for kind in FOR_PEOPLE]
        super().__init__(
            label=label, help_text=help_text, choices=choices, required=False, widget=forms.CheckboxSelectMultiple
        )


class ChannelForm(forms.Form):
    """The address of an incoming webhook, which only goes in, and what is not told there."""

    url = forms.CharField(
        label="Address of the channel", required=False, max_length=2048,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="The URL of an incoming webhook, which the chat makes. It is sealed, and never shown again.",
    )  # fmt: skip
    untold = KindsField("Tell the channel nothing about", "What is not marked is told.")

    def __init__(self, data: Any = None, *, tenant: Tenant) -> None:
        """Show what is stored of this organization."""
        self.tenant, self.channel = tenant, Channel.objects.filter(tenant=tenant).first()
        super().__init__(data, auto_id="channel_%s", initial={"untold": self.channel.untold if self.channel else []})
        if self.channel is not None:
            self.fields["url"].help_text = "Leave blank to keep the one that is stored."

    def clean_url(self) -> str:
        """Return the URL in normal form, "" to keep what is stored."""
        entered = str(self.cleaned_data["url"]).strip()
        if not entered and self.channel is None:
            raise ValidationError("Enter the URL that the chat gives for the channel.", code="required")
        return reachable(entered, self.tenant) if entered else ""

    def save(self) -> Channel:
        """Store the channel."""
        channel = self.channel or Channel(tenant=self.tenant)
        if self.cleaned_data["url"]:
            channel.set_url(self.cleaned_data["url"])
        channel.untold = self.cleaned_data["untold"]
        channel.save()
        return channel


class MailForm(forms.Form):
    """What one person is mailed about of one organization: what is marked."""

    def __init__(self, data: Any = None, *, membership: Membership) -> None:
        """Offer what somebody of this role can be mailed about."""
        self.membership = membership
        kinds = MAILED.get(membership.role, [])
        wanted = [kind.value for kind in kinds if kind not in membership.unmailed]
        super().__init__(data, prefix=f"of-{membership.pk}", initial={"mailed": wanted})
        if kinds:
            label = "Mail me about" if membership.role == Role.ADMIN else "Mail me about what is my own"
            choices = [(kind.value, kind.label) for kind in kinds]
            self.fields["mailed"] = forms.MultipleChoiceField(
                label=label, choices=choices, required=False, widget=forms.CheckboxSelectMultiple
            )

    def save(self) -> bool:
        """Store what is not marked; False if nothing has changed."""
        if "mailed" not in self.fields:
            return False
        offered = [kind.value for kind in MAILED[self.membership.role]]
        kept = [kind for kind in self.membership.unmailed if kind not in offered]
        unmailed = kept + [kind for kind in offered if kind not in self.cleaned_data["mailed"]]
        if sorted(unmailed) == sorted(self.membership.unmailed):
            return False
        self.membership.unmailed = unmailed
        self.membership.save(update_fields=["unmailed"])
        return True
