"""A question that a server asks while it keeps a stream open: put to the call's row, and answered from there."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from connections.errors import SealKeyUnknown
from connections.threads import in_thread
from tools.calls import watching
from tools.errors import OutcomeUnknown
from tools.mcp_client import Questions
from tools.models.call_states import AskedIn
from tools.models.calls import CallQuerySet

_LONGEST = timedelta(hours=1)  # an open stream lives no longer than a call may
_CANCELLED = {"action": "cancel"}

Responses = dict[str, dict[str, Any]]


async def put(
    row: CallQuerySet,
    call_id: UUID,
    seal: Callable[[Any], str],
    questions: Questions,
    decision_hours: int,
    *,
    asked: Callable[[], Awaitable[object]],
    of: UUID,
) -> Responses:
    """Let a person or the program answer; what nobody answers in time is answered `cancel`.

    `row` is the call's as long as its attempt is the newest, and `of` its tenant; `asked` is awaited once it asks.
    """
    until = timezone.now() + min(timedelta(hours=decision_hours), _LONGEST)

    if not await in_thread(row.ask, AskedIn.STREAM, sealed(seal, questions), until, of=of):
        return nobody(questions)
    await asked()
    watching.notify(call_id)
    seconds = (until - timezone.now()).total_seconds() + settings.CALL_LEASE * 2  # the sweep answers earlier
    await watching.until(call_id, lambda seen: seen.answered or seen.finished, seconds)
    given = await in_thread(_take_answers, row, of=of)
    return {key: given.get(key, _CANCELLED) for key in questions.requests}


def nobody(questions: Questions) -> Responses:
    """Return the answers to what nobody is asked."""
    return dict.fromkeys(questions.requests, _CANCELLED)


def sealed(seal: Callable[[Any], str], questions: Questions) -> str:
    """Return what a server asks as the row stores it, with an id that distinguishes it from the next question."""
    return seal({**asdict(questions), "id": secrets.token_hex(8)})


def _take_answers(row: CallQuerySet) -> Responses:
    call = row.first()
    try:
        given = (call.answers() if call is not None else None) or {}
    except SealKeyUnknown as unknown:  # the server waits for them, and no other process can give them
        raise OutcomeUnknown("The answers could not be opened: the tool may have run.") from unknown
    row.go_on()
    return given
