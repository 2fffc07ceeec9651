"""One request to run one tool: a durable row from before the first byte leaves until its outcome is known."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F, Q
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
    CANCELLED = "cancelled", "Cancelled"
    TIMED_OUT = "timed_out", "Timed out"
    OUTCOME_UNKNOWN = "outcome_unknown", "Outcome unknown"


MOST_ATTEMPTS = 3
OPEN_STATES = [CallState.QUEUED, CallState.RUNNING]
FINAL_STATES = [state for state in CallState if state not in OPEN_STATES]


class CallQuerySet(models.QuerySet["Call"]):
    """Sets of calls, and the moves of one call from state to state: each is a conditional update."""

    def unwanted(self) -> CallQuerySet:
        """Return the open calls that somebody wants cancelled."""
        return self.filter(finished_at=None, cancel_asked_at__isnull=False)

    def claim(self, call_id: UUID, now: datetime, lease_until: datetime) -> Call | None:
        """Move a queued call to running and return it; None if it is no longer queued."""
        queued = self.filter(pk=call_id, state=CallState.QUEUED)
        claimed = queued.update(state=CallState.RUNNING, started_at=now, lease_until=lease_until)
        return self.get(pk=call_id) if claimed else None

    def orphans(self, now: datetime) -> CallQuerySet:
        """Return the running calls whose process has not been heard of since their lease ran out."""
        return self.filter(state=CallState.RUNNING, lease_until__lt=now)

    def repeatable(self) -> CallQuerySet:
        """Return those that may be made again: the caller gave a key, the approved tool says it is idempotent."""
        return self.exclude(idempotency_key="").filter(
            tool__approved_definition__annotations__idempotentHint=True, attempts__lt=MOST_ATTEMPTS,
            cancel_asked_at=None,
        )  # fmt: skip

    def queue_again(self, lease_until: datetime) -> int:
        """Move these running calls back to the queue, one attempt further."""
        return self.filter(state=CallState.RUNNING).update(
            state=CallState.QUEUED, attempts=F("attempts") + 1, started_at=None, lease_until=lease_until
        )

    def end(self, state: CallState, code: str, sentence: str, now: datetime) -> int:
        """Move these calls to a final state without a result, unless they have ended; return how many it were."""
        return self.filter(finished_at=None).update(
            state=state, error_code=code, error_sentence=sentence[:300], finished_at=now, lease_until=None
        )


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
    attempts = models.PositiveSmallIntegerField(default=1)
    cancel_asked_at = models.DateTimeField(null=True)
    idempotency_key = models.CharField(max_length=255, blank=True)
    body_digest = models.CharField(max_length=64, blank=True)

    objects = CallQuerySet.as_manager()
    sealed_fields = ("sealed_arguments", "sealed_result")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="call_by_tenant"),
            models.Index(fields=["assignment", "-created_at", "-id"], name="call_by_assignment"),
            models.Index(fields=["lease_until"], name="call_open", condition=Q(finished_at__isnull=True)),
            models.Index(
                fields=["cancel_asked_at"],
                name="call_unwanted",
                condition=Q(finished_at__isnull=True, cancel_asked_at__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["assignment", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="an_assignment_uses_an_idempotency_key_for_one_call",
            ),
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
                condition=~Q(state__in=["failed", "cancelled", "timed_out", "outcome_unknown"]) | ~Q(error_code=""),
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
