"""When each kind of background process last worked."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """When beat, or some worker of a kind, last showed that it works; no organization's, and nothing secret."""

    name = models.CharField(max_length=20, primary_key=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
