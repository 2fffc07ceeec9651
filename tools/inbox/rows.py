"""What the inbox says of each thing: what it is, since when and until when it waits, and where it is decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Min
from django.urls import reverse

from connections import personal
from connections.models import Connection, Handling, Notice, Role, Tenant
from connections.notices import notices
from connections.states import NOT_LET_IN, next_step
from tools.inbox import things
from tools.inbox.kinds import Kind
from tools.inbox.things import Thing
from tools.models import Call

ALIKE = 3  # calls of one tool for one assignment that have rows of their own; the others share one
_NAMED = 3  # connections of one server that are named


@dataclass(kw_only=True)
class Row:
    """One thing as people read it."""

    key: str
    kind: Kind
    code: str  # the colour of its word
    word: str
    title: str
    url: str
    verb: str
    sentence: str
    since: datetime
    tenant: Tenant
    step: str = ""
    until: datetime | None = None
    asks_first: bool = False  # it may be decided on the page of the inbox itself
    alone: bool = True  # it is one thing, which somebody can have
    handler: Handling | None = None
    alike: Any = field(default=None, repr=False)  # what rows of many calls have in common


def of(found: Sequence[Thing], known: Iterable[Tenant] = (), *, handled: bool = True) -> list[Row]:
    """Return the rows of these things, in their order; what is gone meanwhile is left out.

    `known` are organizations that have been read already; who has each thing is left out without `handled`.
    """
    made: dict[Callable[..., Iterable[Row]], list[Thing]] = defaultdict(list)
    for thing in found:
        made[_MADE[thing.kind]].append(thing)
    tenants = {tenant.pk: tenant for tenant in known}
    if unknown := {thing.tenant for thing in found} - tenants.keys():
        tenants |= Tenant.objects.in_bulk(unknown)
    rows = {row.key: row for make, some in made.items() for row in make(some, tenants)}
    if handled:
        _hand_over(rows)
    return _folded([rows[thing.key] for thing in found if thing.key in rows])


def _hand_over(rows: dict[str, Row]) -> None:
    taken = Handling.objects.filter(key__in=list(rows), member__role=Role.ADMIN).select_related("member__user")
    for handling in taken if rows else ():
        rows[handling.key].handler = handling


def _folded(rows: list[Row]) -> list[Row]:
    """Return the rows with one for all further calls of a tool for the same assignment."""
    alike: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if row.alike:
            alike[row.alike].append(row)
    left_out = set()
    for same in alike.values():
        if len(same) > ALIKE + 1:
            _stand_for(same[ALIKE], len(same) - ALIKE)
            left_out |= {row.key for row in same[ALIKE + 1 :]}
    return [row for row in rows if row.key not in left_out]


def _stand_for(row: Row, count: int) -> None:
    _, assignment, tool, state = row.alike
    query = {"state__exact": state, "q": tool} | ({"assignment__id__exact": str(assignment)} if assignment else {})
    row.url, row.verb = f"{reverse('admin:tools_call_changelist')}?{urlencode(query)}", "Show"
    row.title, row.asks_first, row.alone, row.until = f"{count} more calls of {row.title}", False, False, None


# --- calls ---


def _calls(found: list[Thing], tenants: dict[Any, Tenant]) -> Iterable[Row]:
    since = {thing.rows[0]: thing for thing in found}
    calls = Call.objects.filter(pk__in=since, waits_until__isnull=False).select_related("assignment", "connection")
    for call in calls.only(
        "tool_name", "state", "waits_until", "tenant", "assignment__name", "connection__name", "connection__slug"
    ):
        thing = since[call.pk]
        if call.state != {Kind.APPROVAL: "awaiting_approval", Kind.QUESTION: "input_required"}[thing.kind]:
            continue
        page, who = reverse("admin:tools_call_change", args=[call.pk]), call.assignment or "An assignment"
        server = call.connection or "The server"
        asks = thing.kind == Kind.APPROVAL
        yield Row(
            key=thing.key, kind=thing.kind, code=call.state, word=thing.kind.label, title=call.tool_name,
            url=page + ("" if asks else "#question-heading"), verb=str(thing.kind.label), since=thing.since,
            until=call.waits_until, tenant=tenants[thing.tenant], asks_first=asks,
            sentence=f"{who} wants to call it on {server}."
            if asks
            else f"{server} asks something before it goes on for {who}.",
            alike=(thing.kind, call.assignment_id, call.tool_name, call.state),
        )  # fmt: skip


# --- sign-ins ---


def _sign_ins(found: list[Thing], tenants: dict[Any, Tenant]) -> Iterable[Row]:
    by_id = {thing.rows[0]: thing for thing in found}
    for notice in Notice.objects.open().filter(pk__in=by_id).select_related("connection"):
        thing = by_id[notice.pk]
        yield Row(
            key=thing.key, kind=thing.kind, code="expiring" if notice.until else "expired",
            word=notices.about(notice.reason).word, title=notice.connection.name,
            url=_page(notice.connection) + "#sign-in", verb="Sign in", sentence=notice.sentence,
            step=next_step(notice.reason), since=thing.since, until=notice.until, tenant=tenants[thing.tenant],
            alone=notice.owner_id is None,
        )  # fmt: skip


# --- logins that calls wait for ---


def _logins(found: list[Thing], tenants: dict[Any, Tenant]) -> Iterable[Row]:
    connections = Connection.objects.in_bulk({thing.rows[0] for thing in found})
    owners = {thing: int(thing.key.rpartition(":")[2]) for thing in found}
    waiting = Call.objects.awaiting_login().filter(connection__in=connections, assignment__owner__in=owners.values())
    told = waiting.order_by().values_list("connection", "assignment__owner").annotate(
        Count("pk"), Count("assignment", distinct=True), Min("assignment__name"), Min("waits_until")
    )  # fmt: skip
    facts = {(connection, owner): facts for connection, owner, *facts in told}
    for thing in found:
        connection, key = connections.get(thing.rows[0]), (thing.rows[0], owners[thing])
        if connection is None or key not in facts:
            continue
        calls, assignments, name, until = facts[key]
        whose = name if assignments == 1 else f"{assignments} of your assignments"
        said = (
            f"A call of {whose} waits until you have connected, and is made then."
            if calls == 1
            else f"{calls} calls of {whose} wait until you have connected, and are made then."
        )
        yield Row(
            key=thing.key, kind=thing.kind, code="needs_sign_in", word=str(thing.kind.label), title=connection.name,
            url=personal.page_to_connect(connection), verb="Connect" if connection.own_kind else "Sign in",
            sentence=said, since=thing.since, until=until, tenant=tenants[thing.tenant], alone=False,
        )  # fmt: skip


# --- connections: tools to review, and what broke ---


def _connections(found: list[Thing], tenants: dict[Any, Tenant]) -> Iterable[Row]:
    rows = Connection.objects.in_bulk({pk for thing in found for pk in thing.rows})
    for thing in found:
        same = sorted((rows[pk] for pk in thing.rows if pk in rows), key=attrgetter("name"))
        if same and thing.kind == Kind.REVIEW:
            yield _review(thing, same[0], tenants)
        elif same:
            yield _of_one(thing, same[0], tenants) if len(same) == 1 else _of_many(thing, same, tenants)


def _review(thing: Thing, connection: Connection, tenants: dict[Any, Tenant]) -> Row:
    query = urlencode({"connection__id__exact": str(connection.pk), "availability": "review"})
    return Row(
        key=thing.key, kind=thing.kind, code="tool_changed", word="Review", title=connection.name,
        url=f"{reverse('admin:tools_tool_changelist')}?{query}", verb="Review",
        sentence=connection.tools_sentence or "Tools are new or have changed.", since=thing.since,
        tenant=tenants[thing.tenant],
    )  # fmt: skip


def _of_one(thing: Thing, connection: Connection, tenants: dict[Any, Tenant]) -> Row:
    word = connection.headline
    return Row(
        key=thing.key, kind=thing.kind, code=word.value, word=str(word.label), title=connection.name,
        url=_page(connection), verb="Open", sentence=_trouble(connection), step=connection.next_step, since=thing.since,
        tenant=tenants[thing.tenant],
    )  # fmt: skip


def _of_many(thing: Thing, same: list[Connection], tenants: dict[Any, Tenant]) -> Row:
    word, server = same[0].headline, same[0].server_url.partition("://")[2].partition("/")[0].partition("?")[0]
    names = ", ".join(row.name for row in same[:_NAMED])
    more = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
    page = f"{reverse('admin:connections_connection_changelist')}?{urlencode({'status': 'attention', 'q': server})}"
    return Row(
        key=thing.key, kind=thing.kind, code=word.value, word=str(word.label),
        title=f"{len(same)} connections to {server}", url=page, verb="Show",
        sentence=f"{names}{more}. {_trouble(same[0])}", step=same[0].next_step, since=thing.since,
        tenant=tenants[thing.tenant],
    )  # fmt: skip


def _trouble(connection: Connection) -> str:
    if connection.reachability_state in things.AWAY:
        return connection.reachability_sentence
    return connection.credential_sentence if connection.credential_state in NOT_LET_IN else connection.tools_sentence


def _page(connection: Connection) -> str:
    return reverse("admin:connections_connection_change", args=[connection.pk])


_MADE: dict[Kind, Callable[[list[Thing], dict[Any, Tenant]], Iterable[Row]]] = {
    Kind.APPROVAL: _calls,
    Kind.QUESTION: _calls,
    Kind.LOGIN: _logins,
    Kind.SIGN_IN: _sign_ins,
    Kind.REVIEW: _connections,
    Kind.BROKEN: _connections,
}
