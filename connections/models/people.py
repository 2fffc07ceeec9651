"""Organizations and the people in them."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.contrib.sessions.models import Session
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.functional import cached_property
from uuid_utils.compat import uuid7

from connections import egress, moments, names, sealing
from connections.errors import SealBroken


class Belonging(NamedTuple):
    """What a membership means for each page."""

    tenant: UUID
    name: str
    role: str
    suspended_at: datetime | None
    members_own: bool
    requires_second_factor: bool
    requires_company: bool | None  # None without a provider
    time_zone: str


class User(AbstractUser):
    """A person who signs in to the admin; what they see follows from their memberships."""

    acting_in: UUID | None = None  # the one of several tenants that was chosen in this browser
    _staff_visit: StaffVisit | None = None

    is_reviewer = models.BooleanField(
        "staff reviewer",
        default=False,
        help_text="May see the connections of all organizations with their status, read-only.",
    )
    password_changed_at = models.DateTimeField(null=True, editable=False)  # older API tokens are not valid
    sessions_ended = models.PositiveIntegerField(default=0, db_default=0, editable=False)  # how often all at once
    # Not so of an account made by a link that an admin handed over: anybody may have opened it.
    address_proved = models.BooleanField(default=True, db_default=True, editable=False)

    @property
    def sees_every_organization(self) -> bool:
        """Whether the person sees the rows of every organization, so that slugs are shown to tell those apart."""
        return self.is_superuser or self.is_reviewer

    @property
    def staff_visit(self) -> StaffVisit | None:
        """In which organization a superuser acts in this browser, and why (`connections.visits`)."""
        return self._staff_visit

    @staff_visit.setter
    def staff_visit(self, visit: StaffVisit | None) -> None:
        self._staff_visit = visit
        vars(self).pop("roles", None)

    def read_again(self) -> User:
        """Return the person as they are stored now, with the visit of this browser if it still lasts."""
        again = User.objects.get(pk=self.pk)
        if self.staff_visit is not None and again.is_superuser:
            lasts = StaffVisit.objects.filter(pk=self.staff_visit.pk, ends_at__gt=timezone.now())
            again.staff_visit = lasts.select_related("tenant").first()
        return again

    @cached_property
    def roles(self) -> dict[UUID, str]:
        """The user's role in each tenant in which they act; read once: a user lives for one request.

        While staff act in an organization, they are its admin, and nothing else anywhere; of a suspended one its
        auditor, as its own admins are.
        """
        if self.staff_visit is None:
            return self.own_roles
        role = Role.ADMIN if self.staff_visit.tenant.suspended_at is None else Role.AUDITOR
        return {self.staff_visit.tenant_id: role.value}

    @property
    def own_roles(self) -> dict[UUID, str]:
        """The user's role in each of their tenants, or in the chosen one: a member has things of their own there.

        An admin of a suspended tenant sees everything and changes nothing, as an auditor does.
        """
        return {
            one.tenant: Role.AUDITOR.value if one.suspended_at is not None and one.role == Role.ADMIN else one.role
            for one in self.belongs_to
            if self.acting_in in (None, one.tenant)
        }

    @cached_property
    def belongs_to(self) -> list[Belonging]:
        """Every tenant of the user, by name."""
        columns = (
            "tenant", "tenant__name", "role", "tenant__suspended_at", "tenant__members_own",
            "tenant__require_second_factor", "tenant__company__required", "tenant__time_zone",
        )  # fmt: skip
        return [Belonging(*row) for row in self.memberships.order_by("tenant__name", "tenant").values_list(*columns)]

    @property
    def time_zone(self) -> str:
        """The zone in which pages show them times: that of their organizations, UTC where these have several."""
        if self.staff_visit is not None:
            return self.staff_visit.tenant.time_zone
        zones = {one.time_zone for one in self.belongs_to if one.tenant in self.roles}
        return zones.pop() if len(zones) == 1 else "UTC"

    @property
    def suspended_in(self) -> list[UUID]:
        """Those of the user's tenants that are suspended."""
        return [one.tenant for one in self.belongs_to if one.suspended_at is not None]

    def act_in(self, chosen: str | None) -> None:
        """Narrow what the user sees and does to one of several tenants, as it was chosen in this browser."""
        self.acting_in = next((one.tenant for one in self.belongs_to if str(one.tenant) == chosen), None)
        vars(self).pop("roles", None)

    def is_staff_in(self, tenant_id: UUID) -> bool:
        """Whether what they do there is done by the staff of the platform, and not by a member."""
        visits = self.staff_visit is not None and self.staff_visit.tenant_id == tenant_id
        return visits or (self.is_superuser and not self.memberships.filter(tenant=tenant_id).exists())

    @property
    def owns_in(self) -> list[UUID]:
        """Those of the user's tenants in which they may have assignments of their own although they are no admin."""
        mine = (one for one in self.belongs_to if one.members_own and one.suspended_at is None)
        return [one.tenant for one in mine if self.own_roles.get(one.tenant) == Role.MEMBER]

    def prove_address(self) -> bool:
        """Note that the person was reached by mail; return whether nobody knew so far whose the address is.

        The mail shows nothing of an address to sign in with that is another one.
        """
        if self.address_proved or self.email.casefold() != self.username.casefold():
            return False
        self.address_proved = True
        self.save(update_fields=["address_proved"])
        return True

    def end_sessions(self) -> None:
        """Sign the person out of every browser at once."""
        self.end_browsers()
        User.objects.filter(pk=self.pk).update(sessions_ended=F("sessions_ended") + 1)

    def end_browsers(self, *, but: Iterable[str] = ()) -> int:
        """Sign the person out of the browsers that are known, without those with these keys; return how many."""
        keys = list(self.browsers.exclude(key__in=but).values_list("key", flat=True))
        Session.objects.filter(session_key__in=keys).delete()
        return int(self.browsers.filter(key__in=keys).delete()[0])

    @property
    def needs_second_factor(self) -> bool:
        """Whether an organization of theirs lets nobody in without a second factor."""
        return any(one.requires_second_factor for one in self.belongs_to)

    @property
    def requires_company(self) -> list[UUID]:
        """Those of the user's tenants that let people in through their own provider only."""
        return [one.tenant for one in self.belongs_to if one.requires_company]

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Return what a session has to know to go on: it follows from the password, and from how often all ended."""
        own: str = super()._get_session_auth_hash(secret)  # type: ignore[misc] # Django's own, unknown to its stubs
        return f"{own}.{self.sessions_ended}" if self.sessions_ended else own

    def set_unusable_password(self) -> None:
        """Remove the password, which counts as a change of it."""
        super().set_unusable_password()
        self.password_changed_at = timezone.now()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; of a person who gets a new password, only that and when it was, unless fields are named.

        Making its hash takes most of a second, in which somebody else may deactivate them: Django's own forms would
        write the whole row back as it was before. A stronger hash of the same password is no change.
        """
        if getattr(self, "_password", None) is not None and not self._state.adding:
            self.password_changed_at = timezone.now()
            if not (args or kwargs):
                kwargs["update_fields"] = ["password"]
        fields = kwargs.get("update_fields")
        if fields is not None and "password" in fields:
            kwargs["update_fields"] = {*fields, "password_changed_at"}
        super().save(*args, **kwargs)


