"""What people are told: notices about one sign-in each, and bulletins about whatever else needs somebody."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models.connection import Connection
from connections.models.people import Tenant, User


class Kind(models.TextChoices):
    """What can be told about; a person, and an organization for its webhook, may leave out some."""

    SIGN_IN = "connection.sign_in", "Sign-ins that will end or have ended"
    AWAITING_APPROVAL = "call.awaiting_approval", "Calls that wait for an approval"
    INPUT_REQUIRED = "call.input_required", "Calls that wait for an answer"
    LOGIN_REQUIRED = "call.login_required", "Calls that wait until their owner has connected"
    TOOLS_TO_REVIEW = "tools.to_review", "Tools that wait for a review"
    UNREACHABLE = "connection.unreachable", "Connections that cannot be reached"
    RECOVERED = "connection.recovered", "Connections that can be reached again"
    AUDIT = "audit.events", "The audit trail"


class Channel(models.Model):
    """The channel of a chat that an organization is told in, through an incoming webhook as Slack has them."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="channels")
    sealed_url = models.TextField()  # who knows it can write into the channel
    untold = models.JSONField(default=list)  # kinds that the channel is not told about

    sealed_fields = ("sealed_url",)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="an_organization_has_one_channel")]

    def __str__(self) -> str:
        return f"Channel of {self.tenant}"

    @property
    def seal_context(self) -> str:
        """What the seal is bound to."""
        return f"{self.tenant_id}/channel"

    def set_url(self, url: str) -> None:
        """Seal the address, to be saved."""
        self.sealed_url = sealing.seal(url, context=self.seal_context)

    def url(self) -> str:
        """Return the address; raises SealBroken."""
        return str(sealing.unseal(self.sealed_url, context=self.seal_context))


OF_CALLS = (Kind.AWAITING_APPROVAL, Kind.INPUT_REQUIRED)
FOR_PEOPLE = tuple(kind for kind in Kind if kind != Kind.AUDIT)  # which people, a channel or a webhook may leave out


