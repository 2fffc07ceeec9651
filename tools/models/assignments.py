"""Who calls: assignments, and the tokens with which they and members authenticate."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import quotas
from connections.errors import DuvoError
from connections.models import ACTING, Membership, Role, Tenant, User
from tools.models.catalog import Tool, ToolQuerySet

_RANDOM_BYTES = 32
_PREFIX_LENGTH = 12
_REVISION_LENGTH = 32  # hex digits
MOST_OF_A_PERSON = 50  # live tokens in one organization: the quota of the organization is everybody's


class AlreadyIssued(DuvoError):
    """This token was made before, and was shown then."""

    code = "already_issued"

    def __init__(self, token_id: UUID) -> None:
        """Take the id of the row that there is."""
        super().__init__()
        self.token_id = token_id


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
        """Return the tools it was given, whatever their availability; `.usable()` narrows them to what works now."""
        tools = Tool.objects.filter(connection__tenant=self.tenant_id)
        return tools if self.scope == self.Scope.ALL else tools.filter(assignments=self)

    @property
    def revision(self) -> str:
        """A digest of its settings: another one when anybody has changed it, its owner or its tools."""
        chosen = sorted(map(str, self.tools.order_by().values_list("pk", flat=True)))
        settings = [self.name, self.instructions, self.owner_id, self.enabled, self.scope, self.max_rate, *chosen]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:_REVISION_LENGTH]


class Consent(models.Model):
    """The owner of an assignment lets another admin edit it and issue tokens for it that act as the owner.

    Both are memberships: who leaves the organization takes their consents along, and does not find them on return.
    """

    assignment = models.ForeignKey(Assignment, on_delete=models.CASCADE, related_name="consents")
    owner = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="+")
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["given_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["assignment", "owner", "person"], name="an_owner_consents_once_to_a_person"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person.user.get_username()} for {self.assignment}"


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    """Sets of tokens."""

    def live(self, now: datetime) -> AccessTokenQuerySet:
        """Return the tokens that are valid at this moment."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True).exclude(
            Q(assignment__enabled=False)
            | Q(membership__user__is_active=False)
            | Q(membership__user__password_changed_at__gt=F("created_at"))
        )

    def acting(self) -> AccessTokenQuerySet:
        """Return the tokens that act through the personal sign-ins of their assignment's owner.

        Issued by the owner, or by an admin to whom the owner had consented then and consents now; and the owner
        has belonged to the organization ever since, in a role that acts.
        """
        consented = Consent.objects.filter(
            assignment=OuterRef("assignment"), owner=OuterRef("acts_as"), given_at__lte=OuterRef("created_at"),
            person__user=OuterRef("created_by"), person__user__is_active=True, person__role=Role.ADMIN,
        )  # fmt: skip
        owners = self.filter(
            acts_as__user=F("assignment__owner"), acts_as__tenant=F("assignment__tenant"),
            acts_as__role__in=ACTING, acts_as__user__is_active=True,
        )  # fmt: skip
        return owners.filter(Q(created_by=F("assignment__owner")) | Exists(consented))

    def cap_lifetimes(self, tenant: Tenant) -> int:
        """Shorten the tokens of an organization to the longest lifetime that it allows; return how many were longer."""
        shortened = 0
        longest = timedelta(days=tenant.max_token_days)
        mine = self.filter(Q(assignment__tenant=tenant) | Q(membership__tenant=tenant), revoked_at=None)
        for token in mine.only("created_at", "expires_at"):
            if token.expires_at is None or token.expires_at > token.created_at + longest:
                shortened += self.filter(pk=token.pk).update(expires_at=token.created_at + longest)
        return shortened

    def of(self, tenant_id: UUID) -> AccessTokenQuerySet:
        """Return the tokens of an organization: of its assignments and of its people."""
        return self.filter(Q(assignment__tenant=tenant_id) | Q(membership__tenant=tenant_id))


