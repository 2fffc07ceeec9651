"""Notifying people of what needs them: once, and no longer when that is over.

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
from django.utils import timezone
from kombu.exceptions import OperationalError

from connections import audit, shares
from connections.models import Bulletin, Connection, Matter, Notice, NoticeQuerySet, User

DELIVERIES = shares.Work(task="connections.deliver_notice", dispatcher="connections.dispatch_notices")
KEPT_FOR = timedelta(days=90)
_QUIET = timedelta(hours=6)  # a problem that comes back within this time is not sent again
_PATIENCE = timedelta(minutes=5)  # no mail about a provider that is down for less than this
_ONE_BY_ONE = 3  # notices of an organization; what else comes up within the same time is told together
_GATHERED = timedelta(minutes=2)
_LATEST = timedelta(minutes=3)  # the notice is sent at the latest so long before the token ends

logger = logging.getLogger(__name__)


class About(NamedTuple):
    """How a reason is presented: the type of its webhook, a word for lists, a phrase for a mail's subject."""

    kind: str
    word: str
    phrase: str
    sentence: str = ""  # instead of the credential state's own sentence


_ENDED = About("connection.sign_in.ended", "Ended", "the sign-in has ended")
_SCOPE_MISSING = About(
    "connection.sign_in.scope_missing",
    "Permission missing",
    "a permission is missing",
    "The server asks for a permission that the sign-in does not have.",
)
_ABOUT = {
    "sign_in_ends": About("connection.sign_in.ending", "Ends soon", "the sign-in ends soon"),
    "signer_left": About("connection.sign_in.owner_left", "Owner left", "the person who signed in has left"),
    "refresh_failing": About("connection.sign_in.renewal_failing", "Not renewed", "the sign-in cannot be renewed"),
    "token_refused": About("connection.sign_in.refused", "Refused", "the server refuses the sign-in"),
    "insufficient_scope": _SCOPE_MISSING,
    "scope_not_granted": _SCOPE_MISSING,
}


def about(reason: str) -> About:
    """Return how this reason is presented."""
    return _ABOUT.get(reason, _ENDED)


def open_of(connection_id: UUID, owner_id: int | None) -> NoticeQuerySet:
    """Return the open notices about a connection: about the organization's sign-in, or about this member's own."""
    return Notice.objects.open().filter(connection=connection_id, owner=owner_id)


def notify(
    connection: Connection,
    owner: User | None,
    reason: str,
    sentence: str,
    *,
    until: datetime | None,
    since: datetime,
    now: datetime,
) -> None:
    """Open a notice to be sent once the transaction is committed, or bring the one that is open up to date.

    `owner` is whose personal sign-in it is about, `until` when it ends. The same reason that was resolved in the last
    six hours, and after `since`, is not sent again.
    """
    same = Notice.objects.filter(connection=connection, owner=owner, reason=reason)
    before = same.filter(resolved_at__gt=now - _QUIET, created_at__gte=since).first()
    if before is not None and not same.open().exists():
        unsent = before.attempts == 0  # it was resolved before it was sent to anybody
        same.filter(pk=before.pk).update(resolved_at=None, deliver_at=now if unsent else None)
    at = deliver_at(reason, until, now)
    notice, is_new = Notice.objects.get_or_create(
        connection=connection,
        owner=owner,
        reason=reason,
        resolved_at=None,
        defaults={"sentence": sentence, "until": until, "deliver_at": _gathered(connection, at, now)},
    )
    if not is_new:
        same.filter(pk=notice.pk).update(sentence=sentence, until=until)
        return
    audit.record(
        "system", "connection.notice", connection, tenant=connection.tenant, outcome=reason,
        **({"owner": owner.get_username()} if owner else {}),
    )  # fmt: skip
    if notice.deliver_at == now:
        transaction.on_commit(partial(_send, connection.tenant_id, notice.pk))


def resolve(connection: Connection, owner: User | None) -> None:
    """Resolve the notices about a sign-in that works again, or is gone."""
    open_of(connection.pk, owner.pk if owner else None).resolve(timezone.now())


def deliver_at(reason: str, until: datetime | None, now: datetime) -> datetime:
    """Return when to send a notice: at once, unless the problem may soon be over and there is time to wait."""
    if reason != "refresh_failing" or until is None:
        return now
    return max(now, min(now + _PATIENCE, until - _LATEST))


def _gathered(connection: Connection, at: datetime, now: datetime) -> datetime:
    """Return when to send it: a while later where many come at once, such as when a provider ends all sign-ins."""
    others = Notice.objects.filter(connection__tenant=connection.tenant_id, created_at__gt=now - _GATHERED)
    many = others[:_ONE_BY_ONE].count() == _ONE_BY_ONE
    return max(at, now + _GATHERED) if many else at


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the notices that are to be sent, tenants in turn: for the first time, or again."""
    rows = Notice.objects.due(now)
    return shares.admitted(rows, work, tenant="connection__tenant", when="deliver_at", most=200)


def forget_old(now: datetime) -> None:
    """Delete what was resolved more than 90 days ago, and the bulletins that told of nothing else."""
    Notice.objects.filter(resolved_at__lt=now - KEPT_FOR).delete()
    Matter.objects.filter(resolved_at__lt=now - KEPT_FOR).delete()
    Bulletin.objects.filter(created_at__lt=now - KEPT_FOR, deliver_at=None, matters=None).delete()


def _send(tenant_id: UUID, notice_id: UUID) -> None:
    # The row is due: beat's dispatcher picks it up when its organization has a slot, and the broker is back.
    if not DELIVERIES.admits(tenant_id, notice_id):
        return
    try:
        arguments = {"notice_id": str(notice_id)}
        current_app.send_task(DELIVERIES.task, kwargs=arguments, expires=shares.WAITS, retry=False)
    except (OperationalError, OSError):
        logger.warning("The notice %s waits: the message broker does not answer.", notice_id)
