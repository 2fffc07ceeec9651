"""How a session at a server ends: idle, ended by somebody, crowded out, or outdated; its server is told by DELETE.

    sweep    ends the sessions that are over by themselves
    due      those whose server is to be told, tenants in turn
    tell     tells one server; one that cannot be reached is tried again twice
    end      ends sessions now, and tells their servers at once

A session of a connection that was changed is ended at the server at which it was opened, with the credential that it
had. To the server of a disabled connection nothing is sent: it is left to give the session up by itself.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from connections import deleting, egress, shares
from connections.errors import DuvoError, SealBroken, SealKeyUnknown
from tools.calls.sessions.credentials import as_today
from tools.calls.sessions.keeping import opened_of
from tools.mcp_client import Server, end_session
from tools.models import McpSession
from tools.models.sessions import McpSessionQuerySet, SessionEnd

PATIENCE: Final = 5.0  # seconds that who ends sessions waits for their servers
_AT_ONCE: Final = 500
_MOST_TRIES: Final = 3
_TELLING: Final = timedelta(seconds=60)  # after which an attempt to tell a server counts as lost
_OPENING: Final = timedelta(minutes=10)  # that a handshake may take
_AGAIN: Final = timedelta(seconds=20)
_KEPT: Final = timedelta(days=1)  # that a program may take to get to know that its session has ended


@transaction.atomic
def sweep(now: datetime) -> int:
    """End the sessions that are over by themselves, and forget those that nobody needs to know of; return how many."""
    live = McpSession.objects.live()
    ended = _some(live.outdated()).end(SessionEnd.CHANGED, now)
    idle = live.filter(idle_until__lt=now, tenant__suspended_at=None).without_task()
    ended += _some(idle).filter(idle_until__lt=now).end(SessionEnd.IDLE, now)  # not if a call has begun meanwhile
    _some(live.filter(opened_at=None, due_at__lt=now - _OPENING)).delete()
    over = McpSession.objects.filter(ended_at__isnull=False, sealed_session="")
    _some(over.filter(Q(program_knows=True) | Q(ended_at__lt=now - _KEPT) | Q(assignment=None))).delete()
    return ended


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the ended sessions whose servers are to be told now, tenants in turn, at most each tenant's share."""
    rows = McpSession.objects.filter(ended_at__isnull=False, due_at__lte=now, tenant__suspended_at=None)
    rows = rows.exclude(sealed_session="")

    def claim(row: QuerySet[McpSession]) -> int:
        return row.update(due_at=now + _TELLING)

    return shares.admitted(rows, work, tenant="tenant", when="due_at", most=_AT_ONCE, claim=claim)


def tell(session_id: UUID) -> None:
    """Tell a server that a session is over; what it says does not matter."""
    row = McpSession.objects.filter(pk=session_id, ended_at__isnull=False).exclude(sealed_session="").first()
    if row is None:
        return
    answered = False
    try:
        server = _server_of(row)
        answered = server is None or egress.run(end_session(server, opened_of(row).session))
    except SealBroken:
        answered = True  # nobody can end it any more
    except SealKeyUnknown:
        answered = False  # a process that has the key tells the server
    same = McpSession.objects.filter(pk=row.pk)
    if answered or row.tries + 1 >= _MOST_TRIES:
        same.update(sealed_session="", due_at=None)
    else:
        same.update(tries=row.tries + 1, due_at=timezone.now() + _AGAIN)


def end(sessions: McpSessionQuerySet, reason: SessionEnd) -> int:
    """End these sessions and tell their servers, which takes seconds at most; return how many there were.

    Servers that others have kept waiting too long are told a moment later, by a worker.
    """
    now = timezone.now()
    ids = list(sessions.live().filter(opened_at__isnull=False).values_list("pk", flat=True))
    chosen = McpSession.objects.filter(pk__in=ids)
    ended = chosen.end(reason, now)
    chosen.update(due_at=now + _TELLING)
    begun = time.monotonic()
    for number, session_id in enumerate(ids):
        if time.monotonic() - begun > PATIENCE:
            McpSession.objects.filter(pk__in=ids[number:]).exclude(sealed_session="").update(due_at=now)
            break
        tell(session_id)
    return ended


def _some(rows: McpSessionQuerySet) -> McpSessionQuerySet:
    some = McpSession.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:_AT_ONCE]))
    return cast("McpSessionQuerySet", deleting.unlocked(some))  # the others do not wait for one that is being deleted


def _server_of(row: McpSession) -> Server | None:
    """Return the server to tell: as it is asked today where nothing has changed, else as it was asked last.

    None where nothing may be sent.
    """
    connection = row.connection
    if connection is not None and not connection.enabled:
        return None
    as_last_asked = opened_of(row).server
    if connection is None or not McpSession.objects.as_opened().filter(pk=row.pk).exists():
        return as_last_asked
    try:
        return as_today(row, connection)
    except DuvoError:
        return as_last_asked
