"""Personal connections: calls are made with what the owner of their assignment has entered, or has signed in with.

of          the key or headers that the calls of an owner's assignments are made with
enter, forget   what a member does on the page Connect
reach       how many assignments can use a connection, and whose owners are to connect
settle      the credential state that follows
prune       what no call can use any more is deleted

What is entered is sealed for one server. It is of no use once its owner may no longer act in the organization, and is
deleted then. How people sign in is told in `oauth`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from connections import audit, checking
from connections.errors import DuvoError
from connections.models import ACTING, PERSONAL, Connection, Credential, Membership, Role, User
from connections.states import CredentialState

OWNERS_NOT_CONNECTED = "owners_not_connected"
ON_CALL = "unauthorized_on_call"
WORD = {Credential.Kind.API_KEY: "API key", Credential.Kind.HEADERS: "headers"}  # in the middle of a sentence
_NAMED = 3  # people in one sentence


class NotConnected(DuvoError):
    """The owner of this assignment has not connected."""

    code = "credential_not_ready"


class NotEntered(DuvoError):
    """The connection was changed meanwhile, so nothing was stored. Look at where it leads, and enter it again."""

    code = "connection_changed"


def may_connect(user: User, connection: Connection) -> bool:
    """Whether this person has something of their own to enter: a member or admin of the organization."""
    acts = user.is_active and user.own_roles.get(connection.tenant_id) in ACTING
    return acts and connection.own_kind is not None and connection.tenant.suspended_at is None


def page_to_connect(connection: Connection) -> str:
    """Return the path of the page on which a member connects: where they enter their own, or sign in."""
    if connection.own_kind is not None:
        return reverse("admin:connections_connection_connect", args=[connection.pk])
    return f"{reverse('admin:connections_connection_change', args=[connection.pk])}#sign-in"


def request_to_connect(connection: Connection, person: str | None) -> dict[str, str | None]:
    """Return what a program is told: the page, who is to open it (None: any admin), and what is to be done there."""
    return {
        "url": f"{settings.PUBLIC_URL}{page_to_connect(connection)}",
        "person": person,
        "does": "sign_in" if connection.own_kind is None else "enter",
    }


def within(connection: Connection) -> QuerySet[Credential]:
    """Return what people have entered who may act in the organization now."""
    here = Membership.objects.filter(
        user=OuterRef("owner"), tenant=connection.tenant_id, role__in=ACTING, user__is_active=True
    )
    kind = connection.own_kind or ""
    rows = Credential.objects.filter(Exists(here), connection=connection, kind=kind)
    return rows.select_related("owner").order_by("set_at")


def of(connection: Connection, owner_id: int | None) -> Credential | None:
    """Return what calls of this owner's assignments are made with, None if the owner has entered nothing that fits."""
    return next(iter(_fitting(connection, within(connection).filter(owner=owner_id))), None) if owner_id else None


def held(connection: Connection, owner_id: int | None) -> Credential | None:
    """Return what `of` does, None where members enter nothing of their own; raises NotConnected where it is missing."""
    if (kind := connection.own_kind) is None:
        return None
    if (own := of(connection, owner_id)) is None:
        raise NotConnected(f"The owner of this assignment has not entered their own {WORD[kind]} for this connection.")
    return own


def for_checks(connection: Connection) -> Credential | None:
    """Return what to check a connection with: the oldest that the server does not refuse, else any."""
    return next(iter(_fitting(connection, within(connection).order_by("refused_at", "set_at"))), None)


def _fitting(connection: Connection, rows: QuerySet[Credential]) -> list[Credential]:
    found = sorted(rows, key=lambda row: bool(row.refused))
    for row in found:
        row.connection = connection  # what is asked with it is this row, whenever the other was read
    return [row for row in found if row.fits]


# --- what a member does ---


