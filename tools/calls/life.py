"""The life of a call: asked for, decided, made, answered, ended.

    start     a caller asks: checks, writes the row, then waits for the outcome or leaves it to a worker
    approve   an admin allows a call of a tool whose calls are approved one by one; `refuse` ends it
    resume    a queued call is made, as workers make it: `queued.py` says how, `claiming.py` when, `turns.py` whose
    cancel    a caller or an admin no longer wants it
    sweep     ends, or queues again, the calls of dead processes and those that nobody approved or answered in time

The row is committed before the first byte leaves. Nothing is sent twice: a call whose process died while it ran, or
whose connection broke after the request was sent, ends as `outcome_unknown`. `runs.py` is one run of a call, and
`answering.py` handles the answers to what its server asks in the middle.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from connections import egress
from connections.context import acting_for
from connections.threads import in_thread
from tools.callers import Principal
from tools.calls import (
    acting,
    answering,
    ending,
    idempotency,
    limits,
    logins,
    offers,
    opening,
    pubsub,
    queued,
    runs,
    watching,
)
from tools.calls import arguments as arguments_
from tools.calls.exchanging import Seen
from tools.calls.opening import Opened, Wanted
from tools.calls.outcomes import Report, report_of, session_of
from tools.calls.runs import Run
from tools.errors import CallCancelled, CallerGone, LoginExpired, NotApproved, OutcomeUnknown
from tools.models import Call
from tools.models.call_states import MOST_ATTEMPTS, CallState
from tools.payloads.raw_json import Json, RawJson

_SWEPT_AT_ONCE = 500
_NOT_MADE = "The call was cancelled before it was made."

_tasks: set[asyncio.Task[Any]] = set()  # strong references: the loop keeps only weak ones


async def start(
    principal: Principal,
    name: str,
    arguments: Json,
    *,
    wait: float,
    in_worker: bool = False,
    idempotency_key: str | None = None,
    traceparent: str = "",
    session: str = "",
    waits_for_login: bool = False,
) -> Report:
    """Make a call and return its report; one that is not finished after `wait` seconds goes on and is reported so.

    With `in_worker` the call is left to a worker, as calls of slow tools and approved calls are. With a key that was
    used before, the call is the one it names. `session` names the session at a server that keeps some. With
    `waits_for_login` a call whose assignment's owner has not connected is left waiting for that, and reported at once.
    Raises CallError when the call cannot be made at all, idempotency.BadKey, CallerGone for a token that is no longer
    valid, and LedgerUnavailable when it cannot be written down; in all cases nothing was sent.
    """
    assert principal.assignment_id is not None  # noqa: S101 - the view admits only assignments
    key = await arguments_.key_of(idempotency_key, name, arguments, session, tenant=principal.tenant_id)
    if key is not None:  # before the tool is looked up: a repeated request gets its call even if the tool is set aside
        first = await in_thread(
            idempotency.find_call, principal.assignment_id, key, timezone.now(), of=principal.tenant_id
        )
        if first is not None:
            return await _follow_repeat(first, principal, wait)
    text = arguments_.as_json(arguments)
    opened = await opening.open_call(
        Wanted(
            principal, principal.assignment_id, name, arguments, text, wait, in_worker, key, traceparent, session,
            waits_for_login,
        )
    )  # fmt: skip
    if isinstance(opened, Call):
        return await _follow_repeat(opened, principal, wait)
    row = opened.row
    if row.state == CallState.RUNNING:
        return await _run_here(opened, arguments, wait)
    if row.awaits_login:
        return await in_thread(lambda: report_of(Call.objects.get(pk=row.id)), of=row.tenant_id)
    if row.state == CallState.QUEUED:
        pubsub.notify_workers_soon()
    if not wait:
        told, state = session_of(session, restarted=False), CallState(row.state)
        return Report(row.id, name, state, row.created_at, waits_until=row.waits_until, session=told)
    call = await in_thread(lambda: Call.objects.get(pk=row.id), of=row.tenant_id)
    return await follow(call, wait=wait, by=principal.token_id, follower=opened.follower)


async def follow(
    call: Call,
    *,
    wait: float,
    to_the_end: bool = False,
    by: UUID | None = None,
    follower: limits.FollowerSlot | None = None,
) -> Report:
    """Return the report of a call as soon as it has ended (or asks something), at the latest after `wait` seconds.

    With `to_the_end` it waits on when the call asks something. Raises CallerGone as soon as the token `by` with which
    somebody waits is no longer valid, and, without `to_the_end`, LimitReached when its assignment waits for as many
    calls as it may.
    """

    def enough(seen: Seen) -> bool:
        return seen.finished or (seen.state == CallState.INPUT_REQUIRED and not (seen.answered or to_the_end))

    try:
        if wait and not enough(Seen.of(call)):
            if follower is None and call.assignment_id is not None and not to_the_end:
                follower = await opening.follower(call.assignment_id, call.tenant_id, wait)
            await watching.until(call.pk, enough, wait, by=by)
            call = await in_thread(lambda: Call.objects.get(pk=call.pk), of=call.tenant_id)
    finally:
        if follower is not None:
            limits.release_follower(follower)
    return await in_thread(report_of, call, of=call.tenant_id)


def cancel(call: Call) -> None:
    """End a call that no process has in hand now; a running one is interrupted within a second."""
    now, row = timezone.now(), Call.objects.filter(pk=call.pk)
    # Written first: a process that leaves the call after this ends it, and one that no process has is ended below.
    if not row.filter(finished_at=None).update(cancel_requested_at=now):
        return
    unsent = row.filter(state__in=[CallState.QUEUED, CallState.AWAITING_APPROVAL], sent_at=None)
    if unsent.end(CallState.CANCELLED, CallCancelled.code, _NOT_MADE, now):
        return
    nobodys = row.filter(Q(lease_until=None) | Q(state=CallState.QUEUED))
    if nobodys.end(CallState.CANCELLED, CallCancelled.code, CallCancelled().sentence, now):
        if row.exclude(sealed_task="").exists():
            ending.cancel_task(call.pk)
        return
    pubsub.publish(call.pk)


def approve(call: Call, *, by: str) -> bool:
    """Approve a call that awaits it, and queue it; False when that was decided before.

    Raises Ended or OrganizationSuspended when something that the call needs has ended, and ToolReplaced, with the call
    ended, when the tool, its definition or the server is not the one that the call was made for.
    """
    now = timezone.now()
    if other := offers.replaced(call):
        raise ending.end_as_replaced(call, Call.objects.filter(pk=call.pk, state=CallState.AWAITING_APPROVAL), other)
    if call.state == CallState.AWAITING_APPROVAL:
        ending.check_or_stop(call)
    approved = Call.objects.filter(pk=call.pk).approve(by, now)
    if approved:
        pubsub.notify_workers()
    return bool(approved)


def refuse(call: Call, *, by: str, reason: str) -> bool:
    """End a call that awaits approval, with a reason for its caller; False when that was decided before."""
    sentence = f"An organization admin refused the call: {reason}" if reason else "An organization admin refused it."
    waiting = Call.objects.filter(pk=call.pk, state=CallState.AWAITING_APPROVAL)
    return bool(waiting.end(CallState.FAILED, NotApproved.code, sentence, timezone.now(), decided_by=by[:200]))


def resume(call_id: UUID) -> None:
    """Run a queued call to its end, from synchronous code; a call that is no longer queued is left alone."""
    call = Call.objects.filter(pk=call_id, state=CallState.QUEUED).first()
    if call is not None:
        egress.run(queued.run(call))


def sweep(now: datetime) -> list[UUID]:
    """End the calls that no process has in hand any more, and return those that went back to the queue.

    These were under way and may be made again: nothing of them was sent, or their caller gave a key and the tool is
    idempotent. No call is made more than three times.
    """
    idempotency.forget(now)
    ending.sweep(now)
    if Call.objects.awaiting_login().exists():
        logins.sweep()
    if Call.objects.filter(finished_at=None, waits_until__lt=now).exists():
        _end_waiting(now)
    return _sweep_orphans(now) if Call.objects.orphans(now).exists() else []


def _end_waiting(now: datetime) -> None:
    with transaction.atomic():
        unapproved = Call.objects.waiting_too_long(now, CallState.AWAITING_APPROVAL).unlocked()
        unapproved.end(CallState.FAILED, "approval_expired", "No organization admin approved the call in time.", now)
        late = Call.objects.waiting_too_long(now, CallState.QUEUED).unlocked()
        late.end(CallState.FAILED, LoginExpired.code, LoginExpired().sentence, now)
        asking = Call.objects.waiting_too_long(now, CallState.INPUT_REQUIRED).unlocked()
        ids = list(asking.values_list("pk", flat=True)[:_SWEPT_AT_ONCE])
    for call in Call.objects.filter(pk__in=ids):
        answering.answer_for_nobody(call)


def _sweep_orphans(now: datetime) -> list[UUID]:
    with transaction.atomic():
        again = _end_orphans(now)
    if again:
        pubsub.notify_workers()
    return again


def _end_orphans(now: datetime) -> list[UUID]:
    """Queue the orphans that may be made again and end the others; return the former.

    One that somebody has locked is left for the next sweep: the others do not wait for it.
    """
    orphans = Call.objects.orphans(now)
    repeatable = orphans.repeatable()
    again = list(repeatable.filter(state=CallState.RUNNING).values_list("pk", flat=True)[:_SWEPT_AT_ONCE])
    orphans.filter(pk__in=again, cancel_requested_at=None).unlocked().queue_again(now)
    orphans.unwanted().filter(sent_at=None).unlocked().end(CallState.CANCELLED, CallCancelled.code, _NOT_MADE, now)
    orphans.filter(sent_at=None, attempts__gte=MOST_ATTEMPTS).unlocked().end(
        CallState.FAILED, "never_sent", "Its process died each time before the call was sent. Nothing was sent.", now
    )
    lost = orphans.exclude(pk__in=repeatable.filter(state=CallState.RUNNING).values("pk"))
    lost.unlocked().end(
        CallState.OUTCOME_UNKNOWN,
        OutcomeUnknown.code,
        "The process that made this call died: the tool may have run. Check before you try again.",
        now,
    )
    return again


async def _run_here(opened: Opened, arguments: Json, wait: float) -> Report:
    """Run the call, whose row is committed, in this process, and return its report after `wait` seconds at most."""
    asks: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    row, offer = opened.row, opened.offer
    run = Run(
        row.id, row.tenant_id, row.created_at, row.created_at, offer,
        arguments if offer.mirrored else RawJson(row.arguments),  # sent as they were serialized to be stored
        slot=opened.slot, traceparent=row.traceparent, sent=True, asks=asks, token_id=row.token_id,
        session_name=row.session_name,
    )  # fmt: skip
    with acting_for(run.tenant_id):
        task = asyncio.create_task(runs.perform(run))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    either: list[asyncio.Future[Any]] = [task, asks]
    await asyncio.wait(either, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    if asks.done() and not asks.result():
        raise CallerGone
    if asks.done():
        return await in_thread(lambda: report_of(Call.objects.get(pk=run.call_id)), of=run.tenant_id)
    told = session_of(row.session_name, restarted=False)
    return Report(row.id, offer.public_name, CallState.RUNNING, row.created_at, session=told, account=row.account)


async def _follow_repeat(first: Call, principal: Principal, wait: float) -> Report:
    """Follow the call that was made with the same key.

    Raises CallerGone when the token is no longer valid, and ActingRefused if only the owner's tokens may see the call.
    """
    await in_thread(_check_repeat, principal.token_id, first, of=principal.tenant_id)
    return replace(await follow(first, wait=wait, by=principal.token_id), replayed=True)


def _check_repeat(token_id: UUID, first: Call) -> None:
    if ending.invalid_tokens({token_id}, timezone.now()):  # no row is opened that would find it out
        raise CallerGone
    acting.check_access(token_id, first)
