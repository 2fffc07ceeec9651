"""Who has taken, or was given, one thing of the inbox."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import Membership, Tenant


class Handling(models.Model):
    """One admin of the organization has this thing of the inbox; it is forgotten once the thing is done.

    The things are of apps that may not be imported here: `key` is what `tools.inbox` calls them.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="handlings")
    member = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="handlings")
    key = models.CharField(max_length=400)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], name="one_person_has_a_thing_of_the_inbox"),
        ]

    def __str__(self) -> str:
        return self.key
