"""Delivering notices and bulletins: a mail to each person who has to know, and one webhook message.

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
from connections.models import Bulletin, Notice, User
from connections.notices import bulletins, letters, webhooks
from connections.notices.letters import Letter

MOST_TRIES = 8
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
    if _send(notice, letters.of(notice)):
        connection = notice.connection
        audit.record(
            "system", "connection.notice_not_delivered", connection, tenant=connection.tenant, outcome=notice.reason,
            mailed=notice.emailed_at is not None, webhook_taken=notice.delivered_at is not None,
        )  # fmt: skip


def deliver_bulletin(bulletin_id: UUID) -> None:
    """Send a bulletin, in the same way, about those of its matters that are still so; nothing when there are none."""
    bulletin = Bulletin.objects.select_related("tenant").filter(pk=bulletin_id).first()
    now = timezone.now()
    if bulletin is None or not bulletin.claim(now, now + _LEASE):
        return
    letter = bulletins.letter(bulletin)
    if letter is None:
        bulletin.record_try("", None)
    elif _send(bulletin, letter):
        audit.record(
            "system", "tenant.bulletin_not_delivered", bulletin.tenant, tenant=bulletin.tenant, outcome=bulletin.kind,
            mailed=bulletin.emailed_at is not None, webhook_taken=bulletin.delivered_at is not None,
        )  # fmt: skip


def drop_waiting() -> int:
    """Send nothing of what waits to be sent: its database was restored from a backup; return how much it was."""
    said = "Not sent: the database was restored from a backup, and this may have been sent before."
    waiting = (rows.objects.filter(deliver_at__isnull=False) for rows in (Notice, Bulletin))
    return sum(rows.update(deliver_at=None, trouble=said) for rows in waiting)


def _send(row: Notice | Bulletin, letter: Letter) -> bool:
    """Mail and post what is still to be sent; True if that failed and is now given up."""
    troubles = [sentence for sentence in (_mail(row, letter), _post(row, letter)) if sentence]
    again_at = _again_at(row, timezone.now()) if troubles else None
    row.record_try(" ".join(troubles), again_at)
    return bool(troubles) and again_at is None


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
    if row.delivered_at is not None or not tenant.webhook_url or not tenant.sealed_webhook_secret:
        return ""
    if letter.kind in tenant.unposted:
        return ""
    try:
        webhooks.send(tenant, message_id=str(row.pk), kind=letter.type, at=row.created_at, data=letter.data)
    except DuvoError as failure:
        return f"Webhook: {failure.sentence}"
    row.delivered_at = timezone.now()
    return ""
