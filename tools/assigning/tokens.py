"""Issuing and revoking tokens: who may, for how long, and who is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from connections import audit
from connections.forms.fields import NameField
from connections.models import User
from tools.assigning.assignments import IN_THE_OWNERS_NAME
from tools.calls import acting, ending
from tools.errors import ActingRefused
from tools.models import AccessToken, Assignment

EXPIRED_ALREADY = "Choose a day in the future, or leave it blank for the longest time."
TOO_LONG = "Your organization lets a token live for {} days. Choose an earlier day, or leave it blank."


class NewTokenForm(forms.Form):
    """What is said of a new token: what it is for. Until when it lives is asked for in days, or by programs."""

    label = NameField(label="What is it for?", max_length=80, required=False)

    def __init__(self, *args: Any, longest: int | None = None, **kwargs: Any) -> None:
        """Take the longest lifetime of a token in days, or None if the organization is not chosen yet."""
        super().__init__(*args, **kwargs)
        self.longest = longest

    @staticmethod
    def check_end(end: datetime | None, longest: int | None) -> None:
        """Raise ValidationError for an end that has passed, or that is later than a token may live."""
        if end is None:
            return
        if end <= timezone.now():
            raise ValidationError(EXPIRED_ALREADY, code="in_the_past")
        if longest and end > timezone.now() + timedelta(days=longest + 1):  # the end of a day, anywhere on earth
            raise ValidationError(TOO_LONG.format(longest), code="too_long")


def issue(
    assignment: Assignment, by: User, *, label: str, expires_at: datetime | None, pk: UUID | None = None
) -> tuple[AccessToken, str]:
    """Issue a token of an assignment; return the row and the token, shown only now.

    Where the assignment acts through its owner's personal sign-ins, the owner issues, or has consented, and is
    notified. One that staff of the platform issue ends with their visit. Raises ActingRefused, and what
    `AccessToken.issue` raises.
    """
    refusal = acting.refusal_for(by, assignment) if acting.reaches(assignment) else ""
    if refusal:
        audit.record(by, "assignment.token_refused", assignment, tenant=assignment.tenant, outcome=IN_THE_OWNERS_NAME)
        raise ActingRefused(refusal)
    if by.staff_visit is not None:
        expires_at = min(expires_at or by.staff_visit.ends_at, by.staff_visit.ends_at)
    with transaction.atomic():
        row, token = AccessToken.issue(assignment=assignment, label=label, expires_at=expires_at, by=by, pk=pk)
        audit.record(by, "assignment.token_issued", assignment, tenant=assignment.tenant, prefix=row.prefix)
        if row.acts_as_id is not None:
            acting.notify_owner(assignment, by, f"issued the token {row}")
    return row, token


def revoke(token: AccessToken, by: User, *, calls_go_on: bool) -> int:
    """Revoke a token and end its calls, unless those go on; return how many were ended.

    It stands in the history of the assignment whose token it was, or of the person's own token.
    """
    ended = ending.revoke(token, calls_go_on=calls_go_on)
    if token.assignment is not None:
        audit.record(
            by, "assignment.token_revoked", token.assignment, tenant=token.tenant, prefix=token.prefix,
            calls_ended=ended,
        )  # fmt: skip
    else:
        audit.record(
            by, "accesstoken.revoked", token, tenant=token.tenant, prefix=token.prefix, of=token.whose,
            calls_ended=ended,
        )  # fmt: skip
    return ended
