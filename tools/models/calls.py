"""One request to run one tool: a durable row from before the first byte leaves until its outcome is known."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, ClassVar, cast

import orjson
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import deleting, metrics, sealing
from connections.models import Connection, Tenant
from connections.telling import tell
from tools.models.assignments import AccessToken, Assignment
from tools.models.call_states import (
    FINAL_STATES,
    MOST_ATTEMPTS,
    OPEN_STATES,
    UNDER_WAY,
    UNSUCCESSFUL,
    AskedIn,
    CallState,
)
from tools.models.catalog import Tool
from tools.payloads import exact
from tools.payloads.raw_json import Json, read

_MOST_TOLD = 200  # calls of one step, each with its line in the logs

logger = logging.getLogger(__name__)


class CallQuerySet(models.QuerySet["Call"]):
    """Sets of calls, and their transitions: each is one conditional update, so of two who try one succeeds."""

    def unwanted(self) -> CallQuerySet:
        """Return the open calls that somebody wants cancelled."""
        return self.filter(finished_at=None, cancel_requested_at__isnull=False)

    def orphans(self, now: datetime) -> CallQuerySet:
        """Return the calls under way whose process has not renewed their lease: it has probably died."""
        # Open ones, in words that PostgreSQL finds in the condition of an index.
        return self.filter(state__in=UNDER_WAY, finished_at=None, lease_until__lt=now)

    def unlocked(self) -> CallQuerySet:
        """Return those that nobody has locked at this moment; in a transaction only."""
        return cast("CallQuerySet", deleting.unlocked(self))

    def repeatable(self) -> CallQuerySet:
        """Return those that may be made again: nothing left yet, or the caller's key and the approved tool allow it."""
        idempotent = ~Q(idempotency_key="") & Q(tool__approved_definition__annotations__idempotentHint=True)
        return self.filter(Q(sent_at=None) | idempotent, attempts__lt=MOST_ATTEMPTS, cancel_requested_at=None)

    def waiting_too_long(self, now: datetime, state: CallState) -> CallQuerySet:
        """Return the calls in this state that nobody has decided or answered in time."""
        return self.filter(state=state, finished_at=None, waits_until__lt=now).of_active_tenants()

    def awaiting_login(self) -> CallQuerySet:
        """Return the queued calls that no worker takes before the owner of their assignment has connected."""
        return self.filter(state=CallState.QUEUED, waits_until__isnull=False)

    def tasks(self) -> CallQuerySet:
        """Return the open calls that go on as a task at their server, except those whose task waits for an answer."""
        return self.filter(finished_at=None, poll_at__isnull=False)

    def tasks_due(self, now: datetime) -> CallQuerySet:
        """Return the calls whose task on the server is to be polled; not while their organization is suspended."""
        return self.filter(state=CallState.RUNNING, poll_at__lte=now).of_active_tenants()

    def in_state(self, state: CallState) -> CallQuerySet:
        """Return the calls in this state, for lists; an index leads to those of the rare states."""
        found = self.filter(state=state)
        return found.filter(finished_at=None) if state in OPEN_STATES else found

    def of_tool(self, name: str, tools: models.QuerySet[Tool]) -> CallQuerySet:
        """Return the calls of the tool with this name among these, and those of a deleted one."""
        # A tool never gets another name, so its id says the same. It says so alone wherever it can: with the name
        # beside it the database expects few calls, and reads and sorts all of them instead of the newest by an index.
        known = Q(tool__in=list(tools.filter(public_name=name).values_list("pk", flat=True)))
        deleted = Q(tool=None, tool_name=name)
        return self.filter(known | deleted if self.filter(deleted).exists() else known)

    def of_active_tenants(self) -> CallQuerySet:
        """Return those whose organization is not suspended."""
        # No join: a conditional UPDATE over one is not judged anew on a row that somebody else has just changed.
        return self.exclude(tenant__in=Tenant.objects.filter(suspended_at__isnull=False))

    # --- transitions ---

    def claim(self, now: datetime, lease_until: datetime, *, account: str = "") -> int:
        """Move these queued calls to running, as this account at the provider; 0 if another worker was quicker."""
        return self.filter(state=CallState.QUEUED).update(
            state=CallState.RUNNING, started_at=now, lease_until=lease_until, account=account
        )

    def queue_again(self, now: datetime) -> int:
        """Move these running calls back to the queue, one attempt further; that they may have been sent stays true."""
        moved = self.filter(state=CallState.RUNNING).update(
            state=CallState.QUEUED, attempts=F("attempts") + 1, started_at=None, lease_until=now
        )
        if moved:
            tell(logger, "Calls whose process died are queued again.", calls=moved)
        return moved

    def approve(self, by: str, now: datetime) -> int:
        """Move these calls from awaiting approval to the queue."""
        return self.filter(state=CallState.AWAITING_APPROVAL).update(
            state=CallState.QUEUED, decided_by=by[:200], decided_at=now, waits_until=None, lease_until=now
        )

    def await_login(self, until: datetime) -> int:
        """Leave these calls, of which nothing was sent, in the queue until the owner has connected; until then at most.

        A running one goes back: its sign-in turned out to have ended before it was used. One that somebody wants
        cancelled does not.
        """
        open_ = self.filter(
            state__in=[CallState.QUEUED, CallState.RUNNING], waits_for_login=True, cancel_requested_at=None
        )
        return open_.update(
            state=CallState.QUEUED, waits_until=until, lease_until=None, started_at=None, sent_at=None, account=""
        )

    def go_on_after_login(self) -> int:
        """Let workers take these calls, those that were asked for first before all others."""
        return self.awaiting_login().update(waits_until=None, lease_until=F("created_at"))

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
        """Move these calls to a final state without a result, unless they have ended; return how many were moved."""
        known = list(self.filter(finished_at=None).order_by().values_list("pk", "tenant", "request_id")[:_MOST_TOLD])
        ended = self.filter(finished_at=None).update(
            state=state, error_code=code, error_sentence=sentence[:300], finished_at=now,
            lease_until=None, waits_until=None, poll_at=None, **more,
        )  # fmt: skip
        metrics.count("calls", ended, outcome=state, placement=metrics.OTHER)  # no run ended them
        if ended:  # of two that end the same call at this moment, one tells it
            for call, tenant, request_id in known[:ended]:
                tell(
                    logger, "A call has ended without a run.", call=call, tenant=tenant, outcome=str(state), code=code,
                    request_id=request_id,
                )  # fmt: skip
        return ended


