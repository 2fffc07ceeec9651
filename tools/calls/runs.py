"""One run of a call: the request is sent to the server, and its response is stored.

A run ends with the call's outcome, or with a question that a person or the program has to answer, or with the id of a
task that the server works on; then the call goes on later, in whatever process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseFailed
from django.utils import timezone

from connections import deleting, metrics, sealing
from connections.errors import DuvoError
from connections.telling import tell
from connections.threads import in_thread
from oauth.errors import NeedsSignIn
from tools import mcp_client
from tools.calls import ledger, limits, pubsub, spans, storing, stream_questions, tracing, watching
from tools.calls.offers import Offer
from tools.calls.outcomes import Report, as_result, breaker_signal, outcome_of, report_of, session_of
from tools.calls.sessions import CallSession
from tools.calls.storing import StoredResult
from tools.catalog import access
from tools.catalog.upstream import ask_with_fresh_token
from tools.errors import CallCancelled, CallError, LeaseLost, OutcomeUnknown, ProcessStopped, SessionBusy
from tools.mcp_client import Answers, Questions, Task, ToolResult, budget
from tools.models import Call, McpSession, StoredContent, Tool
from tools.models.call_states import AskedIn, CallState
from tools.models.calls import CallQuerySet, seal_context
from tools.payloads.raw_json import Json

SLOW = 10.0  # seconds; a tool that takes longer runs in the queue for a while
SLOW_FOR = timedelta(days=1)

logger = logging.getLogger(__name__)
_under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = WeakKeyDictionary()

Response = ToolResult | Questions | Task


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that one run of a call needs, without a row."""

    call_id: UUID
    tenant_id: UUID
    created_at: datetime
    started_at: datetime
    offer: Offer
    arguments: Json
    attempt: int = 1
    slot: limits.Slot | None = None
    answers: Answers | None = None
    traceparent: str = ""
    sent: bool = False  # whether the row has `sent_at` from the start, as for calls that run in the web process
    sent_before: bool = False  # whether an earlier attempt may have been sent
    asks: asyncio.Future[bool] | None = None  # done when the server asks on the open stream; False: its token is gone
    token_id: UUID | None = None  # whose caller waits for `asks`
    session_name: str = ""
    restarted: asyncio.Event = field(default_factory=asyncio.Event)  # set when its session is a new one
    told: set[UUID] = field(default_factory=set)  # ended sessions of which its outcome tells
    one_question: asyncio.Lock = field(default_factory=asyncio.Lock)

    def seal(self, value: Any) -> str:
        """Return a value sealed for this call."""
        return sealing.seal(value, context=seal_context(self.tenant_id, self.call_id))

    def rows(self) -> CallQuerySet:
        """Return the call's row as long as this attempt is its newest."""
        return Call.objects.filter(pk=self.call_id, attempts=self.attempt)


async def perform(run: Run) -> Report:
    """Run a call and return its report afterwards; never raises for what a server does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - calls run in tasks
    here = _under_way.setdefault(task.get_loop(), set())
    here.add(task)
    try:
        with budget.account():  # what it reads counts until the outcome is stored
            return await _perform(run)
    finally:
        here.discard(task)


async def ended_within(seconds: float) -> set[asyncio.Task[Any]]:
    """Return the runs of this event loop that have not ended after so many seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := set(_under_way.get(loop, ()))) and loop.time() < until:
        await asyncio.wait(left, timeout=until - loop.time())
    return left


