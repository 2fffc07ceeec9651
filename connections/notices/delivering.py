"""Delivering notices and bulletins: a mail to each person who has to know, one webhook message, and one in the chat.

What fails is tried again, eight times over about a day; whoever has got it does not get it twice.
"""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import mail
from django.utils import timezone

from connections import audit
from connections.errors import DuvoError
from connections.models import Bulletin, Channel, Notice, User
from connections.notices import bulletins, channels, letters, webhooks
from connections.notices.letters import Letter

MOST_TRIES = 8
NO_WEBHOOK = "Webhook: it has no URL or no secret at this moment."
_MOST_TOGETHER = 200  # notices in one mail
_LEASE = timedelta(minutes=5)
_FIRST_PAUSE = timedelta(seconds=80)  # three times as long after each try: the eighth is about a day after the first
_PERMANENT = 500  # SMTP replies from here on stay as they are, RFC 5321, section 4.2.1

_spread = random.SystemRandom()
logger = logging.getLogger(__name__)


def deliver(notice_id: UUID) -> None:
    """Send a notice to whoever has not got it yet; a second run finds nothing to do. Failed deliveries do not raise."""
    notice = Notice.objects.select_related("connection__tenant", "owner").filter(pk=notice_id).first()
    now = timezone.now()
    if notice is None or not notice.claim(now, now + _LEASE):
        return
    together = [notice, *_companions(notice, now)]
    letter = letters.of(notice) if len(together) == 1 else letters.together(together)
    shared = [_mail(notice, letter), _tell(notice, letter)]
    again_at = _again_at(notice, timezone.now())
    for row in together:
        row.take_over(notice)
        connection = row.connection
        if _noted(row, [*shared, _post(row, letters.of(row))], again_at):
            audit.record(
                "system", "connection.notice_not_delivered", connection, tenant=connection.tenant, outcome=row.reason,
                **_how_far(row),
            )  # fmt: skip


def deliver_bulletin(bulletin_id: UUID) -> None:
    """Send a bulletin, in the same way, about those of its matters that are still so; nothing when there are none."""
    bulletin = Bulletin.objects.select_related("tenant", "owner").filter(pk=bulletin_id).first()
    now = timezone.now()
    if bulletin is None or not bulletin.claim(now, now + _LEASE):
        return
    letter = bulletins.letter(bulletin)
    if letter is None:
        bulletin.record_try("", None)
        return
    ways = [_mail, _post, _tell] if letter.for_people else [_post]
    sentences = [way(bulletin, letter) for way in ways]
    if _noted(bulletin, sentences, _again_at(bulletin, timezone.now())):
        audit.record(
            "system", "tenant.bulletin_not_delivered", bulletin.tenant, tenant=bulletin.tenant, outcome=bulletin.kind,
            **_how_far(bulletin),
        )  # fmt: skip


def drop_waiting() -> int:
    """Send nothing of what waits to be sent: its database was restored from a backup; return how much it was."""
    said = "Not sent: the database was restored from a backup, and this may have been sent before."
    waiting = (rows.objects.filter(deliver_at__isnull=False) for rows in (Notice, Bulletin))
    return sum(rows.update(deliver_at=None, trouble=said) for rows in waiting)


def _companions(notice: Notice, now: datetime) -> list[Notice]:
    """Claim and return the other notices that are due for the same people, and have come as far: one mail has all."""
    others = Notice.objects.due(now).filter(
        connection__tenant=notice.connection.tenant_id, owner=notice.owner, attempts=notice.attempts - 1,
        emailed_to=notice.emailed_to, emailed_at=notice.emailed_at, posted_at=notice.posted_at,
    )  # fmt: skip
    rows = others.select_related("connection__tenant", "owner")[:_MOST_TOGETHER]
    return [row for row in rows if row.claim(now, now + _LEASE)]


def _noted(row: Notice | Bulletin, sentences: list[str], again_at: datetime | None) -> bool:
    """Record how a try went; True if something failed and is now given up."""
    troubles = [sentence for sentence in sentences if sentence]
    row.record_try(" ".join(troubles), again_at if troubles else None)
    return bool(troubles) and again_at is None


def _how_far(row: Notice | Bulletin) -> dict[str, bool]:
    return {
        "mailed": row.emailed_at is not None,
        "webhook_taken": row.delivered_at is not None,
        "channel_told": row.posted_at is not None,
    }


def _again_at(row: Notice | Bulletin, now: datetime) -> datetime | None:
    if row.attempts >= MOST_TRIES:
        return None
    return now + _FIRST_PAUSE * (3.0 ** (row.attempts - 1) * _spread.uniform(0.9, 1.1))


def _mail(row: Notice | Bulletin, letter: Letter) -> str:
    """Mail everybody who has no mail yet; return what went wrong, "" if nothing did."""
    if row.emailed_at is not None or settings.EMAIL_BACKEND == settings.NO_MAIL:
        return ""
    waiting = [person for person in letter.readers if person.pk not in row.emailed_to]
    try:
        with mail.get_connection() as backend:
            missed = [person for person in waiting if not _mailed(row, letter, person, backend)]
    except (SMTPException, OSError):
        return "The mail server cannot be reached."
    if missed:
        return f"The mail server did not take the mail to {len(missed)} of {len(waiting)} people."
    row.emailed_at = timezone.now()
    return ""


def _mailed(row: Notice | Bulletin, letter: Letter, person: User, backend: Any) -> bool:
    """Mail one person; return True if there is nothing left to do for them, also when their address cannot work."""
    message = mail.EmailMessage(
        letter.subject, letter.text_for(person), to=[person.email], connection=backend,
        headers={"Auto-Submitted": "auto-generated"},
    )  # fmt: skip
    try:
        message.send()
    except SMTPRecipientsRefused as refusal:
        if any(code < _PERMANENT for code, _ in refusal.recipients.values()):
            return False
        logger.warning("The mail server refuses the address of user %s", person.pk)
    except ValueError:  # Django refuses it before it is sent
        logger.warning("The address of user %s is not one", person.pk)
    except (SMTPException, OSError):
        return False
    row.mark_emailed(person)
    return True


def _post(row: Notice | Bulletin, letter: Letter) -> str:
    """Send the webhook message if it is still to be sent; return what went wrong, "" if nothing did."""
    tenant = letter.tenant
    if row.delivered_at is not None:
        return ""
    if not tenant.webhook_url or not tenant.sealed_webhook_secret:
        return "" if letter.for_people else NO_WEBHOOK
    if letter.kind in tenant.unposted:
        return ""
    try:
        webhooks.send(tenant, message_id=str(row.pk), kind=letter.type, at=row.created_at, data=letter.data)
    except DuvoError as failure:
        return f"Webhook: {failure.sentence}"
    row.delivered_at = timezone.now()
    return ""


def _tell(row: Notice | Bulletin, letter: Letter) -> str:
    """Tell the channel if that is still to be done; return what went wrong, "" if nothing did."""
    channel = Channel.objects.filter(tenant=letter.tenant).first()
    if row.posted_at is not None or channel is None or letter.kind in channel.untold:
        return ""
    try:
        channels.tell(letter.tenant, channels.text_of(letter))
    except DuvoError as failure:
        return f"Channel: {failure.sentence}"
    row.posted_at = timezone.now()
    return ""
