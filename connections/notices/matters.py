"""Finding what people are to be told of connections, and gathering what has come up into bulletins.

A matter is opened when something has been so for a while, and resolved when it is done. What comes up within half a
minute is told together, and another bulletin of the same kind follows five minutes later at the earliest: however much
comes up, nobody gets more mails than that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, Max, Min, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat

from connections import egress, shares
from connections.models import Bulletin, Connection, Kind, Matter
from connections.states import ReachabilityState, ToolsState

MOST_AT_ONCE = 1_000  # matters that are opened by one run; the next one goes on
_GATHERED = timedelta(seconds=30)
_PAUSE = timedelta(minutes=5)  # between two bulletins of a kind to one organization
_LASTING = timedelta(minutes=3)  # a server that is away, or back, for less than this is not told about
_FAILED_CHECKS = 3
_REVIEWING = timedelta(minutes=5)  # who has just added a connection reviews its tools anyway
_BACK = (ReachabilityState.REACHABLE, ReachabilityState.BUSY)
_AS_BEFORE = Q(  # an outage's connection that is away, still at the same server
    connection__enabled=True,
    connection__reachability_state=ReachabilityState.UNREACHABLE,
    connection__server_url__startswith=Concat("server", Value("/")),
)


def watch_connections(now: datetime) -> None:
    """Open the matters of connections whose server is away or back, or whose tools wait; resolve those that are done.

    An outage is one matter of each connection, and is over when every connection to that server is back.
    """
    _open_reviews(now)
    _open_outages(now)
    _end_outages(now)
    recovered = Matter.objects.filter(kind=Kind.RECOVERED)
    recovered.filter(connection__reachability_state=ReachabilityState.UNREACHABLE).resolve(now)
    recovered.filter(bulletin__isnull=False, bulletin__deliver_at=None).resolve(now)  # nothing is left to be said


def gather(now: datetime) -> None:
    """Make a bulletin, due now, of what each organization, or person, has not been told yet of each kind."""
    untold = Matter.objects.untold().order_by()
    groups = untold.values("connection__tenant", "kind", "owner").annotate(since=Min("created_at"))
    ripe = groups.filter(since__lte=now - _GATHERED)
    for tenant, kind, owner in ripe.values_list("connection__tenant", "kind", "owner"):
        same = Bulletin.objects.filter(tenant=tenant, kind=kind, owner=owner)
        last = same.aggregate(at=Max("created_at"))["at"]
        if last is not None and last > now - _PAUSE:
            continue
        with transaction.atomic():
            bulletin = Bulletin.objects.create(
                tenant_id=tenant, kind=kind, owner_id=owner, created_at=now, deliver_at=now
            )
            these = untold.filter(connection__tenant=tenant, kind=kind, owner=owner)
            chosen = Matter.objects.filter(pk__in=these.values("pk"))
            if not chosen.filter(bulletin=None).update(bulletin=bulletin):  # somebody else was quicker
                bulletin.delete()


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the bulletins that are to be sent, tenants in turn: for the first time, or again."""
    return shares.admitted(Bulletin.objects.due(now), work, tenant="tenant", when="deliver_at", most=200)


# --- tools that wait for a review ---


def _open_reviews(now: datetime) -> None:
    waiting = Connection.objects.in_use().filter(tools_state=ToolsState.TO_REVIEW)
    lasting = _unopened(waiting.filter(tools_since__lte=now - _REVIEWING), Kind.TOOLS_TO_REVIEW)
    _open(Matter(connection=row, kind=Kind.TOOLS_TO_REVIEW, created_at=now) for row in lasting)
    still = Connection.objects.filter(enabled=True, tools_state=ToolsState.TO_REVIEW, pk=OuterRef("connection"))
    Matter.objects.filter(~Exists(still), kind=Kind.TOOLS_TO_REVIEW).resolve(now)


# --- servers that are away, and back ---


def _open_outages(now: datetime) -> None:
    away = Connection.objects.in_use().filter(
        reachability_state=ReachabilityState.UNREACHABLE, reachability_since__lte=now - _LASTING,
        probe_failures__gte=_FAILED_CHECKS,
    )  # fmt: skip
    found = list(_unopened(away, Kind.UNREACHABLE))
    if not found:
        return
    # Other connections to a server of whose outage the organization was told belong to the same bulletin.
    known = Matter.objects.open().filter(
        kind=Kind.UNREACHABLE, bulletin__isnull=False, connection__tenant__in={row.tenant_id for row in found}
    )
    told = {
        (tenant, server): pk for tenant, server, pk in known.values_list("connection__tenant", "server", "bulletin")
    }
    _open(
        Matter(
            connection=row, kind=Kind.UNREACHABLE, server=_server(row.server_url), created_at=now,
            bulletin_id=told.get((row.tenant_id, _server(row.server_url))),
        )
        for row in found
    )  # fmt: skip


def _end_outages(now: datetime) -> None:
    rows = Matter.objects.open().filter(kind=Kind.UNREACHABLE).exclude(connection__tenant__suspended_at__isnull=False)
    # An outage of which nothing has changed is not over: of the others there are few, however many servers are away.
    changed = set(rows.exclude(_AS_BEFORE).order_by().values_list("connection__tenant", "server"))
    if not changed:
        return
    outages = defaultdict(list)
    near = rows.filter(server__in={server for _, server in changed}).select_related("connection", "bulletin")
    for matter in near:
        if (key := (matter.connection.tenant_id, matter.server)) in changed:
            outages[key].append(matter)
    for matters in outages.values():
        if all(_is_over(matter, now) for matter in matters):
            _end(matters, now)


def _is_over(matter: Matter, now: datetime) -> bool:
    connection = matter.connection
    if not connection.enabled or _server(connection.server_url) != matter.server:
        return True
    if connection.reachability_state == ReachabilityState.UNSUPPORTED:
        return True
    return connection.reachability_state in _BACK and connection.reachability_since <= now - _LASTING


def _end(matters: list[Matter], now: datetime) -> None:
    back = [
        matter.connection for matter in matters
        if matter.connection.enabled and matter.connection.reachability_state in _BACK
    ]  # fmt: skip
    told = any(matter.bulletin is not None and matter.bulletin.attempts for matter in matters)
    with transaction.atomic():
        ended = Matter.objects.filter(pk__in=[matter.pk for matter in matters]).resolve(now)
        if ended and told:
            _open(Matter(connection=row, kind=Kind.RECOVERED, created_at=now) for row in back)


def _server(url: str) -> str:
    return egress.origin(url)[:300]


# --- both ---


def _unopened(rows: QuerySet[Connection], kind: Kind) -> QuerySet[Connection]:
    same = Matter.objects.open().filter(connection=OuterRef("pk"), kind=kind)
    return rows.filter(~Exists(same))[:MOST_AT_ONCE]


def _open(matters: Iterable[Matter]) -> None:
    # Of two runs at the same moment one opens a matter.
    Matter.objects.bulk_create(matters, ignore_conflicts=True)
