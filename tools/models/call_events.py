"""What happened to a call, in order: every transition and every step of progress."""

from __future__ import annotations

from typing import Any

from django.db import models

from connections import sealing
from tools.models.call_states import CallState
from tools.models.calls import Call


class CallEvent(models.Model):
    """One transition of a call, or one step of its progress; a trigger on the calls' table writes it, nobody else."""

    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveIntegerField()
    state = models.CharField(max_length=20, choices=CallState)
    code = models.CharField(max_length=60, blank=True)
    sealed_progress = models.TextField(blank=True)
    at = models.DateTimeField()

    sealed_fields = ("sealed_progress",)

    class Meta:
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["call", "seq"], name="a_call_has_one_event_of_each_number")]

    def __str__(self) -> str:
        return f"{self.seq} {self.state}"

    @property
    def seal_context(self) -> str:
        """The context that the seals are bound to: that of its call."""
        return self.call.seal_context

    def progress(self) -> dict[str, Any] | None:
        """Return the step (progress, total, message), or None for a transition; raises SealBroken."""
        if not self.sealed_progress:
            return None
        return dict(sealing.unseal(self.sealed_progress, context=self.seal_context))
