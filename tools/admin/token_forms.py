"""The forms of new tokens, and what the pages of tokens share: showing one once, and revoking one."""

from __future__ import annotations

from datetime import datetime, time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django import forms
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from connections.models import Membership, User
from connections.tenancy import TenantAdmin
from tools.admin import first_call
from tools.assigning.tokens import NewTokenForm
from tools.models import AccessToken

if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Membership]
else:
    _ModelChoiceField = forms.ModelChoiceField

_SALT = "tools.new_token"


class TokenForm(NewTokenForm):
    """The label and the last day of a new token; the form of one page makes one token, however often it is sent."""

    once = forms.CharField(required=False, widget=forms.HiddenInput, max_length=300)
    expires_on = forms.DateField(
        label="Last day of use",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    def __init__(self, *args: Any, longest: int | None = None, **kwargs: Any) -> None:
        """Take the longest lifetime of a token in days, or None if the organization is not chosen yet."""
        super().__init__(*args, longest=longest, **kwargs)
        days = f"{longest} days" if longest else "the days that its organization says"
        self.fields["expires_on"].help_text = f"Leave blank for the longest time: {days}."
        self.initial["once"] = signing.dumps(str(uuid4()), salt=_SALT)

    def clean_once(self) -> UUID | None:
        """Return the id that this form's token gets; None for a program, which sends no page's mark."""
        try:
            return UUID(signing.loads(self.cleaned_data["once"], salt=_SALT))
        except (signing.BadSignature, ValueError):
            return None

    def clean_expires_on(self) -> datetime | None:
        """Return the end of that day; raises ValidationError for a day in the past."""
        day = self.cleaned_data["expires_on"]
        if day is None:
            return None
        end = datetime.combine(day, time.max, tzinfo=timezone.get_current_timezone())
        self.check_end(end, self.longest)
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
            field.queryset = user.memberships.select_related("tenant").filter(tenant__suspended_at=None)

    def clean(self) -> dict[str, Any]:
        """Refuse a day that is later than the chosen organization lets tokens live."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if (membership := data.get("membership")) is not None:
            try:
                self.check_end(data.get("expires_on"), membership.tenant.max_token_days)
            except ValidationError as refusal:
                self.add_error("expires_on", refusal)
        return data


def show_once(request: HttpRequest, page: TenantAdmin, row: AccessToken, token: str, back: str) -> HttpResponse:
    """Return a page with the token itself, if it is given; no cache, session or message keeps it."""
    title = "Copy this token now" if token else f"The token {row}"
    context = {**first_call.told(request, page, row, token), "title": title, "token": token, "back": back}
    response = TemplateResponse(request, "admin/tools/token.html", context)
    add_never_cache_headers(response)
    return response


def calls_go_on(request: HttpRequest) -> bool:
    """Whether the box was cleared that ends the calls of a token; a page without the box ends everything."""
    return "ends_calls_asked" in request.POST and "ends_calls" not in request.POST


def revoked_message(token: AccessToken, calls: int) -> str:
    """Return the sentence that confirms it."""
    ended = f" {calls} of its calls were open and are ended." if calls else ""
    return f"The token {token} is revoked.{ended}"
