"""Telling people that a sign-in will end or has ended, once, and no longer when it is well again.

A notice is a row: the start page of the admin shows it, and delivering.py mails it and sends it to the webhook. Nothing
that a server or a provider said is in it, only sentences of our own.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from connections import audit, shares
from connections.models import Authorization, Connection, Membership, User
from connections.states import CredentialState
from oauth import credential_state
from oauth.credential_state import SIGNER_LEFT
from oauth.models import Notice, NoticeQuerySet, SignIn

DELIVERIES = shares.Work(task="oauth.deliver_notice", dispatcher="oauth.dispatch_notices")
KEPT_FOR = timedelta(days=90)
_QUIET = timedelta(hours=6)  # a sign-in that recovers and falls ill again within it is not told anew
_PATIENCE = timedelta(minutes=5)  # a provider that is down for a moment is worth no mail
_LATEST = timedelta(minutes=3)  # before the token ends

logger = logging.getLogger(__name__)


class About(NamedTuple):
    """How a reason is told: the type of its webhook, a word for lists, a phrase for a mail's subject."""

    kind: str
    word: str
    phrase: str
    sentence: str = ""  # in the place of the state's own


_ENDED = About("connection.sign_in.ended", "Ended", "the sign-in has ended")
_SCOPE_MISSING = About(
    "connection.sign_in.scope_missing",
    "Permission missing",
    "a permission is missing",
    "The server asks for a permission that the sign-in does not have.",
)
_ABOUT = {
    "sign_in_ends": About("connection.sign_in.ending", "Ends soon", "the sign-in ends soon"),
    SIGNER_LEFT: About("connection.sign_in.owner_left", "Owner left", "the person who signed in has left"),
    "refresh_failing": About("connection.sign_in.renewal_failing", "Not renewed", "the sign-in cannot be renewed"),
    "token_refused": About("connection.sign_in.refused", "Refused", "the server refuses the sign-in"),
    "insufficient_scope": _SCOPE_MISSING,
    "scope_not_granted": _SCOPE_MISSING,
}


def about(reason: str) -> About:
    """Return how this reason is told."""
    return _ABOUT.get(reason, _ENDED)


def tell(sign_in: SignIn) -> None:
    """Tell who has to know how this sign-in stands, if it stands badly; says the same thing only once.

    What was told before and is true no longer is resolved. To be sent once the transaction is through.
    """
    now = timezone.now()
    found = credential_state.of_sign_in(sign_in, now)
    if found.state == CredentialState.READY:
        _open(sign_in.connection_id, sign_in.owner_id).exclude(reason=SIGNER_LEFT).resolve(now)
        return
    if sign_in.owner and sign_in.connection.tenant_id not in sign_in.owner.roles:
        return
    until = sign_in.expires_at if found.state == CredentialState.EXPIRING else None
    with transaction.atomic():
        _open(sign_in.connection_id, sign_in.owner_id).exclude(reason__in=[found.reason, SIGNER_LEFT]).resolve(now)
        _say(sign_in, found.reason, about(found.reason).sentence or found.sentence, until, now)


def about_leavers() -> list[UUID]:
    """Return the sign-ins of people who have left of which nothing was told yet, and of those who have returned."""
    left = SignIn.objects.left_behind().filter(
        connection__enabled=True, connection__authorization=Authorization.OAUTH, connection__tenant__suspended_at=None
    )
    told = Notice.objects.open().filter(reason=SIGNER_LEFT)
    untold = left.exclude(connection__in=told.values("connection"))
    returned = SignIn.objects.filter(owner=None, connection__in=told.values("connection")).exclude(
        pk__in=SignIn.objects.left_behind().values("pk")
    )
    return list((untold | returned).order_by().values_list("pk", flat=True)[:200])


def tell_who_left(sign_in_id: UUID) -> None:
    """Tell the admins that an organization's sign-in is that of a person who has left; take it back if not."""
    sign_in = (
        SignIn.objects.select_related("connection__tenant", "person", "registration").filter(pk=sign_in_id).first()
    )
    if sign_in is None:
        return
    credential_state.settle(sign_in.connection)
    now = timezone.now()
    if not sign_in.was_left_behind():
        _open(sign_in.connection_id, None).filter(reason=SIGNER_LEFT).resolve(now)
        return
    with transaction.atomic():
        _say(sign_in, SIGNER_LEFT, credential_state.who_left(sign_in), None, now)


def resolve(connection: Connection, owner: User | None) -> None:
    """Take back what was told of this sign-in: it is well again, or gone."""
    _open(connection.pk, owner.pk if owner else None).resolve(timezone.now())


def deliver_at(reason: str, until: datetime | None, now: datetime) -> datetime:
    """Return when to send a notice: at once, unless it may well be over in a moment and there is time to wait."""
    if reason != "refresh_failing" or until is None:
        return now
    return max(now, min(now + _PATIENCE, until - _LATEST))


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the notices that are to be sent, tenants in turn: for the first time, or again."""
    rows = Notice.objects.due(now)
    return shares.admitted(rows, work, tenant="connection__tenant", when="deliver_at", most=200)


def forget_old(now: datetime) -> None:
    """Delete what was resolved more than 90 days ago; resolve what nobody can do anything about any more."""
    others = ~Q(connection__authorization=Authorization.OAUTH)
    has_left = Q(owner__isnull=False) & ~Exists(
        Membership.objects.filter(user=OuterRef("owner"), tenant=OuterRef("connection__tenant"))
    )
    Notice.objects.filter(others | has_left).resolve(now)
    Notice.objects.filter(resolved_at__lt=now - KEPT_FOR).delete()


def _open(connection_id: UUID, owner_id: int | None) -> NoticeQuerySet:
    return Notice.objects.open().filter(connection=connection_id, owner=owner_id)


def _say(sign_in: SignIn, reason: str, sentence: str, until: datetime | None, now: datetime) -> None:
    """Open a notice, or bring the one that is open up to date."""
    same = Notice.objects.filter(connection=sign_in.connection_id, owner=sign_in.owner_id, reason=reason)
    before = same.filter(resolved_at__gt=now - _QUIET, created_at__gte=sign_in.signed_in_at).first()
    if before is not None and not same.open().exists():
        unsent = before.attempts == 0  # it was resolved before anybody heard of it
        same.filter(pk=before.pk).update(resolved_at=None, deliver_at=now if unsent else None)
    notice, is_new = Notice.objects.get_or_create(
        connection=sign_in.connection,
        owner=sign_in.owner,
        reason=reason,
        resolved_at=None,
        defaults={"sentence": sentence, "until": until, "deliver_at": deliver_at(reason, until, now)},
    )
    if not is_new:
        same.filter(pk=notice.pk).update(sentence=sentence, until=until)
        return
    audit.record(
        "system", "connection.notice", sign_in.connection, tenant=sign_in.connection.tenant, outcome=reason,
        **({"owner": sign_in.owner.get_username()} if sign_in.owner else {}),
    )  # fmt: skip
    if notice.deliver_at == now:
        transaction.on_commit(partial(_send, sign_in.connection.tenant_id, notice.pk))


def _send(tenant_id: UUID, notice_id: UUID) -> None:
    # The row is due: beat's dispatcher picks it up when its organization has a place, and the broker is back.
    if not DELIVERIES.admits(tenant_id, notice_id):
        return
    try:
        arguments = {"notice_id": str(notice_id)}
        current_app.send_task(DELIVERIES.task, kwargs=arguments, expires=shares.WAITS, retry=False)
    except (OperationalError, OSError):
        logger.warning("The notice %s waits: the message broker does not answer.", notice_id)
