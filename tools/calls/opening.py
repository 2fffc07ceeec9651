"""A call is opened: what it is opened on is found, its limits are asked, and its row is written down.

What is known of the tool may be minutes old. Nothing depends on that: the row is written only if all of it still holds,
and a refusal stands only if it was decided on what was read a moment ago. Else it is read and decided again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import deleting
from connections.context import request_id
from connections.errors import DuvoError
from connections.threads import in_thread
from tools.callers import Principal
from tools.calls import arguments as arguments_
from tools.calls import ending, idempotency, ledger, limits, offers
from tools.calls.offers import Found, Offer
from tools.errors import CallerGone, ToolNotFound
from tools.models import Call
from tools.models.call_states import CallState
from tools.payloads.raw_json import Json

_TRIES: Final = 3  # to open a call on rows that are changed meanwhile
_LINGERS: Final = 10.0  # seconds that a slot outlives the wait of a client whose process died


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for; `wait` is how many seconds it waits, and `in_worker` whether a worker is to make it.

    With `waits_for_login` the call waits until the owner of its assignment has connected, where that is missing.
    """

    principal: Principal
    assignment_id: UUID
    name: str
    arguments: Json
    text: bytes  # the arguments as they are stored
    wait: float
    in_worker: bool = False
    key: idempotency.Key | None = None
    traceparent: str = ""
    session: str = ""
    waits_for_login: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A call whose row is committed, with the slots that it has taken."""

    row: ledger.Opening
    offer: Offer
    slot: limits.Slot | None
    follower: limits.FollowerSlot | None


async def open_call(wanted: Wanted) -> Opened | Call:
    """Write a call down, or return the call that was made with the same key.

    Raises CallError when it cannot be made, CallerGone when the token is no longer valid, and LedgerUnavailable.
    """
    asked = (wanted.assignment_id, wanted.principal.token_id, wanted.name)
    its = wanted.principal.tenant_id
    found = await offers.find(*asked, of=its)
    for _ in range(_TRIES):
        try:
            return await _open(wanted, found.offer(waits=wanted.waits_for_login))
        except ledger.Outdated:
            if await in_thread(ending.invalid_tokens, {wanted.principal.token_id}, timezone.now(), of=its):
                raise CallerGone from None
            found = await offers.find_afresh(*asked, of=its)
        except ledger.LedgerUnavailable:
            raise
        except DuvoError as refusal:
            before, found = found, await _recent(found, asked, its)
            if not _same(before, found):
                continue
            if isinstance(refusal, ToolNotFound):
                raise await offers.missing(wanted.assignment_id, wanted.name, of=its) from None
            raise
    raise ledger.Outdated


async def follower(assignment_id: UUID, tenant_id: UUID, wait: float) -> limits.FollowerSlot:
    """Take a slot for a client that waits for a call; raises LimitReached."""
    slot = limits.FollowerSlot("waiters", assignment_id, tenant_id)
    return await limits.acquire_follower(slot, lease=wait + _LINGERS)


def give_back(slot: limits.Slot | None, of_follower: limits.FollowerSlot | None = None) -> None:
    """Give back what a call has taken that is not made here."""
    if slot is not None:
        limits.release(slot, limits.BreakerSignal.NEITHER)
    if of_follower is not None:
        limits.release_follower(of_follower)


def lease() -> timedelta:
    """Return how long a process counts as alive after it has said so."""
    return timedelta(seconds=settings.CALL_LEASE)


async def _recent(found: Found, asked: tuple[UUID, UUID, str], its: UUID) -> Found:
    return found if found.is_recent else await offers.find_afresh(*asked, of=its)


def _same(before: Found, now: Found) -> bool:
    """Whether what was decided on the one holds for the other."""
    if before is now:
        return True
    return isinstance(before.what, Offer) and isinstance(now.what, Offer) and before.what.version == now.what.version


async def _open(wanted: Wanted, offer: Offer) -> Opened | Call:
    await arguments_.check(wanted.arguments, offer.checker, tenant=wanted.principal.tenant_id, text=wanted.text)
    row = _row(wanted, offer, timezone.now())
    at_once, size = row.state == CallState.RUNNING, len(row.arguments)
    slot = waiter = None
    if wanted.wait and not at_once and not row.awaits_login:
        waiter = await follower(row.assignment_id, row.tenant_id, wanted.wait)
    try:
        if at_once:
            slot = await limits.acquire(offer.bounds, lease=settings.CALL_LEASE, size=size)
        else:
            await limits.count(offer.bounds, size=size)
        first = await _write_down(row, wanted.key)
    except BaseException:
        give_back(slot, waiter)
        raise
    if first is not None:
        give_back(slot, waiter)
        return first
    return Opened(row, offer, slot, waiter)


async def _write_down(row: ledger.Opening, key: idempotency.Key | None) -> Call | None:
    """Commit the row; return the call that was made with the same key, if another request was quicker.

    Raises Outdated when the row was not written, as what it is about is not as it was.
    """
    try:
        if await ledger.write(row):
            return None
    except ledger.LedgerUnavailable as failure:
        if deleting.is_gone(failure.__cause__):  # at this moment: its connection, or who asks
            raise ledger.Outdated from failure
        raise
    first = None
    if key is not None:
        first = await in_thread(idempotency.find_call, row.assignment_id, key, row.created_at, of=row.tenant_id)
    if first is None:
        raise ledger.Outdated
    return first


def _row(wanted: Wanted, offer: Offer, now: datetime) -> ledger.Opening:
    lacks = offer.lacks is not None
    in_worker = wanted.in_worker or lacks or offer.runs_in_queue(now)
    state = CallState.AWAITING_APPROVAL if offer.asks else CallState.QUEUED if in_worker else CallState.RUNNING
    tenant_id, key = wanted.principal.tenant_id, wanted.key
    return ledger.Opening(
        id=uuid7(),
        tenant_id=tenant_id,
        assignment_id=wanted.assignment_id,
        token_id=wanted.principal.token_id,
        connection_id=offer.connection_id,
        tool_id=offer.tool_id,
        version=offer.version,
        tool_name=offer.public_name,
        tool_digest=offer.digest,
        server_url=offer.server.url,
        state=state,
        arguments=wanted.text,
        request_id=request_id.get(),
        created_at=now,
        started_at=now if state == CallState.RUNNING else None,
        lease_until={CallState.QUEUED: None if lacks else now, CallState.RUNNING: now + lease()}.get(state),
        waits_until=now + timedelta(hours=offer.decision_hours) if offer.asks or lacks else None,
        traceparent=wanted.traceparent,
        session_name=wanted.session,
        idempotency_key=key.value if key else "",
        body_digest=key.digest(tenant_id, wanted.assignment_id) if key else "",
        account=offer.account if state == CallState.RUNNING else "",
        waits_for_login=wanted.waits_for_login,
    )
