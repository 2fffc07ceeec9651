"""Notices to the owner of an assignment about what others did with it."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models import User
from tools.models.assignments import Assignment


class OwnerNoticeQuerySet(models.QuerySet["OwnerNotice"]):
    """Sets of notices."""

    def due(self, now: datetime) -> OwnerNoticeQuerySet:
        """Return those that are to be mailed, the longest waiting first."""
        return self.filter(mail_at__lte=now).order_by("mail_at")

    def mark_seen(self) -> int:
        """Remember that the owner has seen them."""
        return self.update(seen_at=timezone.now())


class OwnerNotice(models.Model):
    """Somebody with the owner's consent edited an assignment or issued a token for it; shown until it was seen."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    assignment = models.ForeignKey(Assignment, on_delete=models.CASCADE, related_name="owner_notices")
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    sentence = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(null=True)
    mail_at = models.DateTimeField(null=True)  # when to mail it, the first time or again; None when that is done
    attempts = models.PositiveSmallIntegerField(default=0)

    objects = OwnerNoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["mail_at"], condition=Q(mail_at__isnull=False), name="owner_notice_due")]

    def __str__(self) -> str:
        return self.sentence

    def claim(self, now: datetime, again_at: datetime | None) -> bool:
        """Claim the notice to mail it; False if another worker has. It is due again at `again_at`, or never (None)."""
        mine = OwnerNotice.objects.due(now).filter(pk=self.pk)
        return bool(mine.order_by().update(mail_at=again_at, attempts=F("attempts") + 1))

    def mark_mailed(self) -> None:
        """Record that it was mailed, or cannot be."""
        OwnerNotice.objects.filter(pk=self.pk).update(mail_at=None)
