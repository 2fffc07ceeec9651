"""The life of a call: written down, made, its outcome written down.

    start     a caller asks: checks, writes the row, then waits for the outcome or leaves it to a worker
    resume    a worker takes a queued call
    cancel    a caller or an admin no longer wants it
    sweep     what a dead process left behind is ended honestly

The row is committed before the first byte leaves. Nothing is sent twice: a call whose process died while it ran, or
whose connection broke after the request was sent, ends as `outcome_unknown`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from celery import current_app
from django.db import connection as database
from django.utils import timezone
from kombu.exceptions import OperationalError
from uuid_utils.compat import uuid7

from connections import egress
from connections.context import request_id
from connections.errors import DuvoError, Refused, Unreachable
from connections.threads import in_thread
from oauth import challenges, refreshing
from oauth.errors import NeedsSignIn, OAuthError, ProviderUnavailable
from tools import access, ledger, mcp_client, offers, repeats, watching
from tools.authentication import Principal
from tools.errors import (
    ArgumentsRefused,
    Busy,
    CallCancelled,
    CallError,
    CallFailed,
    CallTimedOut,
    ConnectionNotReady,
    OutcomeUnknown,
    ToolNotFound,
)
from tools.models import Call
from tools.models.moves import CallState
from tools.offers import Offer
from tools.schemas import Fault
from tools.upstream import bearing

logger = logging.getLogger(__name__)

_GRACE = timedelta(seconds=60)  # how long after its deadline a call's process counts as alive
_ENQUEUE_AGAIN = timedelta(minutes=2)
_SWEPT_AT_ONCE = 500

_ERRORS: dict[CallState, type[CallError]] = {
    CallState.CANCELLED: CallCancelled,
    CallState.TIMED_OUT: CallTimedOut,
    CallState.OUTCOME_UNKNOWN: OutcomeUnknown,
}
_running: Counter[UUID] = Counter()  # calls under way in this process, by connection
_tasks: set[asyncio.Task[Any]] = set()  # strong references: the loop keeps only weak ones


@dataclass(frozen=True, slots=True)
class Report:
    """A call as its caller sees it."""

    id: UUID
    tool: str
    state: CallState
    created_at: datetime
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: CallError | None = None


async def start(
    principal: Principal,
    name: str,
    arguments: dict[str, Any],
    *,
    wait: float,
    in_worker: bool = False,
    idempotency_key: str | None = None,
) -> Report:
    """Make a call and return its report; one that is not finished after `wait` seconds goes on and is reported running.

    With `in_worker` the call is queued for a worker; with a key that was used before, the call is the one it names.
    Raises CallError when the call cannot be made at all, repeats.BadKey, and LedgerUnavailable when it cannot be
    written down; in all cases nothing was sent.
    """
    assert principal.assignment_id is not None  # noqa: S101 - the door lets only assignments in
    offer = await offers.find(principal.assignment_id, name)
    if faults := offer.validator.faults(arguments):
        raise ArgumentsRefused(faults)
    if not in_worker and _running[offer.connection_id] >= offer.max_concurrency:
        raise Busy(retry_after=1)
    now = timezone.now()
    call_id = uuid7()
    opening = ledger.Opening(
        id=call_id,
        tenant_id=principal.tenant_id,
        assignment_id=principal.assignment_id,
        connection_id=offer.connection_id,
        tool_id=offer.tool_id,
        tool_name=offer.public_name,
        state=CallState.QUEUED if in_worker else CallState.RUNNING,
        arguments=_written(arguments),
        request_id=request_id.get(),
        created_at=now,
        started_at=None if in_worker else now,
        lease_until=now + _ENQUEUE_AGAIN if in_worker else _lease(now, offer),
    )
    key = repeats.key_of(idempotency_key, name, arguments)
    if key is not None:
        first = await in_thread(repeats.open_once, opening, key)
        if first is not None:
            return await follow(first, wait=0 if in_worker else wait)
    if in_worker:
        if key is None:
            await ledger.write(opening)
        await asyncio.to_thread(_enqueue, call_id)  # a broker that hangs must not hold the database's few threads
        return Report(call_id, name, CallState.QUEUED, now)
    task = await _set_out(opening, offer, arguments, written=key is not None)
    done, _ = await asyncio.wait({task}, timeout=wait)
    return task.result() if done else Report(call_id, name, CallState.RUNNING, now)


async def follow(call: Call, *, wait: float) -> Report:
    """Return the report of a call that was made before, as soon as it has ended, at the latest after `wait` seconds."""
    if not call.finished and wait:
        await watching.until_ended(call.pk, wait)
        call = await in_thread(lambda: Call.objects.get(pk=call.pk))
    return await in_thread(report_of, call)


def report_of(call: Call) -> Report:
    """Return a call as its caller sees it; raises SealBroken."""
    state, result, error = CallState(call.state), call.result(), None
    if call.error_code and result is None:
        error = _ERRORS.get(state, CallFailed)(call.error_sentence, code=call.error_code)
    return Report(call.pk, call.tool_name, state, call.created_at, call.finished_at, result, error)


def cancel(call: Call) -> None:
    """End a queued call now, and have a running one interrupted within a second, wherever it runs."""
    now = timezone.now()
    queued = Call.objects.filter(pk=call.pk, state=CallState.QUEUED)
    if not queued.end(CallState.CANCELLED, CallCancelled.code, "The call was cancelled before it was made.", now):
        Call.objects.filter(pk=call.pk, finished_at=None).update(cancel_asked_at=now)


def resume(call_id: UUID) -> None:
    """Run a queued call to its end, in a worker; a call that is no longer queued is left alone."""
    now = timezone.now()
    call = Call.objects.claim(call_id, now, now + _GRACE)
    if call is None:
        return
    try:
        if call.assignment_id is None:  # deleted while the call was queued
            raise ToolNotFound
        offer = offers.find_now(call.assignment_id, call.tool_name)
        arguments = call.arguments()
    except DuvoError as error:
        Call.objects.filter(pk=call.pk).end(CallState.FAILED, error.code, error.sentence, timezone.now())
        return
    Call.objects.filter(pk=call.pk).update(lease_until=_lease(timezone.now(), offer))
    database.close()  # a waiting call holds no database connection
    egress.run(_perform(call.id, call.tenant_id, call.created_at, offer, arguments, call.attempts))


def sweep(now: datetime) -> list[UUID]:
    """End the calls whose process died, and return those to be enqueued.

    These are calls whose message got lost, and calls that were under way and may be made again: their caller gave a
    key and the tool is idempotent. No call is made more than three times.
    """
    repeats.forget(now)
    again = list(Call.objects.orphans(now).repeatable().values_list("pk", flat=True)[:_SWEPT_AT_ONCE])
    Call.objects.filter(pk__in=again).orphans(now).queue_again(now + _ENQUEUE_AGAIN)
    Call.objects.orphans(now).end(
        CallState.OUTCOME_UNKNOWN,
        OutcomeUnknown.code,
        "The process that made this call died: the tool may have run. Check before you try again.",
        now,
    )
    lost = list(
        Call.objects.filter(state=CallState.QUEUED, lease_until__lt=now).values_list("pk", flat=True)[:_SWEPT_AT_ONCE]
    )
    Call.objects.filter(pk__in=lost, state=CallState.QUEUED).update(lease_until=now + _ENQUEUE_AGAIN)
    return again + lost


async def _set_out(
    opening: ledger.Opening, offer: Offer, arguments: dict[str, Any], *, written: bool
) -> asyncio.Task[Report]:
    """Write the call down and set it going; even a caller that waits zero seconds is told of a row that exists."""
    _running[offer.connection_id] += 1  # before anything is awaited: calls that arrive together are all counted
    try:
        if not written:
            await ledger.write(opening)
    except BaseException:
        _leave(offer.connection_id)
        raise
    task = asyncio.create_task(_perform(opening.id, opening.tenant_id, opening.created_at, offer, arguments))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: _leave(offer.connection_id))
    return task


def _leave(connection_id: UUID) -> None:
    _running[connection_id] -= 1
    if not _running[connection_id]:
        del _running[connection_id]


async def _perform(
    call_id: UUID, tenant_id: UUID, created_at: datetime, offer: Offer, arguments: dict[str, Any], attempt: int = 1
) -> Report:
    state, result, error = CallState.SUCCEEDED, None, None
    try:
        with watching.cancellable(call_id):
            answer = await _ask(offer, arguments)
        result = _result(answer)
        if answer.is_error:
            state = CallState.FAILED
    except DuvoError as failure:
        state, error = _verdict(failure)
        error.__cause__ = failure
    except Exception:
        # A fault of ours. How far the call got is not known, and its row says so now instead of when it is swept.
        logger.exception("Call %s failed inside", call_id)
        state, error = CallState.OUTCOME_UNKNOWN, OutcomeUnknown("Something went wrong here: the tool may have run.")
    finished_at = timezone.now()
    outcome = ledger.Outcome(
        id=call_id,
        attempt=attempt,
        state=state,
        tenant_id=tenant_id,
        result=orjson.dumps(result) if result is not None else b"",
        error_code=error.code if error else "tool_error" if state == CallState.FAILED else "",
        error_sentence=error.sentence[:300] if error else "",
        finished_at=finished_at,
    )
    try:
        await ledger.write(outcome)
    except ledger.LedgerUnavailable:
        # The tool has run: its caller gets the result all the same, and the sweeper ends the row as unknown.
        logger.exception("The outcome of call %s could not be written down", call_id)
    watching.has_ended(call_id)
    if error is None and offer.doubted:
        await in_thread(access.trust_again, offer.connection_id, offer.bearer)
    elif error is not None and isinstance(error.__cause__, mcp_client.Challenged | mcp_client.EraChanged):
        await in_thread(access.note, offer.connection_id, error.__cause__, offer.bearer)
    return Report(call_id, offer.public_name, state, created_at, finished_at, result, error)


async def _ask(offer: Offer, arguments: dict[str, Any]) -> mcp_client.ToolResult:
    """Ask with a token that is fresh; one that is refused with 401 is renewed once, as the tool has not run."""
    server, bearer = offer.server, offer.bearer
    if bearer is not None and bearer.stale(timezone.now()):
        bearer = await refreshing.renewed(bearer)
        server = bearing(server, bearer)
    try:
        return await mcp_client.call_tool(server, offer.upstream_name, arguments, mirrored=offer.mirrored)
    except mcp_client.Unauthorized as refusal:
        if bearer is None:
            raise
        try:
            bearer = await refreshing.renewed(bearer, refused=True)
        except NeedsSignIn:
            raise refusal from None
        server = bearing(server, bearer)
        return await mcp_client.call_tool(server, offer.upstream_name, arguments, mirrored=offer.mirrored)


def _written(arguments: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(arguments)
    except TypeError as error:  # JSON is read more deeply than it is written
        raise ArgumentsRefused([Fault("", "The arguments are nested too deeply.")]) from error


def _result(answer: mcp_client.ToolResult) -> dict[str, Any]:
    return {"is_error": answer.is_error, "content": answer.content, "structured_content": answer.structured}


def _verdict(failure: DuvoError) -> tuple[CallState, CallError]:
    if isinstance(failure, CallCancelled):
        return CallState.CANCELLED, failure
    if isinstance(failure, OAuthError):
        retry_after = 15 if isinstance(failure, ProviderUnavailable) else None
        sentence = f"The connection is not signed in: {failure.sentence}"
        return CallState.FAILED, ConnectionNotReady(sentence, code="credential_not_ready", retry_after=retry_after)
    if isinstance(failure, mcp_client.Forbidden) and (scopes := challenges.missing_scopes(failure.www_authenticate)):
        sentence = f"The tool needs the permission “{scopes}”, which the connection's sign-in does not have."
        return CallState.FAILED, CallFailed(sentence, code="insufficient_scope")
    if isinstance(failure, mcp_client.TimedOut):
        return CallState.TIMED_OUT, CallTimedOut(failure.sentence)
    if isinstance(failure, mcp_client.McpError) and failure.outcome_unknown:
        return CallState.OUTCOME_UNKNOWN, OutcomeUnknown()
    if isinstance(failure, Refused | Unreachable):
        return CallState.FAILED, CallFailed(failure.sentence, code=failure.code)
    return CallState.FAILED, CallFailed(
        failure.sentence, code=f"upstream_{failure.code}", retry_after=getattr(failure, "retry_after", None)
    )


def _lease(now: datetime, offer: Offer) -> datetime:
    return now + timedelta(seconds=offer.server.timeout) + _GRACE


def _enqueue(call_id: UUID) -> None:
    try:
        current_app.send_task("tools.run_call", kwargs={"call_id": str(call_id)}, retry=False)
    except (OperationalError, OSError):
        return  # the row says queued: the sweeper enqueues it once the broker is back
