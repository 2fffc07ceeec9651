"""Before a program calls: how many tools of an assignment are ready now, and what keeps the others from it."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, F, Q

from connections.models import ACTING, Connection, Credential
from connections.states import NOT_LET_IN, ReachabilityState, ToolsState
from oauth.models import SignIn
from tools.calls import acting
from tools.models import Assignment, Policy

_AWAY = (ReachabilityState.UNREACHABLE, ReachabilityState.UNSUPPORTED)


class Lack(NamedTuple):
    """A connection, how many of the assignment's tools there are not ready, and why."""

    connection: Connection
    tools: int
    why: str
    to_review: bool  # an admin's review is what is missing
    to_connect: bool  # the owner is to connect


class Preflight(NamedTuple):
    """How many tools there are, how many are ready, how many of these wait for an approval each time, and the rest."""

    total: int
    ready: int
    asking: int
    lacks: list[Lack]


def of(assignment: Assignment) -> Preflight:
    """Return how it is at this moment, by the states of the connections and without asking any server."""
    counted = list(_counted(assignment))
    rows = Connection.objects.in_bulk([row["connection"] for row in counted])
    connected = _connected(assignment, [row for row in rows.values() if row.is_personal])
    who_connects = _who_connects(assignment)
    total = ready = asking = 0
    lacks = []
    for row in counted:
        if (connection := rows.get(row["connection"])) is None:  # deleted at this moment
            continue
        total += row["total"]
        to_connect = connection.is_personal and connection.pk not in connected
        if why := _why(connection) or (who_connects if to_connect else ""):
            lacks.append(Lack(connection, row["total"], why, to_review=False, to_connect=why == who_connects))
            continue
        ready += row["usable"]
        asking += row["asking"]
        if missing := row["total"] - row["usable"]:
            lacks.append(Lack(connection, missing, _parts(row), to_review=bool(row["review"]), to_connect=False))
    return Preflight(total, ready, asking, lacks)


def _counted(assignment: Assignment) -> Any:
    seen, denied = Q(approved_digest=F("digest"), broken="", gone_at=None), Q(policy=Policy.DENY)
    tools = assignment.granted_tools()
    if assignment.scope == Assignment.Scope.ALL:
        tools = tools.filter(gone_at=None)
    return (
        tools.order_by("connection__name", "connection")
        .values("connection")
        .annotate(
            total=Count("pk"),
            usable=Count("pk", filter=seen & ~denied),
            asking=Count("pk", filter=seen & Q(policy=Policy.ASK)),
            denied=Count("pk", filter=denied & Q(gone_at=None)),
            review=Count("pk", filter=Q(broken="", gone_at=None) & ~denied & ~Q(approved_digest=F("digest"))),
            broken=Count("pk", filter=Q(gone_at=None) & ~denied & ~Q(broken="")),
            gone=Count("pk", filter=Q(gone_at__isnull=False)),
        )
    )


def _parts(row: dict[str, Any]) -> str:
    said = {
        "review": "waits for a review" if row["review"] == 1 else "wait for a review",
        "denied": "is denied" if row["denied"] == 1 else "are denied",
        "broken": "cannot be used as the server defines it" if row["broken"] == 1 else "cannot be used",
        "gone": "is no longer offered by the server" if row["gone"] == 1 else "are no longer offered by the server",
    }
    return ", ".join(f"{row[name]} {words}" for name, words in said.items() if row[name]) + "."


def _connected(assignment: Assignment, personal: list[Connection]) -> set[UUID]:
    """Return the personal connections to which the owner has connected, with what fits them as they are now."""
    if not personal or assignment.owner_id is None:
        return set()
    there = {row.pk: row for row in personal}
    mine = {"owner": assignment.owner_id, "connection__in": there}
    signed_in = SignIn.objects.filter(**mine, ended_at=None).select_related("registration")
    entered = Credential.objects.filter(**mine).select_related("connection")
    return {
        *(row.connection_id for row in signed_in if row.fits(there[row.connection_id])),
        *(row.connection_id for row in entered if row.fits),
    }


def _why(connection: Connection) -> str:
    """Return why none of the connection's tools is ready for anybody, "" if that is not so."""
    if not connection.enabled:
        return "The connection is disabled."
    if connection.reachability_state in _AWAY:
        return connection.reachability_sentence or "The server does not answer."
    if connection.tools_state == ToolsState.NEVER_LISTED:
        return "It has not been checked yet."
    if not connection.is_personal and connection.credential_state in NOT_LET_IN:
        return connection.credential_sentence or "The connection is not signed in."
    return ""


def _who_connects(assignment: Assignment) -> str:
    owner = acting.owner_of(assignment)
    if owner is None or owner.role not in ACTING or not owner.user.is_active:
        return "It has no owner who may act, and acts there as its owner."
    return f"{owner.user.get_username()} has to connect."
