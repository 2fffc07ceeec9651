"""When the states of a connection moved: what was, what is, why, and how long it had been so."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

MOST_KEPT: Final = 300  # of one connection; a server that comes and goes pushes out its own oldest moves


class StateMoveManager(models.Manager["StateMove"]):
    """The moves of one connection, or of all."""

    def note(self, of: str, was: str, state: str, reason: str, sentence: str, since: datetime) -> StateMove:
        """Add a move of a connection (`connection.state_moves.note`), and forget its oldest beyond those kept."""
        now = timezone.now()
        move = self.create(
            at=now, of=of, was=was, state=state, reason=reason, sentence=sentence, lasted=max(now - since, timedelta())
        )
        self.filter(pk__in=list(self.order_by("-at").values_list("pk", flat=True)[MOST_KEPT : MOST_KEPT + 50])).delete()
        return move


class StateMove(models.Model):
    """One of the three states of a connection became another one; found out by the product, not done by a person."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey("connections.Connection", on_delete=models.CASCADE, related_name="state_moves")
    at = models.DateTimeField()
    of = models.CharField(max_length=12)  # reachability, credential or tools
    was = models.CharField(max_length=21)
    state = models.CharField(max_length=21)
    reason = models.CharField(max_length=60, blank=True)
    sentence = models.CharField(max_length=300, blank=True)
    lasted = models.DurationField()  # how long it was what it was before

    objects: Any = StateMoveManager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["connection", "-at"], name="moves_of_a_connection")]

    def __str__(self) -> str:
        return f"{self.of}: {self.was} to {self.state}"