def enter(connection: Connection, user: User, value: Any, *, revision: int | None = None) -> Credential:
    """Store what this person entered for the connection's server, in place of what was there, and have it checked.

    Raises NotEntered if the connection has another `revision` than the page showed, or this person no role any more.
    A new value is a new row, so that nothing that was opened with the one before goes on.
    """
    with transaction.atomic():
        acts = Membership.objects.select_for_update(no_key=True, of=("self",)).filter(
            user=user, tenant=connection.tenant_id, role__in=ACTING, user__is_active=True
        )
        still = acts.first()  # locked: who leaves at this moment takes along what is entered here
        now = Connection.objects.select_for_update(no_key=True).filter(pk=connection.pk).first()
        if still is None or now is None or now.own_kind is None or revision not in (None, now.revision):
            raise NotEntered
        before = Credential.objects.filter(connection=now, owner=user, kind=now.own_kind).delete()[0]
        row = Credential(connection=now, owner=user, kind=now.own_kind)
        row.set(value, by=user)
        verb = "replaced" if before else "set"
        audit.record(
            user, "connection.own_credential_entered", now, tenant=now.tenant, secrets=[f"{now.own_kind} {verb}"]
        )
        settle(now)
        checking.request_check(now)
    return row


def forget(connection: Connection, user: User) -> bool:
    """Delete what this person has entered; False if there was nothing."""
    with transaction.atomic():
        if not Credential.objects.filter(connection=connection, owner=user).delete()[0]:
            return False
        audit.record(user, "connection.own_credential_forgotten", connection, tenant=connection.tenant)
        settle(connection)
    return True


def prune(connection: Connection) -> int:
    """Delete what no call can use: of people who may no longer act, and for another server, method or sharing."""
    rows = list(Credential.objects.filter(connection=connection, owner__isnull=False).select_related("owner"))
    if not rows:
        return 0
    used = {row.pk for row in _fitting(connection, within(connection))}
    deleted = 0
    for row in rows:
        if row.pk not in used and Credential.objects.filter(pk=row.pk).delete()[0]:
            deleted += 1
            name = row.owner.get_username() if row.owner else ""
            audit.record("system", "connection.own_credential_forgotten", connection, tenant=connection.tenant, of=name)
    return deleted


def abandoned() -> Q:
    """Return the condition that a connection holds something of a person who may no longer act in its organization."""
    here = Membership.objects.filter(
        user=OuterRef("owner"), tenant=OuterRef("connection__tenant"), role__in=ACTING, user__is_active=True
    )
    theirs = Credential.objects.filter(~Exists(here), owner__isnull=False, connection__tenant__suspended_at=None)
    return Q(pk__in=theirs.order_by().values("connection"))


def forget_leaver(*, instance: Membership, **_: Any) -> None:
    """Delete what a person has entered in an organization that they leave, with the membership itself."""
    rows = Credential.objects.filter(owner=instance.user_id, connection__tenant=instance.tenant_id)
    left = list(rows.values_list("connection", flat=True))
    rows.delete()
    if left:  # afterwards: the organization itself may be what is deleted
        transaction.on_commit(partial(_settle_each, left))


def _settle_each(connections: list[UUID]) -> None:
    for connection in Connection.objects.filter(pk__in=connections).select_related("tenant"):
        settle(connection)


# --- what the server says of it ---


def refused(credential_id: UUID, code: str) -> None:
    """Record that the server refuses what one member has entered."""
    Credential.objects.filter(pk=credential_id).update(refused=code[:60], refused_at=timezone.now())


def accepted(credential_id: UUID, *, by_listing: bool = False) -> None:
    """Record that the server takes it again; a listing proves nothing about one that was refused on a call."""
    rows = Credential.objects.filter(pk=credential_id).exclude(refused="")
    rows = rows.exclude(refused=ON_CALL) if by_listing else rows
    rows.update(refused="", refused_at=None)


# --- who can use it ---