class Tenant(models.Model):
    """An organization; owns everything below it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Names need not be unique: an error would show which are taken. `slug` tells apart those that look alike.
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=names.SLUG_LENGTH, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    time_zone = models.CharField(max_length=64, default="UTC", db_default="UTC")  # its IANA name
    webhook_url = models.CharField("webhook URL", max_length=2048, blank=True)
    sealed_webhook_secret = models.TextField(blank=True, editable=False)
    unposted = models.JSONField(default=list, db_default=[])  # kinds that its webhook is not told about
    max_concurrency = models.PositiveIntegerField("concurrent calls", default=1_000)
    decision_hours = models.PositiveSmallIntegerField("hours to decide or answer", default=24)
    retention_days = models.PositiveSmallIntegerField("days that calls are kept", default=30)
    max_token_days = models.PositiveSmallIntegerField("days that an API token lives", default=365)
    require_second_factor = models.BooleanField(
        "second factor required",
        default=False,
        db_default=False,
        help_text="Members set one up before they see anything else.",
    )
    members_own = models.BooleanField("members may have assignments", default=False, db_default=False)
    suspended_at = models.DateTimeField(null=True, editable=False)  # since then nothing runs for it
    suspended_reason = models.CharField(max_length=300, blank=True, editable=False)
    deletion_begun_at = models.DateTimeField(null=True, editable=False)  # since then a worker deletes what it has
    max_connections = models.PositiveIntegerField("connections", default=200)
    max_assignments = models.PositiveIntegerField("assignments", default=500)
    max_tokens = models.PositiveIntegerField("API tokens", default=1_000)
    max_open_calls = models.PositiveIntegerField("open calls", default=10_000)
    max_sessions = models.PositiveIntegerField("live sessions", default=1_000, db_default=1_000)
    max_stored = models.PositiveIntegerField("MB stored", default=5_000)
    stored_bytes = models.PositiveBigIntegerField(default=0, editable=False)  # as measured within the last hour

    sealed_fields = ("sealed_webhook_secret",)

    class Meta:
        verbose_name = "organization"
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, a new organization under a slug of its own: made from its first name, and kept when it is renamed."""
        if self.slug:
            super().save(*args, **kwargs)
            return
        for number in count(1):
            self.slug = names.slug_of(self.name, number)
            if Tenant.objects.filter(slug=self.slug).exists():
                continue
            try:
                with transaction.atomic():
                    super().save(*args, **kwargs)
            except IntegrityError:
                if not Tenant.objects.filter(slug=self.slug).exists():  # else somebody was quicker with it
                    raise
            else:
                return

    @property
    def zone(self) -> tzinfo:
        """The time zone in which its people are told moments."""
        return moments.zone_of(self.time_zone)

    @property
    def told_apart(self) -> str:
        """Its name with its slug, for those who see every organization."""
        return f"{self.name} ({self.slug})"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to: a secret sealed for one receiver does not open for another."""
        return f"{self.id}/webhook/{egress.origin(self.webhook_url)}"

    def make_webhook_secret(self) -> str:
        """Make, store and return the secret that signs webhooks from now on; it can be shown this once only.

        Returns "" when somebody else has made one, or has changed the receiver, at this moment.
        """
        secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
        before, self.sealed_webhook_secret = (
            self.sealed_webhook_secret, sealing.seal(secret, context=self.seal_context)
        )  # fmt: skip
        same = Tenant.objects.filter(pk=self.pk, sealed_webhook_secret=before, webhook_url=self.webhook_url)
        return secret if same.update(sealed_webhook_secret=self.sealed_webhook_secret) else ""

    def forget_webhook_secret(self) -> None:
        """Delete the secret, as there is nowhere to send webhooks to."""
        self.sealed_webhook_secret = ""
        self.save(update_fields=["sealed_webhook_secret"])

    def suspend(self, reason: str) -> None:
        """Suspend the organization: nothing runs for it, nothing is lost, and its rows wait until it is resumed."""
        self.suspended_at, self.suspended_reason = self.suspended_at or timezone.now(), reason[:300]
        self.save(update_fields=["suspended_at", "suspended_reason"])

    def resume(self) -> timedelta:
        """Resume the organization, and return how long it was suspended."""
        since, self.suspended_at, self.suspended_reason = self.suspended_at, None, ""
        self.save(update_fields=["suspended_at", "suspended_reason"])
        return timezone.now() - since if since else timedelta()

    def begin_deletion(self) -> None:
        """Suspend the organization for good, and leave it to a worker to delete it with all that it has."""
        self.deletion_begun_at = self.deletion_begun_at or timezone.now()
        self.suspended_at, self.suspended_reason = self.suspended_at or self.deletion_begun_at, "It is being deleted."
        self.save(update_fields=["deletion_begun_at", "suspended_at", "suspended_reason"])

    def webhook_secret(self) -> str:
        """Return the secret that signs webhooks; raises SealBroken, also for another receiver's or if there is none."""
        try:
            return str(sealing.unseal(self.sealed_webhook_secret, context=self.seal_context))
        except SealBroken as broken:
            raise SealBroken(
                "The webhook's secret cannot be opened: it was made for another receiver, or its key is gone. "
                "Make a new one."
            ) from broken


