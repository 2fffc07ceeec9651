"""What waits for a person: two plain queries, as every page asks them, and what follows from their rows.

A thing is for whoever may do it, and for nobody else: a call, a review and a broken connection for the admins of its
organization, a personal sign-in and a login that calls wait for, for whose it is. Connections of one server that broke
in one way are one thing, and so are all calls that wait for one login.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, IntegerField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from connections.models import ACTING, Authorization, Connection, Handling, Notice, Role, Sharing, Tenant, User
from connections.states import NOT_LET_IN, TROUBLE, ReachabilityState, ToolsState, headline
from connections.tenancy import ADMINS, tenants_of
from tools.inbox.kinds import Kind
from tools.models import Call
from tools.models.call_states import CallState

MOST = 100  # things that are counted
AWAY = (ReachabilityState.UNREACHABLE, ReachabilityState.UNSUPPORTED)
_NOT_WELL = (ToolsState.TO_REVIEW, ToolsState.FAILED, ToolsState.SET_ASIDE)
_STATES = {Kind.APPROVAL: CallState.AWAITING_APPROVAL, Kind.QUESTION: CallState.INPUT_REQUIRED}
_READ = "_inbox_things"
_NOBODY = 0


class Thing(NamedTuple):
    """One thing that waits: its name here, whose it is, since when it waits, and the rows that it is about."""

    key: str
    tenant: UUID
    since: datetime
    rows: tuple[UUID, ...]

    @property
    def kind(self) -> Kind:
        """What is to be done."""
        return Kind(self.key.partition(":")[0])


class _Fact(NamedTuple):
    """One row of a sign-in's notice, of a connection that is not well or waits for a login, or of who has something."""

    what: str
    pk: UUID
    tenant: UUID
    connection: UUID
    text: str  # the server's URL; the key of what somebody has
    reason: str
    credential: str
    reachability: str
    tools: str
    credential_since: datetime
    reachability_since: datetime
    tools_since: datetime
    person: int
    shared: bool


def newest(user: User) -> list[Thing]:
    """Return the newest that wait for this person, at most `MOST`; read once, as a user lives for one request."""
    found: list[Thing] | None = vars(user).get(_READ)
    if found is None:
        found = vars(user)[_READ] = listed(user, 0, MOST)
    return found


def listed(user: User, start: int, most: int, *, others: bool = False, kind: str = "", tenant: str = "") -> list[Thing]:
    """Return so many of what waits for this person from this one on, the newest first.

    With `others` it is what somebody else has taken; `kind` and `tenant` narrow it, where they are given.
    """
    if not concerns(user):
        return []
    tenants, acting = _within(user, ADMINS, tenant), _within(user, ACTING, tenant)
    standing, taken = _standing(tenants, Q(owner=user, connection__tenant__in=acting), user, acting)
    found = [thing for thing in standing if (thing.key in taken) is others]
    found += _calls(tenants, taken, others, start + most)
    found = [thing for thing in found if kind in ("", thing.kind)] if kind else found
    return sorted(found, key=attrgetter("since", "key"), reverse=True)[start : start + most]


def stamp_of(found: list[Thing]) -> str:
    """Return a digest that changes when these things change."""
    return sha256("\n".join(sorted(thing.key for thing in found)).encode()).hexdigest()[:16]


def concerns(user: User) -> bool:
    """Whether anything can ever wait for this person."""
    return any(role in ACTING for role in user.roles.values())


def found(user: User, key: str) -> Thing | None:
    """Return the thing of this name if it waits for this person, or for somebody who has taken it."""
    tenants = _within(user, ADMINS)
    calls = _calls(tenants, {key}, True, 1)
    standing, _ = _standing(tenants, Q(owner=user, connection__tenant__in=_within(user, ACTING)), None)
    return next((thing for thing in [*calls, *standing] if thing.key == key), None)