async def _perform(run: Run) -> Report:
    failure: BaseException | None = None
    try:
        with (
            spans.of_call(run.offer.public_name, run.traceparent) as span,
            watching.running(
                run.call_id, run.attempt, seal=run.seal, slot=run.slot, caller=run.token_id, hang_up=run.asks
            ) as alive,
        ):
            response = await _ask(run, alive, session_of_run(run, alive), span.traceparent)
            kept = (
                await storing.stored(run.call_id, run.tenant_id, storing.as_answered(response))
                if isinstance(response, ToolResult)
                else None
            )
            if isinstance(response, ToolResult) and response.is_error:
                span.failed("tool_error")
        if isinstance(response, Questions):
            return await in_thread(_wait_for_answers, run, response, of=run.tenant_id)
        if isinstance(response, Task):
            report = await in_thread(_leave_to_task, run, response, of=run.tenant_id)
            if report.state == CallState.CANCELLED:
                await cancel_task(run, response.id)
            return report
        return await settle(run, response, kept)
    except LeaseLost as lost:
        failure = lost
        return await _report_as_stored(run)
    except Call.DoesNotExist:
        return _report_of_none(run)
    except DuvoError as error:
        failure = error
        return await (_report_as_stored(run) if await _is_left_to_others(run, error) else settle(run, error))
    except Exception as error:
        # A bug of ours. How far the call got is not known, and the row says so at once, not only when it is swept.
        logger.exception("Call %s failed inside", run.call_id)
        failure = error
        return await settle(run, OutcomeUnknown("Something went wrong here: the tool may have run."))
    finally:
        if run.slot is not None:
            limits.release(run.slot, breaker_signal(failure))
        watching.notify(run.call_id)


async def _is_left_to_others(run: Run, error: DuvoError) -> bool:
    """Queue a call again that this process has no time for, or whose owner's sign-in turned out to have ended.

    Returns whether that was done: only if it may be made again, or was to wait for the owner's login.
    """
    if isinstance(error, ProcessStopped):
        return bool(await in_thread(lambda: run.rows().repeatable().queue_again(timezone.now()), of=run.tenant_id))
    # Raised before anything is sent: a token that the server itself refuses is an error of the server's.
    if isinstance(error, NeedsSignIn) and run.offer.is_personal and not run.sent_before:
        until = timezone.now() + timedelta(hours=run.offer.decision_hours)
        waits = bool(await in_thread(run.rows().await_login, until, of=run.tenant_id))
        if not waits:
            await in_thread(_end_if_unwanted, run, of=run.tenant_id)
        return waits
    return False


async def _report_as_stored(run: Run) -> Report:
    try:
        return await in_thread(lambda: report_of(Call.objects.get(pk=run.call_id)), of=run.tenant_id)
    except Call.DoesNotExist:
        return _report_of_none(run)


def _report_of_none(run: Run) -> Report:
    """Return the report of a call that was deleted, with its organization, while it ran: the tool may have run."""
    return Report(
        run.call_id, run.offer.public_name, CallState.CANCELLED, run.created_at, timezone.now(), error=CallCancelled()
    )