class Role(models.TextChoices):
    """What a member may do in a tenant."""

    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"
    AUDITOR = "auditor", "Auditor"


ACTING = (Role.ADMIN, Role.MEMBER)  # the roles with which a person signs in and has assignments act for them


class Membership(models.Model):
    """A user's role in a tenant: admins change, members see, auditors also see calls."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    unmailed = models.JSONField(default=list, db_default=[])  # kinds that this person gets no mail about
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "member"
        ordering = ["tenant", "user"]
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="a_user_has_one_role_in_a_tenant"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="a_membership_has_a_known_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user.get_username()} ({self.get_role_display()})"

    def is_last_admin(self) -> bool:
        """Whether the tenant would have no admin without this member; the answer holds until the transaction ends."""
        if self.pk is None or not Membership.objects.filter(pk=self.pk, role=Role.ADMIN).exists():
            return False
        # The lock makes two admins who remove each other queue; callers are in the admin's transaction.
        Tenant.objects.select_for_update(no_key=True).get(pk=self.tenant_id)
        return not self.tenant.memberships.filter(role=Role.ADMIN, user__is_active=True).exclude(pk=self.pk).exists()


class StaffVisit(models.Model):
    """A superuser acts in an organization, in one browser; the row is there as long as that lasts."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="staff_visits")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="staff_visits")
    reason = models.CharField(max_length=300)
    began_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["ends_at"]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.tenant_id}"
