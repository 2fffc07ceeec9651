"""Calls that a server works on as a task (`io.modelcontextprotocol/tasks`): polled until they end.

The task's id is in the call's row, and `poll_at` says when to poll. A poll is a short Celery task that may be repeated
without harm, so a task survives the restart of everything.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from mcp_types import INVALID_PARAMS

from connections import egress, shares
from connections.errors import DuvoError
from tools import mcp_client
from tools.calls import ending, offers, runs, stream_questions
from tools.calls.runs import Run
from tools.catalog.upstream import ask_with_fresh_token
from tools.errors import CallCancelled, CallTimedOut, OutcomeUnknown, ToolNotFound, ToolReplaced
from tools.mcp_client import Questions, Task, budget
from tools.models import Call
from tools.models.call_states import AskedIn, CallState

_REQUEST_TIMEOUT = 30.0  # seconds for one request
_LONGEST_POLL = 60.0  # seconds for one poll, renewing a token and sending answers included
_POLL_LEASE = timedelta(seconds=90)  # after which a poll counts as lost
_AFTER_A_FAILURE = timedelta(seconds=10)
_AT_ONCE = 500


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Claim the tasks that are to be polled now and return the ids of their calls, tenants in turn.

    Those whose tenant has no free slot for `work` stay due.
    """
    rows = Call.objects.tasks_due(now)

    def claim(row: QuerySet[Call]) -> int:
        return row.update(poll_at=now + _POLL_LEASE)

    return shares.admitted(rows, work, tenant="tenant", when="poll_at", most=_AT_ONCE, claim=claim)


def poll(call_id: UUID) -> None:
    """Poll a call's task and move the call to the task's state; a call without a running task is left alone."""
    call = Call.objects.filter(pk=call_id, state=CallState.RUNNING).exclude(sealed_task="").first()
    if call is None:
        return
    # A replaced server comes first, and is handled by `_poll`: whatever else has ended, ended with the old server.
    replaced = offers.replaced(call, under_way=True)
    if replaced is None and (end := ending.of(call)) is not None:
        if not end.held:
            ending.stop(call, end, timezone.now())
        return
    with budget.account():  # what it reads counts until it is stored
        _poll(call)


def _poll(call: Call) -> None:
    run, failure, call_id = None, None, call.pk
    try:
        run, handle = _run_of(call), call.task() or {}
        with egress.bounded(_LONGEST_POLL, "The server took too long to tell how its task is."):
            task = egress.run(_ask(run, handle, call.answers()))
    except (ToolNotFound, ToolReplaced) as gone:
        sentence = "The tool or its assignment was removed while the server worked on its task."
        if isinstance(gone, ToolReplaced):
            sentence = f"{gone.sentence} Its server works on it as a task: the tool may have run."
        Call.objects.filter(pk=call_id).end(CallState.OUTCOME_UNKNOWN, OutcomeUnknown.code, sentence, timezone.now())
    except mcp_client.RpcError as error:
        failure = error
    except DuvoError:
        pass  # the server cannot be reached, or refuses the credential now: the task goes on all the same
    else:
        _apply(call, run, handle, task)
        return
    if not (_out_of_reach(call) if run is None else _over(call, run, failure)):
        _poll_again(call, _AFTER_A_FAILURE)


def cancel(call_id: UUID) -> None:
    """Send `tasks/cancel` for the call's task, unless nothing may be sent to its server any more."""
    call = Call.objects.filter(pk=call_id).exclude(sealed_task="").first()
    end = ending.of(call) if call is not None else None
    if end is not None and not end.tells_server:
        return
    with suppress(DuvoError):  # its connection may be gone
        if call is not None:
            with egress.bounded(_REQUEST_TIMEOUT, "The server took too long."):
                egress.run(runs.cancel_task(_run_of(call), (call.task() or {})["id"]))