async def settle(run: Run, response: ToolResult | DuvoError, kept: StoredResult | None = None) -> Report:
    """Store the outcome of a call and return its report; a call that has an outcome already keeps it.

    `kept` is what `_stored` returned for a result, if it was called before, while the lease was still renewed.
    """
    error: CallError | None = None
    whole: Json | None = None
    result, text, stored = whole, b"", list[StoredContent]()
    if isinstance(response, ToolResult):
        state = CallState.FAILED if response.is_error else CallState.SUCCEEDED
        whole = storing.as_answered(response)
        result, text, stored = kept or await storing.stored(run.call_id, run.tenant_id, whole)
    else:
        state, error = outcome_of(response)
        if state == CallState.FAILED and run.sent_before:
            sentence = f"An earlier attempt may have run, and the last one failed: {error.sentence}"
            words = error.server_message
            state, error = CallState.OUTCOME_UNKNOWN, OutcomeUnknown(sentence)
            error.server_message = words
        text = as_result(error)
    finished_at = timezone.now()
    outcome = ledger.Outcome(
        id=run.call_id,
        attempt=run.attempt,
        state=state,
        tenant_id=run.tenant_id,
        result=text,
        contents=stored,
        error_code=error.code if error else "tool_error" if state == CallState.FAILED else "",
        error_sentence=error.sentence[:300] if error else "",
        finished_at=finished_at,
    )
    seconds = (finished_at - run.started_at).total_seconds()
    try:
        written = await ledger.write(outcome)
        if not run.sent:  # else who waits for it waits here
            pubsub.publish_soon(run.call_id, state if written else None)
        if written:
            await _note_told(run)
            # Here, so that it goes to Redis together with the release of the slot.
            limits.add_stored(run.tenant_id, len(text) + sum(content.size for content in stored))
            metrics.call_ended(state, "web" if run.sent else "queue", seconds)
            _tell_end(run, outcome, seconds)
        elif (call := await in_thread(Call.objects.filter(pk=run.call_id).first, of=run.tenant_id)) is not None:
            return await in_thread(report_of, call, of=run.tenant_id)
    except ledger.LedgerUnavailable as failure:
        if deleting.is_gone(failure.__cause__):
            return _report_of_none(run)
        # The tool has run: its caller gets the result all the same, and the sweep ends the row as `outcome_unknown`.
        logger.exception("The outcome of call %s could not be written down", run.call_id)
        result = whole  # the links may lead to nothing
    await _learn(run, response, seconds)
    told = session_of(run.session_name, restarted=run.restarted.is_set())
    return Report(
        run.call_id, run.offer.public_name, state, run.created_at, finished_at, result, error, session=told,
        account=run.offer.account,
    )  # fmt: skip


def _tell_end(run: Run, outcome: ledger.Outcome, seconds: float) -> None:
    tell(
        logger, "A call has ended.", call=run.call_id, tenant=run.tenant_id, connection=run.offer.connection_id,
        tool=run.offer.tool_id, attempt=run.attempt, outcome=str(outcome.state), code=outcome.error_code,
        seconds=round(seconds, 3),
    )  # fmt: skip


async def _ask(run: Run, alive: watching.Running, session: CallSession, traceparent: str) -> Response:
    meta = tracing.meta(traceparent) if run.offer.sends_trace else {}

    async def call(server: mcp_client.Server) -> Response:
        if not run.sent:
            await _begin_sending(run)
        return await mcp_client.call_tool(
            server,
            run.offer.upstream_name,
            run.arguments,
            progress=alive.progress,
            meta=meta,
            mirrored=run.offer.mirrored,
            answers=run.answers,
            ask=partial(_ask_on_stream, run),
            on_moved=moved.set,
            kept_in=session,
        )

    moved = asyncio.Event()
    try:
        response = await ask_with_fresh_token(run.offer.server, run.offer.bearer, call)
    except mcp_client.TimedOut as late:
        if session.waits:
            raise SessionBusy from late
        raise
    finally:
        await note_restart(run, session)
    if moved.is_set():  # the next check finds out what else is new
        await _note(run, mcp_client.EraChanged())
    return response


def session_of_run(run: Run, alive: watching.Running | None = None) -> CallSession:
    """Return the session of a run at a server that remembers; `alive` while its tool is called."""
    offer = run.offer
    return CallSession(
        run.call_id, run.tenant_id, offer.connection_id, UUID(offer.server.owner), run.session_name,
        idle=offer.session_idle, one_at_a_time=offer.one_at_a_time and alive is not None, alive=alive,
        asked=partial(_hang_up, run), told=run.told,
    )  # fmt: skip


async def note_restart(run: Run, session: CallSession) -> None:
    """Write down for a call that its session was a new one, if it was."""
    if session.restarted:
        run.restarted.set()
        with suppress(DatabaseFailed):  # the caller who waits is told all the same
            await in_thread(partial(run.rows().update, session_restarted=True), of=run.tenant_id)


async def _note_told(run: Run) -> None:
    """Write down that the program knows of these ended sessions; else the next call tells of them again."""
    if run.told:
        with suppress(DatabaseFailed):
            known = partial(McpSession.objects.filter(pk__in=run.told).update, program_knows=True)
            await in_thread(known, of=run.tenant_id)


