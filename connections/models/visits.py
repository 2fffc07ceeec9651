"""In which organizations staff of the platform act at this moment."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import Tenant, User


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