def _run_of(call: Call) -> Run:
    offer = offers.of(call)
    server = replace(offer.server, timeout=min(offer.server.timeout, _REQUEST_TIMEOUT))
    started_at = call.started_at or call.created_at
    return Run(
        call.pk, call.tenant_id, call.created_at, started_at, replace(offer, server=server), {}, attempt=call.attempts,
        session_name=call.session_name,
    )  # fmt: skip


async def _ask(run: Run, handle: dict[str, Any], answers: dict[str, Any] | None) -> Task:
    async def ask(server: mcp_client.Server) -> Task:
        refusal = None
        if answers:
            try:
                await mcp_client.update_task(server, handle["id"], answers)
            except mcp_client.RpcError as error:  # the task may have ended meanwhile: then its outcome counts
                refusal = error
        session = runs.session_of_run(run)
        try:
            task = await mcp_client.get_task(server, handle["id"], session)
        finally:
            await runs.note_restart(run, session)
        if refusal is not None and task.status in ("working", "input_required"):
            raise refusal
        return task

    return await ask_with_fresh_token(run.offer.server, run.offer.bearer, ask)


def _apply(call: Call, run: Run, handle: dict[str, Any], task: Task) -> None:
    answered = [*handle.get("answered", []), *(call.answers() or {})]
    if task.result is not None or task.error is not None:
        egress.run(runs.settle(run, task.result or task.error or OutcomeUnknown()))
    elif task.status == "cancelled":
        egress.run(runs.settle(run, CallCancelled("The server cancelled its task; the tool may have run in part.")))
    elif _over(call, run, None):
        return
    elif task.questions and (new := _unanswered(task.questions, answered)):
        until = timezone.now() + timedelta(hours=run.offer.decision_hours)
        asked = {"sealed_task": call.seal({"id": task.id, "answered": answered})}
        run.rows().ask(AskedIn.TASK, stream_questions.sealed(run.seal, new), until, **asked)
    else:
        kept: dict[str, Any] = {"sealed_answers": "", "sealed_task": call.seal({"id": task.id, "answered": answered})}
        if task.message and task.message != (call.progress() or {}).get("message"):
            step = {"progress": None, "total": None, "message": task.message}
            kept |= {"progress_at": timezone.now(), "sealed_progress": call.seal(step)}
        _poll_again(call, timedelta(seconds=task.poll_interval), **kept)


def _over(call: Call, run: Run, failure: mcp_client.RpcError | None) -> bool:
    """End a call if the server no longer knows its task, or it takes longer than the tool may; tell whether it did."""
    if failure is not None and failure.rpc_code == INVALID_PARAMS:
        egress.run(runs.settle(run, OutcomeUnknown("The server no longer knows its task: the tool may have run.")))
        return True
    if timezone.now() < run.started_at + timedelta(seconds=run.offer.call_timeout):
        return False
    cancel(call.pk)
    egress.run(runs.settle(run, CallTimedOut("The task took longer than the tool may.")))
    return True


def _out_of_reach(call: Call) -> bool:
    """End a call if its task could not be polled at all for as long as any call may take; return whether it did."""
    longest = timedelta(seconds=settings.LONGEST_CALL)
    if timezone.now() < (call.started_at or call.created_at) + longest:
        return False
    sentence = "The server's task could not be looked at any more: the tool may have run."
    running = Call.objects.filter(pk=call.pk, state=CallState.RUNNING)
    return bool(running.end(CallState.OUTCOME_UNKNOWN, OutcomeUnknown.code, sentence, timezone.now()))


def _unanswered(questions: Questions, answered: list[str]) -> Questions | None:
    new = {key: asked for key, asked in questions.requests.items() if key not in answered}
    return replace(questions, requests=new) if new else None


def _poll_again(call: Call, after: timedelta, **kept: Any) -> None:
    still = Call.objects.filter(pk=call.pk, attempts=call.attempts, state=CallState.RUNNING)
    # Not if another poll was quicker, and its question has been answered: those answers are still to be sent.
    still.filter(sealed_answers=call.sealed_answers).update(poll_at=timezone.now() + after, **kept)
