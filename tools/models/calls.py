"""One request to run one tool: a durable row from before the first byte leaves until its outcome is known."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Connection, Tenant
from tools.models.assignments import Assignment
from tools.models.catalogue import Tool


class CallState(models.TextChoices):
    """Where a call is in its life."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    TIMED_OUT = "timed_out", "Timed out"
    OUTCOME_UNKNOWN = "outcome_unknown", "Outcome unknown"


OPEN_STATES = [CallState.QUEUED, CallState.RUNNING]
FINAL_STATES = [state for state in CallState if state not in OPEN_STATES]


class Call(models.Model):
    """One request to run one tool; arguments and result are sealed, the row outlives tool and assignment."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="calls")
    assignment = models.ForeignKey(Assignment, null=True, on_delete=models.SET_NULL, related_name="calls")
    connection = models.ForeignKey(Connection, null=True, on_delete=models.SET_NULL, related_name="calls")
    tool = models.ForeignKey(Tool, null=True, on_delete=models.SET_NULL, related_name="calls")
    tool_name = models.CharField(max_length=64)
    state = models.CharField(max_length=20, choices=CallState, default=CallState.QUEUED)
    sealed_arguments = models.TextField()
    sealed_result = models.TextField(blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_sentence = models.CharField(max_length=300, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)

    sealed_fields = ("sealed_arguments", "sealed_result")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="call_by_tenant"),
            models.Index(fields=["lease_until"], name="call_open", condition=Q(finished_at__isnull=True)),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=CallState.values), name="a_call_has_a_known_state"),
            models.CheckConstraint(
                condition=Q(state__in=OPEN_STATES, finished_at__isnull=True)
                | Q(state__in=FINAL_STATES, finished_at__isnull=False),
                name="a_finished_call_has_an_end_and_an_open_one_none",
            ),
            models.CheckConstraint(
                condition=~Q(state="succeeded") | (Q(error_code="") & ~Q(sealed_result="")),
                name="a_succeeded_call_has_a_result_and_no_error",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["failed", "timed_out", "outcome_unknown"]) | ~Q(error_code=""),
                name="an_unsuccessful_call_has_an_error",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tool_name} {self.id}"

    @property
    def finished(self) -> bool:
        """Whether the outcome is known, or known to be unknown."""
        return self.state in FINAL_STATES

    @property
    def seal_context(self) -> str:
        """What the seals are bound to."""
        return seal_context(self.tenant_id, self.id)

    def arguments(self) -> dict[str, Any]:
        """Return the opened arguments; raises SealBroken."""
        opened: dict[str, Any] = sealing.unseal(self.sealed_arguments, context=self.seal_context)
        return opened

    def result(self) -> dict[str, Any] | None:
        """Return the opened result (content, structured_content, is_error) or None; raises SealBroken."""
        if not self.sealed_result:
            return None
        opened: dict[str, Any] = sealing.unseal(self.sealed_result, context=self.seal_context)
        return opened


def seal_context(tenant_id: object, call_id: object) -> str:
    """What the seals of a call are bound to."""
    return f"{tenant_id}/call/{call_id}"
