"""What waits for a person: one query over calls, sign-ins and connections, of which each part is bounded by an index.

A thing is for whoever may do it, and for nobody else: a call, a review and a broken connection for the admins of its
organization, a personal sign-in for whose it is. Connections of one server that broke in one way are one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from django.db.models import Case, CharField, Exists, F, Min, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Cast, Concat

from connections.columns import server_of
from connections.models import ACTING, Authorization, Connection, Handling, Notice, Role, Sharing, Tenant, User
from connections.states import NOT_LET_IN, TROUBLE, ReachabilityState, ToolsState, shows
from connections.tenancy import ADMINS, tenants_of
from tools.inbox.kinds import Kind
from tools.models import Call
from tools.models.call_states import CallState

MOST = 100  # things that are counted
_READ = "_inbox_things"
AWAY = (ReachabilityState.UNREACHABLE, ReachabilityState.UNSUPPORTED)


class Thing(NamedTuple):
    """One thing that waits: what it is called here, whose it is, and since when it waits."""

    key: str
    tenant: Any
    since: datetime

    @property
    def kind(self) -> Kind:
        """What is to be done."""
        return Kind(self.key.partition(":")[0])

    @property
    def subject(self) -> str:
        """Return the id of the row that it is about; of broken connections their organization, what broke and where."""
        return self.key.partition(":")[2]


def of(user: User, *, others: bool = False, kind: str = "", tenant: str = "") -> QuerySet[Any, Any]:
    """Return what waits for this person, the newest first, or (`others`) what somebody else has taken.

    `kind` and `tenant` narrow it, where they are given.
    """
    parts = []
    for rows in _of_person(user, kind):
        within = rows.filter(whose=tenant) if tenant else rows
        taken = Handling.objects.filter(key=OuterRef("thing"), member__role=Role.ADMIN).exclude(member__user=user)
        parts.append(_plain(within.filter(Exists(taken) if others else ~Exists(taken))))
    return parts[0].union(*parts[1:]).order_by("-began", "thing") if parts[1:] else parts[0].order_by("-began", "thing")


def listed(user: User, start: int, most: int, **chosen: Any) -> list[Thing]:
    """Return so many of what waits for this person, from this one on."""
    return [Thing(*row) for row in of(user, **chosen)[start : start + most]] if concerns(user) else []


def newest(user: User) -> list[Thing]:
    """Return the newest that wait for this person, at most `MOST`; read once, as a user lives for one request."""
    found: list[Thing] | None = vars(user).get(_READ)
    if found is None:
        found = vars(user)[_READ] = listed(user, 0, MOST)
    return found


def stamp_of(found: list[Thing]) -> str:
    """Return a digest that changes when these things change."""
    return sha256("\n".join(sorted(thing.key for thing in found)).encode()).hexdigest()[:16]


def concerns(user: User) -> bool:
    """Whether anything can ever wait for this person."""
    return user.is_superuser or any(role in ACTING for role in user.roles.values())


def found(user: User, key: str) -> Thing | None:
    """Return the thing of this name if it waits for this person, or for somebody who has taken it."""
    kind = key.partition(":")[0]
    for rows in _of_person(user, kind) if kind in Kind.values and "\0" not in key else ():
        for row in _plain(rows.filter(thing=key))[:1]:
            return Thing(*row)
    return None


def waiting_calls(tenants: QuerySet[Tenant]) -> QuerySet[Call]:
    """Return the calls that wait for somebody to decide or answer."""
    waiting = [CallState.AWAITING_APPROVAL, CallState.INPUT_REQUIRED]
    return Call.objects.filter(tenant__in=tenants, state__in=waiting, waits_until__isnull=False)


def broken(tenants: QuerySet[Tenant]) -> QuerySet[Any]:
    """Return the connections that do not work, without those that only wait for a review or whose notice says it."""
    said = Q(owner=None) | Q(connection__sharing=Sharing.PERSONAL)  # of which each waits for whose it is
    noticed = Exists(Notice.objects.open().filter(said, connection=OuterRef("pk")))
    only_review = Q(tools_state=ToolsState.TO_REVIEW) & ~Q(reachability_state__in=AWAY) & ~_shut_out
    rows = Connection.objects.filter(shows(*TROUBLE), tenant__in=tenants).exclude(only_review)
    rows = rows.exclude(~Q(reachability_state__in=AWAY) & _shut_out & Q(noticed))
    return _named(rows, _broken_key(), "tenant", _broken_since())


def still_there(handlings: QuerySet[Handling]) -> set[str]:
    """Return the names of those of these things that still wait for an admin of their organization."""
    keys, tenants = list(handlings.values_list("key", flat=True)), Tenant.objects.filter(handlings__in=handlings)
    parts = _sources(tenants.filter(suspended_at=None), "", Q(owner=None))
    return {thing for rows in parts for thing, _, _ in _plain(rows.filter(thing__in=keys))} if keys else set()


def _of_person(user: User, kind: str) -> list[QuerySet[Any]]:
    tenants = tenants_of(user, ADMINS).filter(suspended_at=None)
    acting = tenants_of(user, ACTING).filter(suspended_at=None)
    mine = Q(owner=user, connection__tenant__in=acting) | Q(owner=None, connection__tenant__in=tenants)
    return _sources(tenants, kind, mine)


def _sources(tenants: QuerySet[Tenant], kind: str, sign_ins: Q) -> list[QuerySet[Any]]:
    """Return the rows of each kind (of all, for "") that wait for the admins of these, under their names."""
    calls = waiting_calls(tenants)
    wanted: dict[Kind, Callable[[], QuerySet[Any]]] = {
        Kind.APPROVAL: lambda: _named(calls.filter(state=CallState.AWAITING_APPROVAL), _key(Kind.APPROVAL), "tenant"),
        Kind.QUESTION: lambda: _named(calls.filter(state=CallState.INPUT_REQUIRED), _key(Kind.QUESTION), "tenant"),
        Kind.SIGN_IN: lambda: _named(_ended().filter(sign_ins), _key(Kind.SIGN_IN), "connection__tenant"),
        Kind.REVIEW: lambda: _named(_reviews(tenants), _key(Kind.REVIEW), "tenant", F("tools_since")),
        Kind.BROKEN: lambda: broken(tenants),
    }
    return [rows() for name, rows in wanted.items() if kind in ("", name)]


def _plain(rows: QuerySet[Any]) -> QuerySet[Any, Any]:
    """Return names, organizations and beginnings; rows of one name are one thing, which began with the first."""
    things: QuerySet[Any] = rows.order_by().values("thing", "whose").annotate(began=Min("since"))
    return things.values_list("thing", "whose", "began")


def _named(rows: QuerySet[Any], key: Any, tenant: str, since: Any = None) -> QuerySet[Any]:
    named: QuerySet[Any] = rows.annotate(thing=key, whose=F(tenant), since=since or F("created_at"))
    return named


def _key(kind: Kind) -> Concat:
    return Concat(Value(f"{kind}:"), Cast("pk", CharField()))


def _ended() -> QuerySet[Notice]:
    """Return the open notices about sign-ins that will end or have ended."""
    return Notice.objects.open().filter(connection__enabled=True, connection__authorization=Authorization.OAUTH)


def _reviews(tenants: QuerySet[Tenant]) -> QuerySet[Connection]:
    return Connection.objects.filter(tenant__in=tenants, enabled=True, tools_state=ToolsState.TO_REVIEW)


# --- connections that broke ---

_shut_out = Q(credential_state__in=NOT_LET_IN)


def _broken_key() -> Concat:
    part = Case(
        When(reachability_state__in=AWAY, then=Value("server")),
        When(_shut_out, then=F("credential_reason")),
        default=Value("tools"),
        output_field=CharField(),
    )
    whose = Cast("tenant_id", CharField())
    return Concat(Value(f"{Kind.BROKEN}:"), whose, Value(":"), part, Value(":"), server_of("server_url"))


def _broken_since() -> Case:
    return Case(
        When(reachability_state__in=AWAY, then=F("reachability_since")),
        When(_shut_out, then=F("credential_since")),
        default=F("tools_since"),
    )
