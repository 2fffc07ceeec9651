"""What a listing does to the tools we know: the first is trusted, everything later waits for a person."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from connections import egress, quotas
from connections.errors import DuvoError
from connections.models import Connection
from connections.states import ToolsState
from tools import mcp_client
from tools.definitions import drift
from tools.definitions.policy import public_name
from tools.models import Tool, ToolVersion
from tools.models.catalog import FIRST_LISTING

_NAME_LENGTH = 200
_WRITTEN_AT_ONCE = 500


class SettingsChanged(DuvoError):
    """The connection's settings changed during this check; the next one uses them."""

    code = "settings_changed"


def record_facts(connection: Connection, facts: mcp_client.ServerFacts) -> None:
    """Record what the server says of itself, and the era it speaks; raises SettingsChanged."""
    if not connection.record(
        era=facts.era,
        protocol_version=facts.protocol_version[:20],
        server_name=(facts.title or facts.name)[:200],
        server_version=facts.version[:100],
    ):
        raise SettingsChanged


@transaction.atomic
def apply(connection: Connection, listing: mcp_client.Listing) -> str:
    """Bring the tools in line with a listing and return a sentence about it.

    The first listing of a connection is approved as it is; a tool that appears or changes later keeps what was
    approved and is out of use until an admin approves; one that disappears is kept as gone, for a while if nobody ever
    decided about it or used it.
    """
    # One listing at a time, and never the listing of a server that the connection no longer points to.
    if lock(connection) != connection.revision:
        raise SettingsChanged
    now = timezone.now()
    trusted = connection.first_listed_at is None
    # Only the digests are compared: the definitions of thousands of tools, most of them the same, are megabytes.
    _hold_those_of_another_server(connection)
    known = {tool.name: tool for tool in connection.tools.defer("definition", "approved_definition")}
    digests = {name: (tool.digest, tool.broken) for name, tool in known.items()}
    moving = {name: tool.moving for name, tool in known.items() if tool.moving}
    found = drift.compare(digests, _listed(listing), moving)

    if found.appeared or found.changed:
        quotas.check_stored(connection.tenant)
    taken = {tool.public_name for tool in known.values()}
    appeared = []
    for listed in found.appeared:
        tool = Tool(connection=connection, name=listed.name, first_seen_at=now)
        tool.public_name = public_name(connection.slug, listed.name, taken)
        taken.add(tool.public_name)
        tool.update_from(listed, now)
        if trusted and not tool.broken:
            tool.trust(by=FIRST_LISTING, now=now)
        appeared.append(tool)
    Tool.objects.bulk_create(appeared, batch_size=_WRITTEN_AT_ONCE)

    for listed in found.changed:
        known[listed.name].update_from(listed, now)
    changed = [known[listed.name] for listed in found.changed]
    Tool.objects.bulk_update(
        changed, ["definition", "digest", "broken", "last_seen_at", "gone_at"], batch_size=_WRITTEN_AT_ONCE
    )
    connection.tools.filter(name__in=[listed.name for listed in found.same]).update(last_seen_at=now, gone_at=None)
    connection.tools.filter(name__in=found.gone, gone_at=None).update(gone_at=now)
    _follow(connection, {each.name: each.definition for each in (*found.same, *found.changed) if each.name in moving})
    Tool.keep_versions(appeared + changed)
    if appeared or changed:
        ToolVersion.objects.filter(tool__connection=connection).prune()
    connection.tools.all().forget_gone(now)

    if trusted:
        connection.record(first_listed_at=now)
    refresh_state(connection)
    return _summary(connection, found)


def _hold_those_of_another_server(connection: Connection) -> None:
    """Review descriptions again that an admin lets change, but of the server that the connection led to before."""
    free = connection.tools.exclude(moving="").exclude(moving_for=egress.origin(connection.server_url))
    for tool in free:
        tool.hold_still()


def _follow(connection: Connection, listed: dict[str, dict[str, Any]]) -> None:
    """Take over the descriptions that changed by themselves, as an admin lets them."""
    moved = [tool for tool in connection.tools.filter(name__in=listed) if tool.follow(listed[tool.name])]
    Tool.objects.bulk_update(moved, ["definition", "approved_definition"], batch_size=_WRITTEN_AT_ONCE)


def lock(connection: Connection) -> int | None:
    """Lock the connection's row until this transaction ends, so nobody else changes its tools; return its revision.

    Whoever changes tools locks their connection first, so that there are no deadlocks, and nobody counts what waits for
    review while another changes it.
    """
    row = Connection.objects.select_for_update(no_key=True).filter(pk=connection.pk)
    return row.values_list("revision", flat=True).first()


def refresh_state(connection: Connection) -> None:
    """Derive the tools state from what waits for review or is set aside; after a listing and after each approval."""
    tools = connection.tools.all()
    waiting, broken = tools.to_review().count(), tools.broken().count()
    listed, aside = connection.tools.filter(gone_at=None).count(), ""
    if broken:
        aside = f"Set aside because they cannot be used: {broken} of {listed} tools."
    if broken and broken == listed:
        connection.set_tools_state(ToolsState.SET_ASIDE, "all_set_aside", aside)
    elif waiting:
        sentence = f"{waiting} tool waits for review." if waiting == 1 else f"{waiting} tools wait for review."
        connection.set_tools_state(ToolsState.TO_REVIEW, "tools_to_review", f"{sentence} {aside}".strip())
    else:
        connection.set_tools_state(ToolsState.IN_SYNC, "tools_set_aside" if broken else "", aside)


def _listed(listing: mcp_client.Listing) -> list[drift.Listed]:
    whole = [drift.Listed(tool.name, tool.definition) for tool in listing.tools]
    aside = [drift.Listed(tool.name[:_NAME_LENGTH], tool.definition, tool.reason) for tool in listing.set_aside]
    return whole + aside


def _summary(connection: Connection, found: drift.Drift) -> str:
    tools = connection.tools.filter(gone_at=None)
    broken = connection.tools.all().broken().count()
    parts = [f"{tools.count()} tools listed"]
    if broken:
        parts.append(f"{broken} set aside because they cannot be used")
    if waiting := tools.to_review().count():
        parts.append(f"{waiting} waiting for review")
    if found.gone:
        parts.append(f"{len(found.gone)} no longer offered")
    return ", ".join(parts) + "."