def still_there(handlings: QuerySet[Handling]) -> set[str]:
    """Return the names of those of these things that still wait for an admin of their organization."""
    keys = set(handlings.values_list("key", flat=True))
    if not keys:
        return set()
    tenants = Tenant.objects.filter(pk__in=handlings.values("tenant"), suspended_at=None)
    standing, _ = _standing(tenants, Q(pk__in=[]), None)
    return keys & {thing.key for thing in [*standing, *_calls(tenants, keys, True, len(keys))]}


def _within(user: User, roles: Iterable[str], tenant: str = "") -> QuerySet[Tenant]:
    tenants = tenants_of(user, frozenset(roles)).filter(suspended_at=None)
    return tenants.filter(pk=tenant) if tenant else tenants


# --- calls ---


def _calls(tenants: QuerySet[Tenant], keys: set[str], others: bool, most: int) -> list[Thing]:
    """Return the newest calls that wait for somebody: those of these names (`others`), or all but them."""
    named = Q(pk__in=[pk for pk in map(_id_in, keys) if pk])
    waiting = Call.objects.filter(
        named if others else ~named, tenant__in=tenants, state__in=_STATES.values(), waits_until__isnull=False
    )
    kinds = {state: kind for kind, state in _STATES.items()}
    rows = waiting.order_by("-created_at", "-id").values_list("pk", "tenant", "state", "created_at")
    return [Thing(f"{kinds[CallState(state)]}:{pk}", tenant, at, (pk,)) for pk, tenant, state, at in rows[:most]]


def _id_in(key: str) -> UUID | None:
    kind, _, name = key.partition(":")
    try:
        return UUID(name) if kind in _STATES else None
    except ValueError:
        return None


# --- sign-ins, reviews and connections that broke ---


def _standing(
    tenants: QuerySet[Tenant], mine: Q, user: User | None, acting: QuerySet[Tenant] | None = None
) -> tuple[list[Thing], set[str]]:
    """Return what waits besides decisions: of these organizations, and sign-ins that are `mine`.

    With `acting`, where this person acts, also the logins that calls of their assignments wait for. The set has the
    names of all things that anybody but this person has taken.
    """
    facts = [_Fact(*row) for row in _facts(tenants, mine, user, acting)]
    logins = [fact for fact in facts if fact.what == "login"]
    asked = {fact.connection for fact in logins}  # there, one login does what the notice wants, too
    notices = [fact for fact in facts if fact.what == "notice"]
    connections = [fact for fact in facts if fact.what == "connection"]
    said = asked | {fact.connection for fact in notices if fact.person == _NOBODY or not fact.shared}
    own = user.pk if user else _NOBODY
    things = [
        Thing(f"{Kind.SIGN_IN}:{fact.pk}", fact.tenant, fact.credential_since, (fact.pk,))
        for fact in notices
        if fact.person == _NOBODY or (fact.person == own and fact.connection not in asked)
    ]
    things += [
        Thing(f"{Kind.LOGIN}:{fact.pk}:{own}", fact.tenant, fact.credential_since, (fact.pk,)) for fact in logins
    ]
    things += [
        Thing(f"{Kind.REVIEW}:{fact.pk}", fact.tenant, fact.tools_since, (fact.pk,))
        for fact in connections
        if fact.tools == ToolsState.TO_REVIEW
    ]
    return things + _broken(connections, said), {fact.text for fact in facts if fact.what == "handling"}


def _broken(connections: list[_Fact], said: set[UUID]) -> list[Thing]:
    """Return what broke, by organization, part and server, without that of which a notice says it already."""
    groups: dict[str, list[tuple[datetime, _Fact]]] = defaultdict(list)
    for fact in connections:
        word = headline(
            enabled=True, credential=fact.credential, reachability=fact.reachability, tools=fact.tools
        )  # fmt: skip
        if word not in TROUBLE:
            continue
        if fact.reachability in AWAY:
            part, since = "server", fact.reachability_since
        elif fact.credential in NOT_LET_IN:
            if fact.pk in said:
                continue
            part, since = fact.reason, fact.credential_since
        elif fact.tools != ToolsState.TO_REVIEW:
            part, since = "tools", fact.tools_since
        else:
            continue
        groups[f"{Kind.BROKEN}:{fact.tenant}:{part}:{_server(fact.text)}"].append((since, fact))
    return [
        Thing(key, group[0][1].tenant, min(since for since, _ in group), tuple(fact.pk for _, fact in group))
        for key, group in groups.items()
    ]


