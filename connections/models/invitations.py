"""Invitations: how somebody comes into an organization, and how the first person comes into an installation."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import Role, Tenant, User

KEPT_FOR = timedelta(days=90)  # after it was taken, so that its link can say so


def digest_of(key: str) -> str:
    """Return the hex SHA-256 of a link's key, which is all that the database stores of it."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Sets of invitations."""

    def pending(self) -> InvitationQuerySet:
        """Return those that nobody has taken yet, also when their link has expired."""
        return self.filter(accepted_at=None)

    def forget_old(self, now: datetime) -> None:
        """Delete those that were taken, or whose link expired, long ago."""
        long_ago = now - KEPT_FOR
        self.filter(Q(accepted_at__lt=long_ago) | Q(accepted_at=None, expires_at__lt=long_ago)).delete()


class Invitation(models.Model):
    """An invitation of one e-mail address into an organization, with a link that works once.

    The one that starts an installation names neither: whoever opens it says who they are, and founds an organization.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField("e-mail", blank=True)
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    for_staff = models.BooleanField(default=False, editable=False)  # whoever takes it becomes a superuser, too
    digest = models.CharField(max_length=64, unique=True, editable=False)  # of the key in the link
    days = models.PositiveSmallIntegerField("days that its link works", default=7)
    invited_by = models.ForeignKey(User, null=True, editable=False, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField("invited", default=timezone.now, editable=False)
    mailed_at = models.DateTimeField("mailed", null=True, editable=False)  # the link that works now
    expires_at = models.DateTimeField("link works until", editable=False)
    accepted_at = models.DateTimeField("taken", null=True, editable=False)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"], condition=Q(accepted_at=None), name="an_address_is_invited_once_at_a_time"
            ),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="an_invitation_has_a_known_role"),
            models.CheckConstraint(
                condition=Q(tenant__isnull=False) & ~Q(email="") | Q(for_staff=True),
                name="an_invitation_says_whom_and_where_to",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email or 'the first person'} ({self.get_role_display()})"

    def new_key(self, now: datetime) -> str:
        """Return the key of a new link, without saving the row; every earlier link of it opens nothing then."""
        key = secrets.token_urlsafe(32)
        self.digest, self.mailed_at, self.expires_at = digest_of(key), None, now + timedelta(days=self.days)
        return key

    def has_expired(self, now: datetime) -> bool:
        """Whether its link works no longer."""
        return self.expires_at <= now

    def is_for(self, user: User) -> bool:
        """Whether it was meant for this person: by their e-mail address, or by the name that they sign in with."""
        return self.email.casefold() in {user.email.casefold(), user.username.casefold()}