class Delivery(models.Model):
    """How far a message has come: who was mailed, whether webhook and channel took it, and when it is tried next."""

    deliver_at = models.DateTimeField(null=True)  # when it is to be sent; None when nothing is left to send
    attempts = models.PositiveSmallIntegerField(default=0)
    emailed_to = models.JSONField(default=list)  # keys of users
    emailed_at = models.DateTimeField("mailed", null=True)
    delivered_at = models.DateTimeField("webhook taken", null=True)
    posted_at = models.DateTimeField("channel told", null=True)
    trouble = models.CharField(max_length=300, blank=True)  # why the last try failed

    class Meta:
        abstract = True

    def claim(self, now: datetime, until: datetime) -> bool:
        """Take the lease to send it `until` then; False if it is taken, or nothing is to be sent."""
        mine = self._rows().due(now).filter(pk=self.pk)
        if not mine.order_by().update(deliver_at=until, attempts=F("attempts") + 1):
            return False
        self.attempts += 1
        return True

    def mark_emailed(self, person: User) -> None:
        """Record that this person needs no more mail about it."""
        self.emailed_to = [*self.emailed_to, person.pk]
        self.save(update_fields=["emailed_to"])

    def take_over(self, other: Delivery) -> None:
        """Remember who was told about this one, too, in the message about another."""
        self.emailed_to, self.emailed_at, self.posted_at = other.emailed_to, other.emailed_at, other.posted_at

    def record_try(self, trouble: str, again_at: datetime | None) -> None:
        """Record how the try went, and when the next one is unless it came to be over meanwhile."""
        self.trouble = trouble[:300]
        self.save(update_fields=["trouble", "emailed_to", "emailed_at", "delivered_at", "posted_at"])
        self._rows().filter(pk=self.pk, deliver_at__isnull=False).update(deliver_at=again_at)

    def send_again(self, now: datetime) -> bool:
        """Let what has failed be tried again, from now on; False if nothing has, or it is no longer so.

        Whoever has got the message does not get it twice.
        """
        failed = self._rows().exclude(trouble="").filter(pk=self.pk)
        return bool(failed.still_so().order_by().update(deliver_at=now, attempts=0, trouble=""))

    @classmethod
    def _rows(cls) -> Any:
        return cls._default_manager


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Sets of notices."""

    def open(self) -> NoticeQuerySet:
        """Return those that are still true."""
        return self.filter(resolved_at=None)

    def still_so(self) -> NoticeQuerySet:
        """Return those that are still true, as messages about more than one thing call it."""
        return self.open()

    def due(self, now: datetime) -> NoticeQuerySet:
        """Return those that are to be sent, the longest waiting first."""
        in_use = Q(connection__enabled=True, connection__tenant__suspended_at=None)  # the others wait
        return self.open().filter(in_use, deliver_at__lte=now).order_by("deliver_at")

    def resolve(self, now: datetime) -> int:
        """Resolve those that are open: they are no longer true, and those not sent yet are never sent."""
        return self.open().update(resolved_at=now, deliver_at=None)


class Notice(Delivery):
    """A notice about a sign-in that will end or has ended; open until the sign-in works again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="notices")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # of a personal sign-in
    reason = models.CharField(max_length=60)
    sentence = models.CharField(max_length=300)
    until = models.DateTimeField("ends", null=True)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["deliver_at"], condition=Q(resolved_at=None), name="notice_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "reason"],
                condition=Q(resolved_at=None, owner=None),
                name="an_organization_is_told_the_same_thing_once",
            ),
            models.UniqueConstraint(
                fields=["connection", "owner", "reason"],
                condition=Q(resolved_at=None, owner__isnull=False),
                name="a_member_is_told_the_same_thing_once",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(deliver_at=None), name="a_resolved_notice_is_not_sent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} of {self.connection}"


class BulletinQuerySet(models.QuerySet["Bulletin"]):
    """Sets of bulletins."""

    def still_so(self) -> BulletinQuerySet:
        """Return those that tell of something that is still so; what has happened stays so."""
        open_ones = Matter.objects.open().exclude(bulletin=None).values("bulletin")
        return self.filter(Q(pk__in=open_ones) | Q(kind=Kind.AUDIT))

    def due(self, now: datetime) -> BulletinQuerySet:
        """Return those that are to be sent, the longest waiting first."""
        return self.filter(tenant__suspended_at=None, deliver_at__lte=now).order_by("deliver_at")


class Bulletin(Delivery):
    """One message about all matters of one kind that had come up by then, or about the next audit events.

    It is for an organization, or for one of its people.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="bulletins")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # who alone is mailed
    kind = models.CharField(max_length=30, choices=Kind)
    created_at = models.DateTimeField(default=timezone.now)
    events = models.JSONField(default=list, db_default=[])  # ids of the audit events that it tells of, in order

    objects = BulletinQuerySet.as_manager()

    class Meta:
        verbose_name = "message"
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["deliver_at"], condition=Q(deliver_at__isnull=False), name="bulletin_due"),
            models.Index(fields=["tenant", "kind", "-created_at"], name="bulletin_last"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.tenant})"


class MatterQuerySet(models.QuerySet["Matter"]):
    """Sets of matters."""

    def open(self) -> MatterQuerySet:
        """Return those that are still so."""
        return self.filter(resolved_at=None)

    def untold(self) -> MatterQuerySet:
        """Return those that are still so and in no bulletin yet, of connections that anybody is told about."""
        return self.open().filter(bulletin=None, connection__enabled=True, connection__tenant__suspended_at=None)

    def resolve(self, now: datetime) -> int:
        """Resolve those that are open: they are done, and no bulletin names them any more."""
        return self.open().update(resolved_at=now)


class Matter(models.Model):
    """One thing that people are told about in a bulletin; open until it is done. Only names, nothing that was said.

    All calls that wait until one person has connected are one thing, named by the first of them.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="matters")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # who is to connect
    kind = models.CharField(max_length=30, choices=Kind)
    call_id = models.UUIDField(null=True)  # calls belong to the app `tools`, which may not be imported here
    name = models.CharField(max_length=64, blank=True)  # of the call's tool
    caller = models.CharField(max_length=100, blank=True)  # the name of the call's assignment
    server = models.CharField(max_length=300, blank=True)  # scheme, host and port of what is not reached
    until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True)
    bulletin = models.ForeignKey(Bulletin, null=True, on_delete=models.SET_NULL, related_name="matters")

    objects = MatterQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["kind"], condition=Q(resolved_at=None), name="matter_open")]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "kind"],
                condition=Q(resolved_at=None, call_id=None),
                name="a_matter_of_a_connection_is_open_once",
            ),
            models.UniqueConstraint(
                fields=["call_id", "kind"],
                condition=Q(resolved_at=None, call_id__isnull=False),
                name="a_matter_of_a_call_is_open_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.connection}"
