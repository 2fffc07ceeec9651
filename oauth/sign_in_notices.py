"""Notifying people that a sign-in will end or has ended."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from connections.models import Authorization, Membership, Notice
from connections.notices import notices
from connections.states import CredentialState
from oauth import credential_state
from oauth.credential_state import SIGNER_LEFT
from oauth.models import SignIn

_AT_ONCE = 200


def notify(sign_in: SignIn) -> None:
    """Open a notice about a sign-in that ends soon or does not work, one per reason; resolve those no longer true.

    A new notice is sent once the transaction is committed.
    """
    now = timezone.now()
    found = credential_state.of_sign_in(sign_in, now)
    if found.state == CredentialState.READY:
        notices.open_of(sign_in.connection_id, sign_in.owner_id).exclude(reason=SIGNER_LEFT).resolve(now)
        return
    if sign_in.owner and sign_in.connection.tenant_id not in sign_in.owner.own_roles:
        return
    until = sign_in.expires_at if found.state == CredentialState.EXPIRING else None
    with transaction.atomic():
        others = notices.open_of(sign_in.connection_id, sign_in.owner_id)
        others.exclude(reason__in=[found.reason, SIGNER_LEFT]).resolve(now)
        _notify(sign_in, found.reason, notices.about(found.reason).sentence or found.sentence, until, now)


def about_leavers() -> list[UUID]:
    """Return the sign-ins by people who have left that have no notice yet, and those by people who have returned."""
    left = SignIn.objects.left_behind().filter(
        connection__enabled=True, connection__authorization=Authorization.OAUTH, connection__tenant__suspended_at=None
    )
    noticed = Notice.objects.open().filter(reason=SIGNER_LEFT)
    unnoticed = left.exclude(connection__in=noticed.values("connection"))
    found = list(unnoticed.order_by().values_list("pk", flat=True)[:_AT_ONCE])
    # Of these there are few, whatever the number of all sign-ins: a question of their own.
    theirs = SignIn.objects.filter(connection__in=list(noticed.values_list("connection", flat=True)[:_AT_ONCE]))
    returned = theirs.filter(owner=None).exclude(pk__in=theirs.left_behind().values("pk"))
    return found + list(returned.order_by().values_list("pk", flat=True)[: _AT_ONCE - len(found)])


def tell_who_left(sign_in_id: UUID) -> None:
    """Notify the admins that a person who has left made the organization's sign-in; resolve the notice if not so."""
    sign_in = (
        SignIn.objects.select_related("connection__tenant", "person", "registration").filter(pk=sign_in_id).first()
    )
    if sign_in is None:
        return
    credential_state.settle(sign_in.connection)
    now = timezone.now()
    if not sign_in.was_left_behind():
        notices.open_of(sign_in.connection_id, None).filter(reason=SIGNER_LEFT).resolve(now)
        return
    with transaction.atomic():
        _notify(sign_in, SIGNER_LEFT, credential_state.who_left(sign_in), None, now)


def resolve_obsolete(now: datetime) -> None:
    """Resolve the notices about connections without OAuth, and about personal sign-ins of people who have left."""
    others = ~Q(connection__authorization=Authorization.OAUTH)
    has_left = Q(owner__isnull=False) & ~Exists(
        Membership.objects.filter(user=OuterRef("owner"), tenant=OuterRef("connection__tenant"))
    )
    Notice.objects.filter(others | has_left).resolve(now)


def _notify(sign_in: SignIn, reason: str, sentence: str, until: datetime | None, now: datetime) -> None:
    notices.notify(
        sign_in.connection, sign_in.owner, reason, sentence, until=until, since=sign_in.signed_in_at, now=now
    )
