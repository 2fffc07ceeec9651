"""Where people are signed in: one row for each browser, beside the session itself."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models.people import User


class BrowserSession(models.Model):
    """A browser in which a person is signed in, as they see it in their account; nothing in it opens anything."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=40, unique=True)  # of the session's row: a keyed digest of the cookie
    # Without a constraint: a session may outlive the person for a moment.
    user = models.ForeignKey(User, on_delete=models.CASCADE, db_constraint=False, related_name="browsers")
    name = models.CharField(max_length=80, blank=True)
    address = models.CharField(max_length=45, blank=True)
    began_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.name or 'A browser'} of {self.user_id}"
