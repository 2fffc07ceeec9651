"""What a listing does to the tools we know: the first is trusted, everything later waits for a person."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
_SEEN_FOR = timedelta(hours=1)  # after which it is written down anew that tools are listed, and old ones are forgotten


class _Known(NamedTuple):
    """What is asked about a tool to see whether a listing says something new of it: no definitions, which are large."""

    name: str
    digest: str
    broken: str
    moving: str
    approved_digest: str
    gone_at: datetime | None
    last_seen_at: datetime


class _Counts(NamedTuple):
    """How many tools of a connection its server lists, and how many of these are set aside or wait for review."""

    listed: int
    broken: int
    waiting: int

    @property
    def state(self) -> tuple[ToolsState, str, str]:
        """Return the tools state, its reason and its sentence."""
        aside = f"Set aside because they cannot be used: {self.broken} of {self.listed} tools." if self.broken else ""
        if self.broken and self.broken == self.listed:
            return ToolsState.SET_ASIDE, "all_set_aside", aside
        if self.waiting:
            waiting = "1 tool waits for review." if self.waiting == 1 else f"{self.waiting} tools wait for review."
            return ToolsState.TO_REVIEW, "tools_to_review", f"{waiting} {aside}".strip()
        return ToolsState.IN_SYNC, "tools_set_aside" if self.broken else "", aside

    def summary(self, gone: int) -> str:
        """Return the sentence for the report of a check."""
        parts = [f"{self.listed} tools listed"]
        if self.broken:
            parts.append(f"{self.broken} set aside because they cannot be used")
        if self.waiting:
            parts.append(f"{self.waiting} waiting for review")
        if gone:
            parts.append(f"{gone} no longer offered")
        return ", ".join(parts) + "."


class SettingsChanged(DuvoError):
    """The connection's settings changed during this check; the next one uses them."""

    code = "settings_changed"


def record_facts(connection: Connection, facts: mcp_client.ServerFacts) -> None:
    """Record what the server says of itself, and the era it speaks, if that is new; raises SettingsChanged."""
    found = {
        "era": facts.era,
        "protocol_version": facts.protocol_version[:20],
        "server_name": (facts.title or facts.name)[:200],
        "server_version": facts.version[:100],
    }
    new = any(getattr(connection, name) != value for name, value in found.items())
    if new and not connection.record(**found):
        raise SettingsChanged


def apply(connection: Connection, listing: mcp_client.Listing) -> str:
    """Bring the tools in line with a listing and return a sentence about it.

    The first listing of a connection is approved as it is; a tool that appears or changes later keeps what was
    approved and is out of use until an admin approves; one that disappears is kept as gone, for a while if nobody ever
    decided about it or used it.
    """
    return _if_unchanged(connection, listing) or _bring_in_line(connection, listing)


def _if_unchanged(connection: Connection, listing: mcp_client.Listing) -> str:
    """Return the sentence about a listing that says nothing new, as most do: one look, and nothing is written.

    Empty if there is something to write. Nothing is locked: what an admin decides at this moment is written by them.
    """
    now = timezone.now()
    known = {row[0]: _Known(*row) for row in connection.tools.order_by().values_list(*_Known._fields)}
    if connection.first_listed_at is None or any(tool.moving for tool in known.values()):
        return ""
    found = drift.compare({name: (tool.digest, tool.broken) for name, tool in known.items()}, _listed(listing))
    if found.appeared or found.changed:
        return ""
    here, gone = [known[each.name] for each in found.same], [known[name] for name in found.gone]
    if any(tool.gone_at or tool.last_seen_at < now - _SEEN_FOR for tool in here):
        return ""
    if any(tool.gone_at is None for tool in gone) or (gone and not here):
        return ""
    counts = _Counts(
        listed=len(here),
        broken=sum(bool(tool.broken) for tool in here),
        waiting=sum(not tool.broken and tool.approved_digest != tool.digest for tool in here),
    )
    return counts.summary(len(gone)) if connection.says("tools", *counts.state) else ""


@transaction.atomic
def _bring_in_line(connection: Connection, listing: mcp_client.Listing) -> str:
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
    known.update((tool.name, tool) for tool in connection.tools.filter(name__in=[each.name for each in found.changed]))
    _digest_as_today(found, known)

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
        changed,
        ["definition", "digest", "approved_digest", "broken", "last_seen_at", "gone_at"],
        batch_size=_WRITTEN_AT_ONCE,
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
    return refresh_state(connection).summary(len(found.gone))


def _digest_as_today(found: drift.Drift, known: dict[str, Tool]) -> None:
    """Derive the digests of changed tools anew, and count those as the same that an earlier release wrote otherwise."""
    same = []
    for each in found.changed:
        tool = known[each.name]
        tool.digest_anew()
        if (tool.digest, tool.broken) == (drift.digest(each.definition, tool.moving), each.broken):
            same.append(each)
    tools = {each.name: known[each.name] for each in same}
    found.changed = [each for each in found.changed if each.name not in tools]
    found.same += same
    Tool.objects.bulk_update(tools.values(), ["digest", "approved_digest"], batch_size=_WRITTEN_AT_ONCE)
    Tool.keep_versions(tools.values())


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


def refresh_state(connection: Connection) -> _Counts:
    """Derive the tools state from what waits for review or is set aside; after a listing and after each approval."""
    tools = connection.tools.all()
    counts = _Counts(
        listed=tools.filter(gone_at=None).count(), broken=tools.broken().count(), waiting=tools.to_review().count()
    )
    connection.set_tools_state(*counts.state)
    return counts


def _listed(listing: mcp_client.Listing) -> list[drift.Listed]:
    whole = [drift.Listed(tool.name, tool.definition) for tool in listing.tools]
    aside = [drift.Listed(tool.name[:_NAME_LENGTH], tool.definition, tool.reason) for tool in listing.set_aside]
    return whole + aside
