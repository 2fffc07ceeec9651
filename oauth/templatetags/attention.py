"""The start page's answer to "does anything need me?": open notices, and connections that do not work."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from django import template
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from connections.ages import ago
from connections.models import Authorization, Connection, Notice, Tenant, User
from connections.notices import notices
from connections.states import NOT_LET_IN, TROUBLE, Headline, headline, next_step
from connections.tenancy import ADMINS_AND_AUDITORS, person, tenants_of

SHOWN = 20
_SOON = frozenset({"sign_in_ends", "refresh_failing", "insufficient_scope", "signer_left"})

register = template.Library()


class Item(NamedTuple):
    """One thing that needs somebody."""

    code: str
    word: str
    connection: Connection
    sentence: str
    step: str
    url: str


class States(NamedTuple):
    """What a headline is derived from, and how many connections have these states."""

    enabled: bool
    credential: str
    reachability: str
    tools: str
    total: int
    overdue: int  # of them, those whose check should have begun a while ago
    oldest: datetime | None

    @property
    def headline(self) -> Headline:
        """The word for these connections."""
        return headline(
            enabled=self.enabled, credential=self.credential, reachability=self.reachability, tools=self.tools
        )


@register.inclusion_tag("admin/oauth/attention.html", takes_context=True)
def attention(context: dict[str, Any]) -> dict[str, Any]:
    """Show what needs this person, at most 20 things, or how many connections work."""
    request: HttpRequest = context["request"]
    user = person(request)
    everywhere = user.is_superuser or user.is_reviewer
    tenants = Tenant.objects.all() if everywhere else tenants_of(user)
    now = timezone.now()
    states = _states(tenants, now)
    notified, broken = _notices(user, tenants), _broken(tenants, states)
    total = notified.count() + broken.count()
    items = [_of_notice(notice, user) for notice in notified[:SHOWN]]
    items += [_of_connection(connection) for connection in broken[: SHOWN - len(items)]]
    counts = Counter[Headline]()
    for group in states:
        counts[group.headline] += group.total
    oldest = min((group.oldest for group in states if group.oldest), default=None)
    return {
        "user": user,
        "items": items,
        "overdue": sum(group.overdue for group in states),
        "overdue_since": ago(oldest, now) if oldest else "",
        "more": total - len(items),
        "several": everywhere or len(user.roles) > 1,
        "all_connected": not oldest and counts.keys() <= {Headline.CONNECTED, Headline.DISABLED},
        "counts": [f"{counts[word]} {word.label.lower()}" for word in Headline if counts[word]],
    }


def _states(tenants: QuerySet[Tenant], now: datetime) -> list[States]:
    names = ("enabled", "credential_state", "reachability_state", "tools_state")
    rows = Connection.objects.filter(tenant__in=tenants).order_by().values_list(*names)
    late = Q(pk__in=Connection.objects.overdue(now))
    counted = rows.annotate(
        total=Count("pk"), overdue=Count("pk", filter=late), oldest=Min("next_probe_at", filter=late)
    )
    return [States(*row) for row in counted]


def _notices(user: User, tenants: QuerySet[Tenant]) -> QuerySet[Notice]:
    """Return the open notices; of those about personal sign-ins a member sees only their own."""
    still_there = Q(owner=None) | Q(owner__memberships__tenant=F("connection__tenant"))
    rows = Notice.objects.open().filter(
        still_there,
        connection__tenant__in=tenants,
        connection__enabled=True,
        connection__authorization=Authorization.OAUTH,
    )
    if not (user.is_superuser or user.is_reviewer):
        trusted = tenants_of(user, ADMINS_AND_AUDITORS)
        rows = rows.filter(Q(owner=None) | Q(owner=user) | Q(connection__tenant__in=trusted))
    return rows.select_related("connection__tenant", "owner").order_by("-created_at")


def _broken(tenants: QuerySet[Tenant], states: list[States]) -> QuerySet[Connection]:
    """Return the connections that do not work, without those whose notice says it already."""
    matching = Q(pk__in=[])
    noticed = Q(Exists(Notice.objects.open().filter(connection=OuterRef("pk"), owner=None)))
    for group in states:
        word = group.headline
        if word not in TROUBLE:
            continue
        same_states = Q(
            enabled=group.enabled,
            credential_state=group.credential,
            reachability_state=group.reachability,
            tools_state=group.tools,
        )
        shut_out = word == Headline.ACTION_REQUIRED and group.credential in NOT_LET_IN
        matching |= same_states & ~noticed if shut_out else same_states
    return Connection.objects.filter(matching, tenant__in=tenants).select_related("tenant").order_by("name", "pk")


def _of_notice(notice: Notice, user: User) -> Item:
    code = "action_required" if notice.reason in _SOON else "failed"
    owner = notice.owner
    sentence, step = notice.sentence, next_step(notice.reason)
    if owner is not None and owner != user:
        sentence, step = f"{owner.get_username()}: {sentence}", f"Ask {owner.get_username()} to sign in again."
    return Item(code, notices.about(notice.reason).word, notice.connection, sentence, step, _page(notice.connection))


def _of_connection(connection: Connection) -> Item:
    word = connection.headline
    if word != Headline.ACTION_REQUIRED:
        sentence = connection.reachability_sentence
    else:
        shut_out = connection.credential_state in NOT_LET_IN
        sentence = connection.credential_sentence if shut_out else connection.tools_sentence
    return Item(word.value, word.label, connection, sentence, connection.next_step, _page(connection))


def _page(connection: Connection) -> str:
    return reverse("admin:connections_connection_change", args=[connection.pk])