def _server(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"[:300]


def _facts(tenants: QuerySet[Tenant], mine: Q, user: User | None, acting: QuerySet[Tenant] | None) -> Any:
    """Return the rows of four tables in the columns of `_Fact`, by one query."""
    notices = Notice.objects.open().filter(
        Q(connection__tenant__in=tenants) | mine,
        connection__enabled=True, connection__authorization=Authorization.OAUTH,
    )  # fmt: skip
    not_well = Q(reachability_state__in=AWAY) | Q(credential_state__in=NOT_LET_IN) | Q(tools_state__in=_NOT_WELL)
    connections = Connection.objects.filter(not_well, tenant__in=tenants, enabled=True)
    taken = Handling.objects.filter(tenant__in=tenants, member__role=Role.ADMIN)
    taken = taken.exclude(member__user=user) if user else taken
    nothing = {"c_text": Value(""), "c_reason": Value(""), "c_states": Value("")}
    told = _columns(
        notices, "notice", "connection__tenant", F("connection"), [*["created_at"] * 3],
        nothing, Coalesce(F("owner"), Value(_NOBODY)), "connection__sharing",
    )  # fmt: skip
    broke = _columns(
        connections, "connection", "tenant", F("pk"), ["credential_since", "reachability_since", "tools_since"],
        {"c_text": F("server_url"), "c_reason": F("credential_reason"), "c_states": None},
        Value(_NOBODY), "sharing",
    )  # fmt: skip
    have = _columns(
        taken, "handling", "tenant", F("pk"), [*["at"] * 3], nothing | {"c_text": F("key")}, Value(_NOBODY), "key"
    )  # fmt: skip
    others = [told, have]
    if user is not None and acting is not None:
        waiting = Call.objects.awaiting_login().filter(assignment__owner=user)
        first = waiting.filter(connection=OuterRef("pk")).order_by("created_at").values("created_at")[:1]
        asked = Connection.objects.filter(pk__in=waiting.values("connection"), tenant__in=acting, enabled=True)
        others.append(
            _columns(
                asked.annotate(asked_at=Subquery(first)), "login", "tenant", F("pk"), [*["asked_at"] * 3], nothing,
                Value(user.pk), "sharing",
            )
        )  # fmt: skip
    for row in broke.union(*others, all=True):
        *before, person, sharing = row
        yield *before, person, sharing == Sharing.SHARED


def _columns(
    rows: QuerySet[Any], what: str, tenant: str, about: Any, since: list[str], texts: dict[str, Any], person: Any,
    sharing: str,
) -> QuerySet[Any, Any]:  # fmt: skip
    """Return rows with the same columns as those of the other tables."""
    states = ("credential_state", "reachability_state", "tools_state")
    named = {
        "c_what": Value(what), "c_pk": F("pk"), "c_tenant": F(tenant), "c_about": about,
        "c_text": texts["c_text"], "c_reason": texts["c_reason"],
        **{f"c_state_{number}": texts["c_states"] or F(state) for number, state in enumerate(states)},
        **{f"c_since_{number}": F(moment) for number, moment in enumerate(since)},
        "c_person": Coalesce(person, Value(_NOBODY), output_field=IntegerField()), "c_sharing": F(sharing),
    }  # fmt: skip
    plain: QuerySet[Any, Any] = rows.order_by().annotate(**named).values_list(*named)
    return plain
