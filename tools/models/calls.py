"""One request to run one tool: a durable row from before the first byte leaves until its outcome is known."""

from __future__ import annotations

from typing import Any

import orjson
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import sealing
from connections.models import Connection, Tenant
from tools.models.assignments import AccessToken, Assignment
from tools.models.catalog import Tool
from tools.models.moves import FINAL_STATES, OPEN_STATES, AskedIn, CallQuerySet, CallState
from tools.payloads.raw_json import Json, read


class Call(models.Model):
    """One request to run one tool; what callers, servers and people say is sealed; it outlives tool and assignment.

    `sent_at` is when bytes may have left, `lease_until` until when its process counts as alive (of a queued call: from
    when on a worker may take it), `waits_until` until when a person may decide or answer, `poll_at` when its task is
    looked at next.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Each index costs every call twice: what an index below begins with has none of its own.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="calls", db_index=False)
    assignment = models.ForeignKey(
        Assignment, null=True, on_delete=models.SET_NULL, related_name="calls", db_index=False
    )
    # By which token it was asked for. Without a constraint and an index: a token goes only with its assignment.
    token = models.ForeignKey(
        AccessToken, null=True, on_delete=models.DO_NOTHING, related_name="calls", db_constraint=False, db_index=False
    )
    connection = models.ForeignKey(Connection, null=True, on_delete=models.SET_NULL, related_name="calls")
    tool = models.ForeignKey(Tool, null=True, on_delete=models.SET_NULL, related_name="calls")
    tool_name = models.CharField(max_length=64)
    # What it was opened, and approved, for: it runs for nothing else that has come into the place of these rows.
    tool_digest = models.CharField(max_length=64, blank=True, db_default="")
    server_url = models.CharField(max_length=2048, blank=True, db_default="")
    state = models.CharField(max_length=20, choices=CallState, default=CallState.QUEUED)
    sealed_arguments = models.TextField()
    sealed_result = models.TextField(blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_sentence = models.CharField(max_length=300, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=1)
    cancel_requested_at = models.DateTimeField(null=True)
    idempotency_key = models.CharField(max_length=255, blank=True)
    body_digest = models.CharField(max_length=64, blank=True)
    last_seq = models.PositiveIntegerField(db_default=1)
    progress_at = models.DateTimeField(null=True)
    sealed_progress = models.TextField(blank=True, db_default="")
    waits_until = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=200, blank=True, db_default="")
    decided_at = models.DateTimeField(null=True)
    asked_in = models.CharField(max_length=6, choices=AskedIn, blank=True, db_default="")
    sealed_question = models.TextField(blank=True, db_default="")
    sealed_answers = models.TextField(blank=True, db_default="")
    sealed_task = models.TextField(blank=True, db_default="")
    poll_at = models.DateTimeField(null=True)
    traceparent = models.CharField(max_length=55, blank=True, db_default="")

    objects = CallQuerySet.as_manager()
    sealed_fields = (
        "sealed_arguments", "sealed_result", "sealed_progress", "sealed_question", "sealed_answers", "sealed_task",
    )  # fmt: skip

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="call_by_tenant"),
            models.Index(fields=["assignment", "-created_at", "-id"], name="call_by_assignment"),
            models.Index(fields=["lease_until"], name="call_open", condition=Q(finished_at__isnull=True)),
            models.Index(
                fields=["cancel_requested_at"],
                name="call_unwanted",
                condition=Q(finished_at__isnull=True, cancel_requested_at__isnull=False),
            ),
            models.Index(fields=["tenant", "lease_until"], name="call_queued", condition=Q(state="queued")),
            models.Index(fields=["poll_at"], name="call_task_due", condition=Q(poll_at__isnull=False)),
            models.Index(fields=["waits_until"], name="call_waiting", condition=Q(waits_until__isnull=False)),
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
            models.CheckConstraint(
                condition=~Q(state="awaiting_approval") | Q(waits_until__isnull=False),
                name="a_call_awaits_approval_for_a_limited_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="input_required") | (~Q(asked_in="") & ~Q(sealed_question="")),
                name="a_call_that_requires_input_has_a_question",
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

    def arguments_to_send(self) -> Json:
        """Return the opened arguments, large ones as they are written; raises SealBroken."""
        opened: Json = read(sealing.unseal_bytes(self.sealed_arguments, context=self.seal_context))
        return opened

    def result_to_send(self) -> Json | None:
        """Return the opened result, a large one that has all its members as it is written; raises SealBroken."""
        if not self.sealed_result:
            return None
        text = sealing.unseal_bytes(self.sealed_result, context=self.seal_context)
        opened: Json = read(text) if text.startswith(_WITH_ALL_MEMBERS) else orjson.loads(text)
        return opened

    def result(self) -> dict[str, Any] | None:
        """Return the opened result (content, structured_content, is_error) or None; raises SealBroken."""
        return self._opened("sealed_result")

    def question(self) -> dict[str, Any] | None:
        """Return what the server asks: `requests` by key and its opaque `state`, or None; raises SealBroken."""
        return self._opened("sealed_question")

    def answers(self) -> dict[str, Any] | None:
        """Return the responses by key that were given to the question, or None; raises SealBroken."""
        return self._opened("sealed_answers")

    def task(self) -> dict[str, Any] | None:
        """Return the handle of the server's task (`id`, `era`) or None; raises SealBroken."""
        return self._opened("sealed_task")

    def progress(self) -> dict[str, Any] | None:
        """Return the last progress (progress, total, message) or None; raises SealBroken."""
        return self._opened("sealed_progress")

    def seal(self, value: Any) -> str:
        """Return a value sealed for this call."""
        return sealing.seal(value, context=self.seal_context)

    def _opened(self, column: str) -> dict[str, Any] | None:
        sealed: str = getattr(self, column)
        return dict(sealing.unseal(sealed, context=self.seal_context)) if sealed else None


class CallEvent(models.Model):
    """One move of a call, or one step of its progress; a trigger on the calls' table writes it, nobody else."""

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
        """What the seals are bound to: those of its call."""
        return self.call.seal_context

    def progress(self) -> dict[str, Any] | None:
        """Return the step (progress, total, message), or None for a move; raises SealBroken."""
        if not self.sealed_progress:
            return None
        return dict(sealing.unseal(self.sealed_progress, context=self.seal_context))


_WITH_ALL_MEMBERS = (b'{"is_error":true,"structured_content_link":', b'{"is_error":false,"structured_content_link":')


def seal_context(tenant_id: object, call_id: object) -> str:
    """What the seals of a call are bound to."""
    return f"{tenant_id}/call/{call_id}"
