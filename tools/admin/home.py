"""The start page: what needs this person first, then how things are, for the role that they have.

    admin       what needs them, connections by state, calls, what is used most, what ends soon
    member      their own sign-ins and assignments, connections by state
    auditor     connections by state, calls, the way to the audit trail
    staff       the connections of all organizations by state, the newest trouble first

Who belongs to several organizations looks at one at a time.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import Greatest
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from connections import personal
from connections.ages import ago
from connections.models import ACTING, Connection, Credential, Notice, Role, Tenant, User
from connections.states import TROUBLE, Headline, headline, shows
from connections.tenancy import person, tenants_of
from oauth.models import SignIn
from tools.admin import charts
from tools.calls import recent
from tools.inbox import rows, things
from tools.inbox.kinds import Kind
from tools.models import AccessToken, Assignment

SHOWN = 5  # things, tools, assignments, ends
TROUBLED = 10  # connections, of all organizations
EVERYWHERE = "all"
_SOON = timedelta(days=14)


class Counted(NamedTuple):
    """How many connections one word is said of, and the list of them."""

    word: Headline
    number: int
    url: str


class End(NamedTuple):
    """Something that ends soon."""

    what: str
    url: str
    at: datetime


def of(request: HttpRequest) -> dict[str, Any]:
    """Return what the start page shows to this person."""
    user, now = person(request), timezone.now()
    tenants = list(tenants_of(user).order_by("name", "pk")) if user.roles else []
    tenants = [tenant for tenant in tenants if tenant.pk in user.roles]
    staff = user.sees_every_organization
    chosen = _chosen(request.GET.get("organization", ""), tenants, staff=staff)
    context: dict[str, Any] = {
        "title": chosen.name if chosen else "All organizations" if staff else "Duvo Connections",
        "organization": chosen, "organizations": tenants, "staff": staff, "everywhere": EVERYWHERE,
        "several": user.is_superuser or len(user.roles) > 1,
    }  # fmt: skip
    if chosen is None:
        everything = Tenant.objects.all() if staff else Tenant.objects.none()
        return context | _states(everything, now) | _trouble() | _needs(user, tenants)
    role = user.roles[chosen.pk]
    context |= _states(Tenant.objects.filter(pk=chosen.pk), now) | _needs(user, tenants)
    if role != Role.MEMBER:
        context |= _calls(chosen, now)
    if role == Role.ADMIN:
        context["ending"] = _ending(chosen, now)
    if role in ACTING:
        context |= _own(user, chosen)
    return context | {"role": role}


def _chosen(sent: str, tenants: list[Tenant], *, staff: bool) -> Tenant | None:
    if staff and (sent == EVERYWHERE or not tenants):
        return None
    return next((tenant for tenant in tenants if str(tenant.pk) == sent), tenants[0] if tenants else None)


def _needs(user: User, known: list[Tenant]) -> dict[str, Any]:
    found = things.newest(user)
    return {"needs": rows.of(found[:SHOWN], known, handled=False), "more_needs": len(found) > SHOWN}


# --- connections ---


def _states(tenants: QuerySet[Tenant], now: datetime) -> dict[str, Any]:
    names = ("enabled", "credential_state", "reachability_state", "tools_state")
    late = Q(pk__in=Connection.objects.overdue(now))
    groups = Connection.objects.filter(tenant__in=tenants).order_by().values_list(*names)
    counts, overdue, oldest = Counter[Headline](), 0, list[datetime]()
    for enabled, credential, reachability, tools, total, waiting, since in groups.annotate(
        total=Count("pk"), waiting=Count("pk", filter=late), since=Min("next_probe_at", filter=late)
    ):
        counts[headline(enabled=enabled, credential=credential, reachability=reachability, tools=tools)] += total
        overdue += waiting
        oldest += [since] if since else []
    lists = reverse("admin:connections_connection_changelist")
    shown = [Counted(word, counts[word], f"{lists}?status={word}") for word in Headline if counts[word]]
    return {
        "counts": shown,
        "connections": counts.total(),
        "attention": Counted(
            Headline.ACTION_REQUIRED, sum(counts[word] for word in TROUBLE), f"{lists}?status=attention"
        ),
        "all_connected": not overdue and counts.keys() <= {Headline.CONNECTED, Headline.DISABLED},
        "overdue": overdue,
        "overdue_since": ago(min(oldest), now) if oldest else "",
    }


def _trouble() -> dict[str, Any]:
    """Return the connections of all organizations that do not work, the newest trouble first."""
    moved = Greatest("credential_since", "reachability_since", "tools_since")
    broken = Connection.objects.filter(shows(*TROUBLE)).select_related("tenant").annotate(moved=moved)
    return {"troubled": list(broken.order_by("-moved", "pk")[:TROUBLED])}


# --- calls ---


def _calls(tenant: Tenant, now: datetime) -> dict[str, Any]:
    now = timezone.localtime(now)
    calls, since, cut = recent.of(tenant, now)
    lately = recent.told(calls, now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23))
    day, week = charts.of_day(lately.hours, now), charts.of_week(lately.hours, now)
    if not week.calls:
        return {"day": day, "week": week}
    tools, assignments = Counter[str](), Counter[tuple[UUID | None, str]]()
    for pair in lately.busiest:
        tools[pair.tool] += pair.calls
        assignments[pair.assignment, pair.name or "An assignment that is gone"] += pair.calls
    return {
        "day": day,
        "week": week,
        "day_slow": lately.late,
        "week_slow": lately.slow,
        "counted_since": since if cut else None,
        "busiest_tools": tools.most_common(SHOWN),
        "busiest_assignments": [(pk, name, number) for (pk, name), number in assignments.most_common(SHOWN)],
    }


# --- what is to be done, and what ends ---


def _ending(tenant: Tenant, now: datetime) -> list[End]:
    """Return the sign-ins and tokens of the organization that end within two weeks, the first one first."""
    notices = Notice.objects.open().filter(connection__tenant=tenant, connection__enabled=True, owner=None)
    ending = notices.filter(until__gt=now, until__lt=now + _SOON).order_by("until")[:SHOWN]
    found = [
        End(f"The sign-in of {notice.connection}", f"{_page(notice.connection)}#sign-in", notice.until)
        for notice in ending.select_related("connection")
        if notice.until
    ]
    tokens = AccessToken.objects.live(now).filter(assignment__tenant=tenant, expires_at__lt=now + _SOON)
    for token in tokens.select_related("assignment").order_by("expires_at")[:SHOWN]:
        if token.assignment and token.expires_at:
            page = reverse("admin:tools_assignment_change", args=[token.assignment.pk])
            found.append(End(f"A token of {token.assignment}", page, token.expires_at))
    return sorted(found, key=lambda end: end.at)[:SHOWN]


def _own(user: User, tenant: Tenant) -> dict[str, Any]:
    """Return the connections to which this person is to connect for themselves, and their assignments."""
    asked = [thing.rows[0] for thing in things.newest(user) if thing.kind == Kind.LOGIN]  # these stand above
    signed_in = SignIn.objects.filter(owner=user, connection__tenant=tenant).values("connection")
    entered = Credential.objects.filter(owner=user, connection__tenant=tenant).values("connection")
    waiting = personal.waiting_for(user).filter(tenant=tenant)
    waiting = waiting.exclude(Q(pk__in=signed_in) | Q(pk__in=entered) | Q(pk__in=asked))
    own = Assignment.objects.filter(tenant=tenant, owner=user)
    member = user.roles.get(tenant.pk) == Role.MEMBER  # admins have all of them
    return {"to_connect": list(waiting[:SHOWN]), "own_assignments": own[:SHOWN] if member else []}


def _page(connection: Connection) -> str:
    return reverse("admin:connections_connection_change", args=[connection.pk])
