"""The credential with which a session's server is asked when no call brings one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from connections import personal
from connections.errors import DuvoError
from connections.models import Authorization, Connection
from oauth import refreshing
from oauth.models import SignIn
from tools.catalog.upstream import server_for, with_bearer
from tools.mcp_client import Server
from tools.models import McpSession


def as_today(row: McpSession, connection: Connection) -> Server:
    """Return the server of a session as it is asked today; raises what stands against it."""
    owner = row.assignment.owner_id if row.assignment is not None else None
    server = replace(server_for(connection, own=personal.held(connection, owner)), era="legacy")
    if connection.authorization != Authorization.OAUTH:
        return server
    return with_bearer(server, refreshing.held(connection, owner))


def renewed(known: Mapping[UUID, int]) -> dict[UUID, tuple[Server, int]]:
    """Return those of these sessions whose token is not of the generation known here, as they are asked from now on."""
    rows = McpSession.objects.live().valid().filter(pk__in=known, sign_in__isnull=False)
    of_sessions = dict(rows.values_list("pk", "sign_in"))
    generations: dict[UUID | None, int] = dict(
        SignIn.objects.filter(pk__in=set(of_sessions.values())).values_list("pk", "generation")
    )
    newer = {
        pk: generation
        for pk, sign_in in of_sessions.items()
        if (generation := generations.get(sign_in, 0)) != known[pk]
    }
    asked: dict[UUID, tuple[Server, int]] = {}
    for row in rows.filter(pk__in=newer).select_related("connection", "assignment"):
        if row.connection is None:  # it is deleted at this moment
            continue
        with suppress(DuvoError):  # whoever calls next is told
            asked[row.pk] = (as_today(row, row.connection), newer[row.pk])
    return asked
