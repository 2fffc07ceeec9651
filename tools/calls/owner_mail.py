"""Mailing the owner of an assignment what others did with it; a mail that fails is tried again for a day."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from connections import moments, shares
from tools.models import OwnerNotice

MOST_TRIES = 8
_FIRST_PAUSE = timedelta(minutes=5)  # twice as long after each try

logger = logging.getLogger(__name__)


def due(now: datetime, work: shares.Work | None = None) -> list[UUID]:
    """Return the notices that are to be mailed, tenants in turn: again, or for the first time."""
    return shares.admitted(OwnerNotice.objects.due(now), work, tenant="assignment__tenant", when="mail_at", most=200)


def deliver(notice_id: UUID) -> None:
    """Mail one notice; whoever comes second finds nothing to do. Never raises for a mail server."""
    notice = OwnerNotice.objects.select_related("assignment__tenant", "owner").filter(pk=notice_id).first()
    now = timezone.now()
    if notice is None:
        return
    last = notice.attempts + 1 >= MOST_TRIES
    if not notice.claim(now, None if last else now + _FIRST_PAUSE * 2**notice.attempts):
        return
    if not notice.owner.email or settings.EMAIL_BACKEND == settings.NO_MAIL:
        notice.mark_mailed()
        return
    try:
        _message(notice).send()
    except (SMTPException, OSError):
        logger.warning("The mail to user %s about an assignment could not be sent", notice.owner_id)
        return
    except ValueError:  # Django refuses the address before anything is sent
        logger.warning("The address of user %s is not one", notice.owner_id)
    notice.mark_mailed()


def drop_waiting() -> int:
    """Mail nothing of what waits to be mailed: its database was restored from a backup; return how much it was."""
    return OwnerNotice.objects.filter(mail_at__isnull=False).update(mail_at=None)


def _message(notice: OwnerNotice) -> mail.EmailMessage:
    assignment = notice.assignment
    organization = _line(assignment.tenant.name)
    page = f"{settings.PUBLIC_URL}{reverse('admin:tools_assignment_change', args=[assignment.pk])}"
    step = "withdraw your consent on the assignment's page. Tokens issued under it then no longer act for you."
    text = [
        _line(notice.sentence),
        f"At: {moments.shown(notice.created_at, zone=assignment.tenant.zone)}",
        f"Organization: {organization}",
        f"What to do: if you do not want this, {step}",
        "",
        page,
        "",
        "You get this mail because you own the assignment.",
        "",
    ]
    subject = f"{_line(assignment.name)} ({organization}): somebody acted in your name"
    headers = {"Auto-Submitted": "auto-generated"}
    return mail.EmailMessage(subject, "\n".join(text), to=[notice.owner.email], headers=headers)


def _line(name: str) -> str:
    """Return a name that somebody chose in one line, without invisible characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())