class Call(models.Model):
    """One request to run one tool; what callers, servers and people say is sealed; it outlives tool and assignment.

    `sent_at` is when bytes may have left, `lease_until` until when its process counts as alive (of a queued call: from
    when on a worker may take it), `waits_until` until when a person may decide, answer or, of a queued call, connect,
    `poll_at` when its task is polled next.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Each index is written twice for every call: a field that an index below begins with has none of its own.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="calls", db_index=False)
    assignment = models.ForeignKey(
        Assignment, null=True, on_delete=models.SET_NULL, related_name="calls", db_index=False
    )
    # The token of the request. Without a constraint and an index: a token is deleted only with its assignment.
    token = models.ForeignKey(
        AccessToken, null=True, on_delete=models.DO_NOTHING, related_name="calls", db_constraint=False, db_index=False
    )
    connection = models.ForeignKey(
        Connection, null=True, on_delete=models.SET_NULL, related_name="calls", db_index=False
    )
    tool = models.ForeignKey(Tool, null=True, on_delete=models.SET_NULL, related_name="calls", db_index=False)
    tool_name = models.CharField(max_length=64)
    # What it was made, and approved, for: it does not run once its tool or connection has another of these.
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
    session_name = models.CharField(max_length=128, blank=True, db_default="")  # "": the assignment's own session
    session_restarted = models.BooleanField(db_default=False)  # it ran in a new one: the server remembers nothing
    account = models.CharField(max_length=200, blank=True, db_default="")  # at the provider, with which it was made
    # Its caller lets it wait where the owner of its assignment has not connected.
    waits_for_login = models.BooleanField(db_default=False)

    objects = CallQuerySet.as_manager()
    lets_go: ClassVar = {  # see connections/deleting.py
        "connection": (Q(finished_at__isnull=False), ("connection", "tool")),
        "assignment": (Q(finished_at__isnull=False), ("assignment",)),
    }
    sealed_fields = (
        "sealed_arguments", "sealed_result", "sealed_progress", "sealed_question", "sealed_answers", "sealed_task",
    )  # fmt: skip

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="call_by_tenant"),
            models.Index(fields=["assignment", "-created_at"], name="call_of_assignment"),
            models.Index(fields=["connection", "-created_at"], name="call_of_connection"),
            models.Index(fields=["tool", "-created_at"], name="call_of_tool"),
            models.Index(fields=["-created_at"], name="call_newest"),
            # Lists of one state: a common one is found among the newest calls, and of the rare ones these know where.
            models.Index(
                fields=["tenant", "state", "-created_at"],
                name="call_unsuccessful_of_tenant",
                condition=Q(state__in=UNSUCCESSFUL),
            ),
            models.Index(
                fields=["assignment", "state", "-created_at"],
                name="call_unsuccessful_of_assigned",
                condition=Q(state__in=UNSUCCESSFUL),
            ),
            models.Index(
                fields=["state", "-created_at"], name="call_unsuccessful", condition=Q(state__in=UNSUCCESSFUL)
            ),
            models.Index(
                fields=["assignment", "-created_at"], name="call_of_deleted_tool", condition=Q(tool__isnull=True)
            ),
            models.Index(fields=["created_at"], name="call_with_key", condition=~Q(idempotency_key="")),
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
    def awaits_login(self) -> bool:
        """Whether it waits until the owner of its assignment has connected."""
        return self.state == CallState.QUEUED and self.waits_until is not None

    @property
    def whose_account(self) -> dict[str, str]:
        """What audit events say of the account at the provider that it was made with, where that is known."""
        return {"account": self.account} if self.account else {}

    @property
    def seal_context(self) -> str:
        """The context that the seals are bound to."""
        return seal_context(self.tenant_id, self.id)

    def arguments(self) -> dict[str, Any]:
        """Return the opened arguments; raises SealBroken."""
        opened: dict[str, Any] = sealing.unseal(self.sealed_arguments, context=self.seal_context)
        return opened

    def arguments_to_send(self) -> Json:
        """Return the opened arguments, large ones as `RawJson`; raises SealBroken."""
        opened: Json = read(sealing.unseal_bytes(self.sealed_arguments, context=self.seal_context))
        return opened

    def result_to_send(self) -> Json | None:
        """Return the opened result, a large one that has all its members as `RawJson`; raises SealBroken."""
        if not self.sealed_result:
            return None
        text = sealing.unseal_bytes(self.sealed_result, context=self.seal_context)
        opened: Json = read(text) if text.startswith(_WITH_ALL_MEMBERS) else orjson.loads(text)
        return opened

    def result(self) -> dict[str, Any] | None:
        """Return the opened result (content, structured_content, is_error) or None, to be looked at; raises SealBroken.

        Numbers that parsing would change are text in it.
        """
        if not self.sealed_result:
            return None
        text = sealing.unseal_bytes(self.sealed_result, context=self.seal_context)
        return dict(exact.loads(text, str) if exact.needed(text) else orjson.loads(text))

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


_WITH_ALL_MEMBERS = (b'{"is_error":true,"structured_content_link":', b'{"is_error":false,"structured_content_link":')


def seal_context(tenant_id: object, call_id: object) -> str:
    """Return the context that the seals of a call are bound to."""
    return f"{tenant_id}/call/{call_id}"
