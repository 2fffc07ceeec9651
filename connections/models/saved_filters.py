"""Filters of lists that people have given a name."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import Tenant, User


class SavedFilter(models.Model):
    """What one person chose on a list, to find it again there; nobody else sees it.

    The query string is stored as it was sent, and what of it the list takes is looked at each time it is shown.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_filters")
    # The only organization whose rows the list showed; none where it showed several.
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="saved_filters")
    page = models.CharField(max_length=80)  # the list: the label of its model
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1_000)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "tenant", "page", "name"], name="a_saved_filter_has_a_name_of_its_own"
            ),
        ]

    def __str__(self) -> str:
        return self.name