class AccessToken(models.Model):
    """A bearer token of an assignment (calls tools) or of a member (scripts the set-up with the member's role).

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
    # As whom it may act through personal sign-ins; who leaves and returns has another membership.
    acts_as = models.ForeignKey(Membership, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    calls_go_on = models.BooleanField(default=False, editable=False)  # its calls go on although it is revoked

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
        pk: UUID | None = None,
    ) -> tuple[AccessToken, str]:
        """Make a token for exactly one of assignment and membership; return the row and the token, shown only now.

        With a `pk` it is made once only: raises AlreadyIssued when there is one with it, whoever asks again.

        It lives no longer than its organization lets tokens live. Issued by the owner of its assignment, or with the
        owner's consent, it acts through the owner's personal sign-ins. Raises QuotaReached when the organization has as
        many tokens as it may, or the person; before that, the oldest revoked and expired ones are deleted.
        """
        owner = assignment or membership
        with transaction.atomic():
            cls._check_new(pk)
            if owner is not None:
                cls._make_room(owner.tenant_id)
                cls._check_new(pk)  # somebody may have been quicker, until the organization was locked
            if membership is not None:
                cls._check_person(membership)
            return cls._issue(pk or uuid7(), assignment, membership, label, expires_at, by)

    @classmethod
    def _check_new(cls, pk: UUID | None) -> None:
        if pk is not None and cls.objects.filter(pk=pk).exists():
            raise AlreadyIssued(pk)

    @classmethod
    def _make_room(cls, tenant_id: UUID) -> None:
        mine = cls.objects.of(tenant_id)
        try:
            quotas.take(quotas.TOKENS, tenant_id, mine)
        except quotas.QuotaReached:
            # Not those of disabled assignments and people: they are valid again when these are enabled.
            dead = mine.filter(Q(revoked_at__isnull=False) | Q(expires_at__lte=timezone.now()))
            # Nor those of open calls: what becomes of a call depends on how its token ended.
            dead = dead.exclude(
                Exists(cls.objects.filter(pk=OuterRef("pk"), calls__finished_at=None, calls__isnull=False))
            )
            oldest = list(dead.order_by("created_at").values_list("pk", flat=True)[:100])
            if not oldest:
                raise
            mine.filter(pk__in=oldest).delete()
            quotas.take(quotas.TOKENS, tenant_id, mine)

    @classmethod
    def _check_person(cls, membership: Membership) -> None:
        """Raise QuotaReached for a person who has so many live tokens that nobody else would get one."""
        if cls.objects.live(timezone.now()).filter(membership=membership).count() >= MOST_OF_A_PERSON:
            raise quotas.QuotaReached(
                f"A person has at most {MOST_OF_A_PERSON} API tokens in an organization. Revoke one that is not needed."
            )

    @classmethod
    def _issue(
        cls,
        pk: UUID,
        assignment: Assignment | None,
        membership: Membership | None,
        label: str,
        expires_at: datetime | None,
        by: User | None,
    ) -> tuple[AccessToken, str]:
        token, issued_at = f"duvo_{secrets.token_urlsafe(_RANDOM_BYTES)}", timezone.now()
        whose = assignment or membership
        if whose is not None:
            latest = issued_at + timedelta(days=whose.tenant.max_token_days)
            expires_at = min(expires_at or latest, latest)
        row = cls.objects.create(
            pk=pk,
            assignment=assignment,
            membership=membership,
            label=label,
            prefix=token[:_PREFIX_LENGTH],
            digest=digest_of(token),
            expires_at=expires_at,
            created_by=by,
            created_at=issued_at,
            acts_as=_acts_as(assignment, by) if assignment is not None and by is not None else None,
        )
        return row, token

    @property
    def tenant(self) -> Tenant:
        """The organization of its assignment or member."""
        owner = self.assignment or self.membership
        assert owner is not None  # noqa: S101 - the database keeps this promise
        return owner.tenant

    @property
    def whose(self) -> str:
        """The name of the assignment or person that authenticates with it."""
        return self.membership.user.get_username() if self.membership else str(self.assignment)

    def state(self, now: datetime) -> str:
        """Return whether it is valid, and if not, since when or why, for people to read."""
        if self.revoked_at is not None:
            return f"Revoked {timezone.localdate(self.revoked_at)}"
        if self.expires_at is not None and self.expires_at <= now:
            return f"Expired {timezone.localdate(self.expires_at)}"
        if self.assignment is not None:
            return "Live" if self.assignment.enabled else "Closed: its assignment is disabled"
        person = self.membership.user if self.membership else None
        if person is not None and not person.is_active:
            return "Closed: the person is deactivated"
        changed = person.password_changed_at if person else None
        if changed is not None and changed > self.created_at:
            return f"Ended {timezone.localdate(changed)}: the password was changed"
        return "Live"

    def revoke(self, *, calls_go_on: bool = False) -> None:
        """Revoke this token; it opens no call from now on, and reads nothing after a second, in any process.

        Calls that it started are ended, unless `calls_go_on`; one that awaits approval is ended in any case.
        """
        self.revoked_at, self.calls_go_on = self.revoked_at or timezone.now(), calls_go_on
        self.save(update_fields=["revoked_at", "calls_go_on"])


def _acts_as(assignment: Assignment, by: User) -> Membership | None:
    """Return the owner's membership if this person is the owner, or has the owner's consent."""
    owner = Membership.objects.filter(user=assignment.owner_id, tenant=assignment.tenant_id, role__in=ACTING).first()
    if owner is None or by.pk == assignment.owner_id:
        return owner
    consents = Consent.objects.filter(assignment=assignment, owner=owner, person__user=by, person__role=Role.ADMIN)
    return owner if consents.exists() else None


def digest_of(token: str) -> str:
    """Return the hex SHA-256 of a token, which is all that the database stores of it."""
    return hashlib.sha256(token.encode()).hexdigest()
