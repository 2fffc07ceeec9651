"""Who did what, when."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import Tenant


class AuditEvent(models.Model):
    """Who did what to which object; append-only (a database trigger forbids UPDATE and DELETE), never a secret."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No database constraints on who and whose: the event outlives the tenant and the person it speaks of.
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="audit_events",
    )
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=40)
    object_label = models.CharField(max_length=200)
    outcome = models.CharField(max_length=60, default="ok")
    request_id = models.CharField(max_length=64, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-at"], name="event_of_tenant"),
            models.Index(fields=["object_id", "-at"], name="event_of_object"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object_label}"


class AuditFeed(models.Model):
    """That an organization has its audit trail sent to its webhook: since when, and how far it has come."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="audit_feeds")
    since = models.DateTimeField(default=timezone.now, db_default=Now())  # what happened before is not sent
    told_until = models.DateTimeField()  # the newest event that is in a message

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant"], name="an_organization_has_one_audit_feed")]

    def __str__(self) -> str:
        return f"Audit feed of {self.tenant}"
