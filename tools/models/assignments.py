"""Who calls: assignments, and the tokens by which they and members are known to the API."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models import Membership, Tenant, User
from tools.models.catalogue import Tool, ToolQuerySet

_RANDOM_BYTES = 32
_PREFIX_LENGTH = 12


class Assignment(models.Model):
    """A job done by an agent: a caller that has tokens and the tools it may use."""

    class Scope(models.TextChoices):
        """Which of the organization's tools it may use."""

        ALL = "all", "Every approved tool of the organization"
        CHOSEN = "chosen", "Only the tools chosen below"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="assignments", verbose_name="organization"
    )
    name = models.CharField(max_length=80)
    instructions = models.TextField(blank=True)
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    enabled = models.BooleanField(default=True)
    scope = models.CharField("may use", max_length=10, choices=Scope.choices, default=Scope.ALL)
    tools = models.ManyToManyField(Tool, blank=True, related_name="assignments", verbose_name="chosen tools")
    max_rate = models.PositiveIntegerField("calls per minute", null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="an_assignment_name_is_unique_in_its_tenant"),
        ]

    def __str__(self) -> str:
        return self.name

    def granted_tools(self) -> ToolQuerySet:
        """Return the tools it was given, whatever their standing; `.usable()` narrows them to what works now."""
        tools = Tool.objects.filter(connection__tenant=self.tenant_id)
        return tools if self.scope == self.Scope.ALL else tools.filter(assignments=self)


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    """Sets of tokens."""

    def live(self, now: datetime) -> AccessTokenQuerySet:
        """Return the tokens that open the door at this moment."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True).exclude(
            Q(assignment__enabled=False) | Q(membership__user__is_active=False)
        )


class AccessToken(models.Model):
    """A key to the API, of an assignment (calls tools) or of a member (scripts the set-up with the member's role).

    The token is `duvo_` and 256 random bits; only its SHA-256 is stored, and it is shown once.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    assignment = models.ForeignKey(
        Assignment, null=True, blank=True, on_delete=models.CASCADE, related_name="access_tokens"
    )
    membership = models.ForeignKey(
        Membership, null=True, blank=True, on_delete=models.CASCADE, related_name="access_tokens"
    )
    label = models.CharField(max_length=80, blank=True)
    prefix = models.CharField(max_length=_PREFIX_LENGTH, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    objects = AccessTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(assignment__isnull=True) ^ Q(membership__isnull=True),
                name="a_token_belongs_to_an_assignment_or_to_a_member",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @classmethod
    def issue(
        cls,
        *,
        assignment: Assignment | None = None,
        membership: Membership | None = None,
        label: str = "",
        expires_at: datetime | None = None,
        by: User | None = None,
    ) -> tuple[AccessToken, str]:
        """Make a token for exactly one of assignment and membership; return the row and the token, shown only now."""
        token = f"duvo_{secrets.token_urlsafe(_RANDOM_BYTES)}"
        row = cls.objects.create(
            assignment=assignment,
            membership=membership,
            label=label,
            prefix=token[:_PREFIX_LENGTH],
            digest=digest_of(token),
            expires_at=expires_at,
            created_by=by,
        )
        return row, token

    def revoke(self) -> None:
        """Close the door for this token; every process stops taking it within a second."""
        self.revoked_at = self.revoked_at or timezone.now()
        self.save(update_fields=["revoked_at"])


def digest_of(token: str) -> str:
    """Return the hex SHA-256 of a token: what the database knows of it."""
    return hashlib.sha256(token.encode()).hexdigest()