async def _note(run: Run, failure: DuvoError) -> None:
    with suppress(DatabaseFailed):
        await in_thread(_noted(run.offer, failure), of=run.tenant_id)


def _noted(offer: Offer, failure: DuvoError) -> Callable[[], None]:
    return partial(
        access.record_failure, offer.connection_id, failure, offer.bearer, own=offer.own, server_url=offer.server.url
    )


async def _ask_on_stream(run: Run, questions: Questions) -> stream_questions.Responses:
    async def asked() -> None:
        _hang_up(run)

    async with run.one_question:
        return await stream_questions.put(
            run.rows(), run.call_id, run.seal, questions, run.offer.decision_hours, asked=asked, of=run.tenant_id
        )


async def _begin_sending(run: Run) -> None:
    """Write down that bytes may leave from now on; raises LeaseLost when that cannot be: the sweep queues it again."""
    try:
        noted = await ledger.write(ledger.Sending(run.call_id, run.attempt, run.tenant_id, timezone.now()))
    except ledger.LedgerUnavailable as failure:
        raise LeaseLost from failure
    if not noted:
        raise LeaseLost


def _hang_up(run: Run) -> None:
    """Answer the caller who waits: a person is asked."""
    if run.asks is not None and not run.asks.done():
        run.asks.set_result(True)


def _wait_for_answers(run: Run, questions: Questions) -> Report:
    """Leave the call until its question is answered; the call is then repeated with the answers."""
    until = timezone.now() + timedelta(hours=run.offer.decision_hours)
    run.rows().ask(AskedIn.RESULT, stream_questions.sealed(run.seal, questions), until)
    _end_if_unwanted(run)
    return report_of(Call.objects.get(pk=run.call_id))


def _leave_to_task(run: Run, task: Task) -> Report:
    """Leave the call to the server's task, which is polled from time to time."""
    handle = run.seal({"id": task.id})
    poll_at = timezone.now() + timedelta(seconds=task.poll_interval)
    kept = run.rows().filter(state=CallState.RUNNING)
    kept.update(sealed_task=handle, poll_at=poll_at, lease_until=None)
    _end_if_unwanted(run)
    return report_of(Call.objects.get(pk=run.call_id))


def _end_if_unwanted(run: Run) -> None:
    """End a call that was cancelled too late to interrupt this run: from here on no process would notice it."""
    run.rows().unwanted().end(CallState.CANCELLED, CallCancelled.code, CallCancelled().sentence, timezone.now())


async def cancel_task(run: Run, task_id: str) -> None:
    """Send `tasks/cancel`; errors are ignored, and the server then finishes a task that nobody wants."""
    with suppress(DuvoError):
        await ask_with_fresh_token(
            run.offer.server,
            run.offer.bearer,
            lambda server: mcp_client.cancel_task(server, task_id, session_of_run(run)),
        )


async def _learn(run: Run, response: ToolResult | DuvoError, seconds: float) -> None:
    """Record what a call shows about the connection's credential and era, and whether its tool is slow."""
    offer = run.offer
    try:
        if isinstance(response, ToolResult) and offer.doubted:
            again = partial(
                access.record_success, offer.connection_id, offer.bearer, own=offer.own, server_url=offer.server.url
            )
            await in_thread(again, of=run.tenant_id)
        elif isinstance(response, mcp_client.Challenged | mcp_client.EraChanged):
            await in_thread(_noted(offer, response), of=run.tenant_id)
        if offer.learns_placement and seconds > SLOW:
            until = timezone.now() + SLOW_FOR
            slow = partial(Tool.objects.filter(pk=offer.tool_id).update, slow_until=until)
            await in_thread(slow, of=run.tenant_id)
    except DatabaseFailed:  # the call has its outcome, and the next one shows the same
        logger.warning("What call %s tells of its connection could not be written down", run.call_id)
