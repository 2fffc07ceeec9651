"""Calls that wait for a person, as matters that people are told about (`connections.notices.matters`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from connections.models import OF_CALLS, Kind, Matter
from connections.notices.matters import MOST_AT_ONCE
from tools.models import Call
from tools.models.call_states import CallState
from tools.models.calls import CallQuerySet

_STATES = {
    Kind.AWAITING_APPROVAL: CallState.AWAITING_APPROVAL,
    Kind.INPUT_REQUIRED: CallState.INPUT_REQUIRED,
}


def watch(now: datetime) -> None:
    """Resolve the matters of calls that no longer wait, and open one of each call that waits for a person.

    The calls that wait until one person has connected somewhere are one matter of that person.
    """
    for kind, state in _STATES.items():
        resolve(kind, now)
        _open(kind, state, now)
    resolve(Kind.LOGIN_REQUIRED, now)
    _open_logins(now)


def resolve(kind: str, now: datetime, bulletin: UUID | None = None) -> None:
    """Resolve the matters (of this bulletin) whose call no longer waits for what it waited for; not those of others."""
    if kind == Kind.LOGIN_REQUIRED:
        same = {"connection": OuterRef("connection"), "assignment__owner": OuterRef("owner")}
        still = Call.objects.awaiting_login().filter(**same)
    elif kind in OF_CALLS:
        still = _waiting(_STATES[Kind(kind)]).filter(pk=OuterRef("call_id"), waits_until=OuterRef("until"))
    else:
        return
    of_kind = Matter.objects.filter(kind=kind) if bulletin is None else Matter.objects.filter(bulletin=bulletin)
    of_kind.filter(~Exists(still)).resolve(now)


def _open(kind: Kind, state: CallState, now: datetime) -> None:
    known = Matter.objects.open().filter(kind=kind, call_id=OuterRef("pk"))
    calls = _waiting(state).of_active_tenants().filter(~Exists(known), connection__enabled=True)
    names = calls.order_by().values_list("pk", "connection", "tool_name", "assignment__name", "waits_until")
    Matter.objects.bulk_create(
        (
            Matter(
                connection_id=connection, kind=kind, call_id=call, name=tool, caller=(caller or "")[:100],
                until=until, created_at=now,
            )
            # Messages name them in the order of their keys, which are those of time.
            for call, connection, tool, caller, until in sorted(names[:MOST_AT_ONCE])
        ),
        ignore_conflicts=True,
    )  # fmt: skip


def _open_logins(now: datetime) -> None:
    known = Matter.objects.open().filter(
        kind=Kind.LOGIN_REQUIRED, connection=OuterRef("connection"), owner=OuterRef("assignment__owner")
    )
    calls = Call.objects.awaiting_login().of_active_tenants().filter(
        ~Exists(known), connection__enabled=True, assignment__owner__isnull=False
    )  # fmt: skip
    first: dict[tuple[Any, Any], Matter] = {}
    told = calls.order_by("created_at").values_list(
        "pk", "connection", "assignment__owner", "assignment__name", "waits_until"
    )
    for call, connection, owner, caller, until in told[:MOST_AT_ONCE]:
        matter = Matter(
            connection_id=connection, owner_id=owner, kind=Kind.LOGIN_REQUIRED, call_id=call, caller=caller[:100],
            until=until, created_at=now,
        )  # fmt: skip
        first.setdefault((connection, owner), matter)
    Matter.objects.bulk_create(first.values(), ignore_conflicts=True)


def _waiting(state: CallState) -> CallQuerySet:
    return Call.objects.filter(state=state, waits_until__isnull=False)
