"""The states of a call, and how one follows another.

    queued ──────────────┬─> running ──┬─> succeeded, failed, cancelled, timed_out, outcome_unknown
    awaiting_approval ───┘      ↑↓     │
                          input_required

A queued call waits for a worker or, with `waits_until`, until the owner of its assignment has connected.
The methods of `CallQuerySet` make these transitions; a trigger in the database refuses every other one and writes each
as a `CallEvent`.
"""

from __future__ import annotations

from django.db import models


class CallState(models.TextChoices):
    """Where a call is in its life."""

    QUEUED = "queued", "Queued"
    AWAITING_APPROVAL = "awaiting_approval", "Awaiting approval"
    RUNNING = "running", "Running"
    INPUT_REQUIRED = "input_required", "Input required"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    TIMED_OUT = "timed_out", "Timed out"
    OUTCOME_UNKNOWN = "outcome_unknown", "Outcome unknown"


class AskedIn(models.TextChoices):
    """Where the server waits for the answer to its question."""

    RESULT = "result", "Nowhere: the call is repeated with the answer"
    STREAM = "stream", "On the open stream of the process that runs the call"
    TASK = "task", "In its task"


MOST_ATTEMPTS = 3
OPEN_STATES = [CallState.QUEUED, CallState.AWAITING_APPROVAL, CallState.RUNNING, CallState.INPUT_REQUIRED]
FINAL_STATES = [state for state in CallState if state not in OPEN_STATES]
UNSUCCESSFUL = [state for state in FINAL_STATES if state != CallState.SUCCEEDED]
UNDER_WAY = [CallState.RUNNING, CallState.INPUT_REQUIRED]  # a process, or the server's task, has the call in hand
