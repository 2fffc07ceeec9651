"""How a call moves from state to state: each move is one conditional update, so of two who try one succeeds.

    queued ──────────────┬─> running ──┬─> succeeded, failed, cancelled, timed_out, outcome_unknown
    awaiting_approval ───┘      ↑↓     │
                          input_required

A trigger in the database refuses every other move and writes each as a `CallEvent`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q

from connections import metrics
from connections.models import Tenant

if TYPE_CHECKING:
    from tools.models.calls import Call  # noqa: F401 - the class below names it as text


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
UNDER_WAY = [CallState.RUNNING, CallState.INPUT_REQUIRED]  # a process, or the server's task, has the call in hand


class CallQuerySet(models.QuerySet["Call"]):
    """Sets of calls, and the moves of one call."""

    def unwanted(self) -> CallQuerySet:
        """Return the open calls that somebody wants cancelled."""
        return self.filter(finished_at=None, cancel_requested_at__isnull=False)

    def orphans(self, now: datetime) -> CallQuerySet:
        """Return the calls under way whose process has not been heard of since their lease ran out."""
        return self.filter(state__in=UNDER_WAY, lease_until__lt=now)

    def repeatable(self) -> CallQuerySet:
        """Return those that may be made again: nothing left yet, or the caller's key and the approved tool allow it."""
        idempotent = ~Q(idempotency_key="") & Q(tool__approved_definition__annotations__idempotentHint=True)
        return self.filter(Q(sent_at=None) | idempotent, attempts__lt=MOST_ATTEMPTS, cancel_requested_at=None)

    def waiting_too_long(self, now: datetime, state: CallState) -> CallQuerySet:
        """Return the calls in this state that nobody has decided or answered in time."""
        return self.filter(state=state, waits_until__lt=now).of_active_tenants()

    def tasks_due(self, now: datetime) -> CallQuerySet:
        """Return the calls whose task on the server is to be looked at; not while their organization is suspended."""
        return self.filter(state=CallState.RUNNING, poll_at__lte=now).of_active_tenants()

    def of_active_tenants(self) -> CallQuerySet:
        """Return those whose organization is not suspended."""
        # No join: a conditional UPDATE over one is not judged anew on a row that somebody else has just changed.
        return self.exclude(tenant__in=Tenant.objects.filter(suspended_at__isnull=False))

    # --- moves ---

    def claim(self, now: datetime, lease_until: datetime) -> int:
        """Move these queued calls to running; 0 if another worker was quicker."""
        return self.filter(state=CallState.QUEUED).update(
            state=CallState.RUNNING, started_at=now, lease_until=lease_until
        )

    def queue_again(self, now: datetime) -> int:
        """Move these running calls back to the queue, one attempt further; that they may have been sent stays true."""
        return self.filter(state=CallState.RUNNING).update(
            state=CallState.QUEUED, attempts=F("attempts") + 1, started_at=None, lease_until=now
        )

    def approve(self, by: str, now: datetime) -> int:
        """Move these calls from awaiting approval to the queue."""
        return self.filter(state=CallState.AWAITING_APPROVAL).update(
            state=CallState.QUEUED, decided_by=by[:200], decided_at=now, waits_until=None, lease_until=now
        )

    def ask(self, asked_in: AskedIn, sealed_question: str, waits_until: datetime, **more: Any) -> int:
        """Move these running calls to input required; without a stream no process waits for the answer."""
        if asked_in != AskedIn.STREAM:
            more |= {"lease_until": None, "poll_at": None}
        return self.filter(state=CallState.RUNNING).update(
            state=CallState.INPUT_REQUIRED, asked_in=asked_in, sealed_question=sealed_question, sealed_answers="",
            waits_until=waits_until, **more,
        )  # fmt: skip

    def answer(self, sealed_answers: str, now: datetime) -> int:
        """Keep the answers of these calls, once, and move them to where they go on.

        A repeated call goes to the queue and a task on; who holds a stream sees the answers and calls `go_on`.
        """
        open_ = self.filter(state=CallState.INPUT_REQUIRED, sealed_answers="")
        kept: dict[str, Any] = {"sealed_answers": sealed_answers, "waits_until": None}
        unsent = {"state": CallState.QUEUED, "sent_at": None}  # the server asked instead of running the tool
        return (
            open_.filter(asked_in=AskedIn.RESULT).update(lease_until=now, **unsent, **kept)
            or open_.filter(asked_in=AskedIn.TASK).update(state=CallState.RUNNING, started_at=now, poll_at=now, **kept)
            or open_.filter(asked_in=AskedIn.STREAM).update(**kept)
        )

    def go_on(self) -> int:
        """Move these calls, whose answers were sent, from input required to running."""
        return self.filter(state=CallState.INPUT_REQUIRED).update(
            state=CallState.RUNNING, asked_in="", sealed_question="", sealed_answers="", waits_until=None
        )

    def end(self, state: CallState, code: str, sentence: str, now: datetime, **more: Any) -> int:
        """Move these calls to a final state without a result, unless they have ended; return how many it were."""
        ended = self.filter(finished_at=None).update(
            state=state, error_code=code, error_sentence=sentence[:300], finished_at=now,
            lease_until=None, waits_until=None, poll_at=None, **more,
        )  # fmt: skip
        metrics.count("calls", ended, outcome=state, placement=metrics.OTHER)  # no run ended them
        return ended
