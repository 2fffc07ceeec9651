"""A worker makes a queued call: what it needs is known or read, its limits are asked, it is claimed, and it runs.

What is known of its tool may be minutes old. The claim checks that all of it still holds, as the statement that opens a
call does; if not, or if anything is in the way, the rows are read and it is decided again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from connections.context import request_id
from connections.errors import DuvoError, SealKeyUnknown
from connections.threads import in_thread
from tools.calls import arguments as arguments_
from tools.calls import ending, ledger, limits, offers, opening, pubsub, runs
from tools.calls.offers import Offer
from tools.calls.outcomes import Report
from tools.calls.runs import Run
from tools.errors import (
    LimitReached,
    NotApproved,
    OrganizationSuspended,
    OutcomeUnknown,
    OwnerNotConnected,
    ToolReplaced,
)
from tools.mcp_client import Answers
from tools.models import Call
from tools.models.call_states import CallState
from tools.models.calls import CallQuerySet

_TRIES = 100  # per second, of all the queued calls together that wait for a slot at one connection
_MOST_COUNTED = 30_000
_OPEN_HERE = 128 * 1024  # characters; opening more would hold the event loop for a millisecond


async def run(call: Call) -> Report | None:
    """Run a queued call in a worker and return its report; None if it was not made: it waits on, or cannot be made.

    One for which there is no slot now stays queued and is due again later. Other processes are notified in any case.
    """
    request_id.set(call.request_id)  # of the request that asked for it: what the logs say of this run is found by it
    offer = await _kept_offer(call)
    report = (await _run_on(call, offer) if offer is not None else None) or await _run_afresh(call.pk, call.tenant_id)
    if report is None or report.finished_at is None:
        pubsub.publish_soon(call.pk)
    return report


async def _kept_offer(call: Call) -> Offer | None:
    """Return the offer that a queued call is made on, perhaps as it was minutes ago: a claim checks its version."""
    if call.assignment_id is None or call.token_id is None:
        return None
    asked = (call.assignment_id, call.token_id, call.tool_name)
    offer = (await offers.find(*asked, of=call.tenant_id)).what
    if not isinstance(offer, Offer) or offer.lacks is not None:
        return None
    return offer if offers.is_for(offer, call) and not _lacks_approval(offer, call) else None


async def _run_on(call: Call, offer: Offer) -> Report | None:
    """Run a call on what is known of its tool; None, with nothing done, if anything is in the way or has changed."""
    try:
        large = len(call.sealed_arguments) > _OPEN_HERE
        run = await asyncio.to_thread(_run, call, offer) if large else _run(call, offer)
        await arguments_.check_later(run.arguments, offer.checker, tenant=run.tenant_id)
        slot = await limits.acquire(offer.bounds, lease=settings.CALL_LEASE, counted=True)
    except DuvoError:  # a refusal stands only if it was decided on what was read a moment ago
        return None
    return await _claim_and_perform(run, slot, partial(_claim_unchanged, call, offer, run))


async def _run_afresh(call_id: UUID, its: UUID) -> Report | None:
    """Run a call of this tenant on its rows as they are now, if it is still queued; it ends if it cannot be made."""
    call = await in_thread(Call.objects.filter(pk=call_id, state=CallState.QUEUED).first, of=its)
    if call is None:
        return None
    try:
        run = await in_thread(_prepared, call, of=its)
        await arguments_.check_later(run.arguments, run.offer.checker, tenant=run.tenant_id)
        slot = await limits.acquire(run.offer.bounds, lease=settings.CALL_LEASE, counted=True)
    except OrganizationSuspended:  # its calls wait
        return None
    except OwnerNotConnected as missing:
        if not await in_thread(_await_login, call, of=its):
            await in_thread(_cannot_be_made, call, missing, of=its)
        return None
    except (LimitReached, SealKeyUnknown) as cause:
        await in_thread(_put_off, call, cause, of=its)
        return None
    except DuvoError as error:
        await in_thread(_cannot_be_made, call, error, of=its)
        return None
    return await _claim_and_perform(run, slot, partial(in_thread, _claim, run, of=its))


async def _claim_and_perform(run: Run, slot: limits.Slot, claim: Callable[[], Awaitable[int | bool]]) -> Report | None:
    try:
        ours = await claim()
    except BaseException:
        opening.give_back(slot)
        raise
    if ours:
        return await runs.perform(replace(run, slot=slot))
    opening.give_back(slot)
    return None


def _claim(run: Run) -> int:
    queued = Call.objects.filter(pk=run.call_id, attempts=run.attempt)
    return queued.claim(run.started_at, timezone.now() + opening.lease(), account=run.offer.account)


async def _claim_unchanged(call: Call, offer: Offer, run: Run) -> bool:
    """Claim a call if everything that its offer was made of is unchanged."""
    assert call.assignment_id is not None and call.token_id is not None  # noqa: S101, PT018 - it has an offer
    return await ledger.write(
        ledger.Claim(
            id=call.pk,
            attempt=run.attempt,
            tenant_id=call.tenant_id,
            assignment_id=call.assignment_id,
            token_id=call.token_id,
            connection_id=offer.connection_id,
            tool_id=offer.tool_id,
            version=offer.version,
            account=offer.account,
            started_at=run.started_at,
            lease_until=timezone.now() + opening.lease(),
        )
    )


def _await_login(call: Call) -> int:
    """Let a queued call wait until the owner has connected, if its caller wants that and nothing of it was sent."""
    return _still(call).filter(sent_at=None).await_login(timezone.now() + timedelta(hours=call.tenant.decision_hours))


def _still(call: Call) -> CallQuerySet:
    """Return the row if it is as this worker has found it: queued for the same attempt, and for no login."""
    return Call.objects.filter(pk=call.pk, state=CallState.QUEUED, attempts=call.attempts, waits_until=None)


def _cannot_be_made(call: Call, error: DuvoError) -> None:
    """End a queued call that can no longer be made: as `outcome_unknown` if an earlier attempt may have been sent."""
    now, queued, row = timezone.now(), _still(call), Call.objects.filter(pk=call.pk, attempts=call.attempts)
    if queued.exclude(sent_at=None).claim(now, now + opening.lease()):
        unknown = f"An earlier attempt may have run, and no other can be made: {error.sentence}"
        row.end(CallState.OUTCOME_UNKNOWN, OutcomeUnknown.code, unknown, now)
    nothing = " Nothing was sent." if isinstance(error, ToolReplaced) else ""
    queued.end(CallState.FAILED, error.code, f"{error.sentence}{nothing}", now)


def _put_off(call: Call, cause: LimitReached | SealKeyUnknown) -> None:
    """Let a queued call be tried again later, by any worker; the more calls wait for the same, the less often each."""
    same = {"tenant": call.tenant_id} if cause.code == "organization_busy" else {"connection": call.connection_id}
    queued_for = Call.objects.filter(state=CallState.QUEUED, finished_at=None, waits_until=None, **same)
    waiting = queued_for[:_MOST_COUNTED].count()
    seconds = max(cause.retry_after or 1.0, waiting / _TRIES) * random.uniform(1, 1.5)  # noqa: S311 - spreads load, no secret
    _still(call).update(lease_until=timezone.now() + timedelta(seconds=seconds))


def _prepared(call: Call) -> Run:
    """Return the run of a queued call; raises the error that says why it can no longer be made."""
    if other := offers.replaced(call):
        raise other
    ending.check(call)
    offer = offers.opened_for(call)
    if _lacks_approval(offer, call):
        raise NotApproved("Since the call was queued, calls of this tool need an approval. Make it again.")
    return _run(call, offer)


def _lacks_approval(offer: Offer, call: Call) -> bool:
    return offer.asks and call.decided_at is None  # since it was queued


def _run(call: Call, offer: Offer) -> Run:
    arguments = call.arguments_to_send()
    asked, given = call.question(), call.answers()
    return Run(
        call.pk, call.tenant_id, call.created_at, timezone.now(), offer, arguments,
        attempt=call.attempts, traceparent=call.traceparent, sent_before=call.sent_at is not None,
        session_name=call.session_name,
        answers=Answers(given, asked["state"]) if asked and given else None,
    )  # fmt: skip
