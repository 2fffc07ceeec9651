"""Questions that a server asks on the GET stream of a session for a call that another process makes.

The process that reads the stream puts the question to the call's row, waits for the answer there, and sends it. The
process that makes the call sees in the row that a person is asked, and stops the call's clocks meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from connections.threads import in_thread
from tools.calls import pubsub, stream_questions
from tools.mcp_client import Questions
from tools.mcp_client.server_requests import Reply, ServerRequests
from tools.models import Call, McpSession
from tools.models.call_states import UNDER_WAY, CallState
from tools.models.calls import CallQuerySet

_DOUBT = timedelta(seconds=60)  # in which the tool of an abandoned call may still ask
_ABANDONED = [CallState.CANCELLED, CallState.TIMED_OUT, CallState.OUTCOME_UNKNOWN]
_LONGEST = timedelta(days=1)
_MOST = 100


class CallsElsewhere:
    """The calls of one session that other processes make."""

    def __init__(self, session_id: UUID, tenant_id: UUID, replies: Reply, calls_here: Callable[[], set[UUID]]) -> None:
        """Take the session and whose it is, how its server is answered, and which of its calls this process makes."""
        self._session_id = session_id
        self._tenant_id = tenant_id
        self._replies = replies
        self._calls_here = calls_here
        self._known: dict[UUID, ServerRequests] = {}  # each counts how often its call was asked

    async def running(self) -> list[ServerRequests] | None:
        """Return where the questions of each go; None when a task, or a call that was abandoned, may have asked."""
        found = await in_thread(_calls_of, self._session_id, of=self._tenant_id)
        if found is None:
            return None
        elsewhere = found - self._calls_here()
        return [self._requests_of(call_id) for call_id in elsewhere]

    def _requests_of(self, call_id: UUID) -> ServerRequests:
        if call_id not in self._known:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[call_id] = ServerRequests(partial(_put, call_id, self._tenant_id), self._replies)
        return self._known[call_id]


def _calls_of(session_id: UUID) -> set[UUID] | None:
    session = McpSession.objects.live().filter(pk=session_id).first()
    if session is None:
        return set()
    now = timezone.now()
    calls = in_session(session)
    doubt = calls.filter(state__in=_ABANDONED, sent_at__isnull=False, finished_at__gt=now - _DOUBT)
    if doubt.filter(created_at__gt=now - _LONGEST).exists() or calls.tasks().exists():
        return None
    running = set(under_way(session).filter(sent_at__isnull=False).values_list("pk", flat=True))
    return running & {session.current_call} if session.current_call else running  # the others wait for their turn


def in_session(session: McpSession) -> CallQuerySet:
    """Return all calls of a session."""
    return Call.objects.filter(
        assignment=session.assignment_id, connection=session.connection_id, session_name=session.name
    )


def under_way(session: McpSession) -> CallQuerySet:
    """Return the calls of a session that a process has in hand."""
    return in_session(session).filter(Q(finished_at=None), state__in=UNDER_WAY, lease_until__isnull=False)


async def _put(call_id: UUID, its: UUID, questions: Questions) -> dict[str, dict[str, Any]]:
    call = await in_thread(Call.objects.filter(pk=call_id).select_related("tenant").first, of=its)
    if call is None:
        return stream_questions.nobody(questions)
    rows = Call.objects.filter(pk=call_id, attempts=call.attempts)
    return await stream_questions.put(
        rows, call_id, call.seal, questions, call.tenant.decision_hours,
        asked=partial(asyncio.to_thread, pubsub.publish, call_id), of=its,
    )  # fmt: skip