class Reach(NamedTuple):
    """How many enabled assignments have tools of a connection, how many of them can act, and why others cannot."""

    total: int
    able: int
    asked: tuple[str, ...] = ()  # owners who are to connect
    ownerless: int = 0  # assignments whose owner may not act in the organization

    @property
    def sentence(self) -> str:
        """What is so, and whom to ask; empty when no assignment has tools of the connection."""
        if not self.total:
            return ""
        if self.able == self.total:
            return "1 assignment can use it." if self.total == 1 else f"All {self.total} assignments can use it."
        if self.asked:
            others = len(self.asked) - _NAMED
            names = [*self.asked[:_NAMED], *([f"{others} more"] if others > 0 else [])]
            listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
            return f"{self.able} of {self.total} can use it: ask {listed} to connect."
        return f"{self.able} of {self.total} can use it: the others have no owner who may act."


def reach(connection: Connection, connected: Collection[int | None]) -> Reach:
    """Return who can use a personal connection to which these people are connected."""
    # Assignments belong to `tools`, which may not be imported here; they are reached through the organization.
    mine = connection.tenant.assignments.filter(Q(scope="all") | Q(tools__connection=connection), enabled=True)
    of_owners = mine.order_by().values_list("owner", "owner__username").annotate(many=Count("pk", distinct=True))
    acting = set(
        Membership.objects.filter(tenant=connection.tenant_id, role__in=ACTING, user__is_active=True).values_list(
            "user", flat=True
        )
    )
    total = able = ownerless = 0
    asked = []
    for owner, name, many in of_owners:
        total += many
        if owner not in acting:
            ownerless += many
        elif owner in connected:
            able += many
        else:
            asked.append(str(name))
    return Reach(total, able, tuple(sorted(asked)), ownerless)


def waiting_for(user: User) -> QuerySet[Connection]:
    """Return the personal connections that assignments of this person have tools of: there they are to connect."""
    places = [tenant for tenant, role in user.own_roles.items() if role in ACTING]
    # The same: a model of `tools`, reached by its name.
    mine = apps.get_model("tools", "Assignment").objects.filter(owner=user, enabled=True, tenant=OuterRef("tenant"))
    reaching = mine.filter(Q(scope="all") | Q(tools__connection=OuterRef("pk")))
    rows = Connection.objects.filter(PERSONAL, Exists(reaching), tenant__in=places, enabled=True)
    return rows.filter(tenant__suspended_at=None).select_related("tenant").order_by("name", "pk")


def state_of(connection: Connection) -> tuple[CredentialState, str, str]:
    """Return the credential state of a connection whose members enter keys or headers, with reason and sentence."""
    kind, entered = connection.own_kind, _fitting(connection, within(connection))
    found = reach(connection, {row.owner_id for row in entered})
    label = kind.label if kind else ""
    if not entered:
        sentence = f"{label}: nobody has entered their own yet. {found.sentence}".strip()
        return CredentialState.MISSING, OWNERS_NOT_CONNECTED if found.asked else "nobody_connected", sentence[:300]
    taken = [row for row in entered if not row.refused]
    if not taken:
        names = ", ".join(row.owner.get_username() for row in entered[:_NAMED] if row.owner)
        return CredentialState.REFUSED, "own_refused", f"The server refuses what {names} entered ({label})."[:300]
    people = "1 member is connected." if len(taken) == 1 else f"{len(taken)} members are connected."
    if found.total and not found.able:
        return CredentialState.MISSING, OWNERS_NOT_CONNECTED, f"{found.sentence} {people}"[:300]
    return CredentialState.READY, "", f"{people} {found.sentence}".strip()[:300]


def settle(connection: Connection) -> None:
    """Bring the stored credential state in line with what people have entered; writes only what changed."""
    if connection.own_kind is None:
        return
    now = state_of(connection)
    if (connection.credential_state, connection.credential_reason, connection.credential_sentence) != now:
        connection.set_credential_state(*now)


def sees_all(user: User, connection: Connection) -> bool:
    """Whether this person may see who else is connected: admins and auditors, and who looks after the platform."""
    role = user.roles.get(connection.tenant_id)
    return user.is_superuser or user.is_reviewer or role in (Role.ADMIN, Role.AUDITOR)
