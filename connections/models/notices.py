"""Notices to people about what needs them."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.connection import Connection
from connections.models.people import User


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Sets of notices."""

    def open(self) -> NoticeQuerySet:
        """Return those that are still true."""
        return self.filter(resolved_at=None)

    def due(self, now: datetime) -> NoticeQuerySet:
        """Return those that are to be sent, the longest waiting first."""
        in_use = Q(connection__enabled=True, connection__tenant__suspended_at=None)  # the others wait
        return self.open().filter(in_use, deliver_at__lte=now).order_by("deliver_at")

    def resolve(self, now: datetime) -> int:
        """Resolve those that are open: they are no longer true, and those not sent yet are never sent."""
        return self.open().update(resolved_at=now, deliver_at=None)


class Notice(models.Model):
    """A notice about a sign-in that will end or has ended; open until the sign-in works again."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="notices")
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # of a personal sign-in
    reason = models.CharField(max_length=60)
    sentence = models.CharField(max_length=300)
    until = models.DateTimeField("ends", null=True)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True)
    deliver_at = models.DateTimeField(null=True)  # when it is to be sent; None when nothing is left to send
    attempts = models.PositiveSmallIntegerField(default=0)
    emailed_to = models.JSONField(default=list)  # keys of users
    emailed_at = models.DateTimeField("mailed", null=True)
    delivered_at = models.DateTimeField("webhook taken", null=True)
    trouble = models.CharField(max_length=300, blank=True)  # why the last try failed

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

    def claim(self, now: datetime, until: datetime) -> bool:
        """Take the lease to send it `until` then; False if it is taken, or nothing is to be sent."""
        mine = Notice.objects.due(now).filter(pk=self.pk)
        if not mine.order_by().update(deliver_at=until, attempts=F("attempts") + 1):
            return False
        self.attempts += 1
        return True

    def mark_emailed(self, person: User) -> None:
        """Record that this person needs no more mail about it."""
        self.emailed_to = [*self.emailed_to, person.pk]
        self.save(update_fields=["emailed_to"])

    def record_try(self, trouble: str, again_at: datetime | None) -> None:
        """Record how the try went, and when the next one is unless the notice was resolved meanwhile."""
        self.trouble = trouble[:300]
        self.save(update_fields=["trouble", "emailed_at", "delivered_at"])
        Notice.objects.open().filter(pk=self.pk).update(deliver_at=again_at)
