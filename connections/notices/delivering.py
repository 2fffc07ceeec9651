"""Delivering a notice: a mail to each person who has to know, and one webhook message to the organization.

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
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from connections import audit
from connections.errors import DuvoError
from connections.models import Notice, Role, User
from connections.notices import notices, webhooks
from connections.states import next_step

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
    troubles = [sentence for sentence in (_mail(notice), _post(notice)) if sentence]
    again_at = _again_at(notice, timezone.now()) if troubles else None
    notice.record_try(" ".join(troubles), again_at)
    if troubles and again_at is None:
        connection = notice.connection
        audit.record(
            "system", "connection.notice_not_delivered", connection, tenant=connection.tenant, outcome=notice.reason,
            mailed=notice.emailed_at is not None, webhook_taken=notice.delivered_at is not None,
        )  # fmt: skip


def page_of(notice: Notice) -> str:
    """Return the address of the page where something can be done about it."""
    return f"{settings.PUBLIC_URL}{reverse('admin:connections_connection_change', args=[notice.connection_id])}"


def _again_at(notice: Notice, now: datetime) -> datetime | None:
    if notice.attempts >= MOST_TRIES:
        return None
    return now + _FIRST_PAUSE * (3.0 ** (notice.attempts - 1) * _spread.uniform(0.9, 1.1))


# --- mail ---


def _mail(notice: Notice) -> str:
    """Mail everybody who has no mail yet; return what went wrong, "" if nothing did."""
    if notice.emailed_at is not None or settings.EMAIL_BACKEND == settings.NO_MAIL:
        return ""
    waiting = [person for person in _readers(notice) if person.pk not in notice.emailed_to]
    try:
        with mail.get_connection() as backend:
            missed = [person for person in waiting if not _mailed(notice, person, backend)]
    except (SMTPException, OSError):
        return "The mail server cannot be reached."
    if missed:
        return f"The mail server did not take the mail to {len(missed)} of {len(waiting)} people."
    notice.emailed_at = timezone.now()
    return ""


def _readers(notice: Notice) -> list[User]:
    """Return the organization's admins, and whose sign-in it is."""
    tenant = notice.connection.tenant
    who = Q(memberships__tenant=tenant, memberships__role=Role.ADMIN)
    if notice.owner_id is not None:
        who |= Q(pk=notice.owner_id, memberships__tenant=tenant)
    return list(User.objects.filter(who, is_active=True).exclude(email="").distinct().order_by("pk"))


def _mailed(notice: Notice, person: User, backend: Any) -> bool:
    """Mail one person; return True if there is nothing left to do for them, also when their address cannot work."""
    message = mail.EmailMessage(
        _subject(notice), _text(notice, person), to=[person.email], connection=backend,
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
    notice.mark_emailed(person)
    return True


def _subject(notice: Notice) -> str:
    connection = notice.connection
    phrase = notices.about(notice.reason).phrase
    if notice.until is not None and notice.reason == "sign_in_ends":
        phrase = f"the sign-in ends at {_moment(notice.until)}"
    return f"{_line(connection.name)} ({_line(connection.tenant.name)}): {phrase}"


def _text(notice: Notice, person: User) -> str:
    connection = notice.connection
    organization = _line(connection.tenant.name)
    mine = notice.owner_id == person.pk
    facts = {
        "Connection": _line(connection.name),
        "Organization": organization,
        "Sign-in": ("your own" if mine else _line(notice.owner.get_username())) if notice.owner else "",
        "What happens" if notice.until else "What happened": notice.sentence,
        "Ends": _moment(notice.until) if notice.until else "",
        "What to do": next_step(notice.reason),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    why = "it is your own sign-in" if mine else f"you are an admin of {organization}"
    return "\n".join([*lines, "", page_of(notice), "", f"You get this mail because {why}.", ""])


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _line(name: str) -> str:
    """Return a name that somebody chose in one line, without anything invisible."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())


# --- webhook ---


def _post(notice: Notice) -> str:
    """Send the webhook message if it is still to be sent; return what went wrong, "" if nothing did."""
    tenant = notice.connection.tenant
    if notice.delivered_at is not None or not tenant.webhook_url or not tenant.sealed_webhook_secret:
        return ""
    try:
        webhooks.send(
            tenant,
            message_id=str(notice.pk),
            kind=notices.about(notice.reason).kind,
            at=notice.created_at,
            data=_data(notice),
        )
    except DuvoError as failure:
        return f"Webhook: {failure.sentence}"
    notice.delivered_at = timezone.now()
    return ""


def _data(notice: Notice) -> dict[str, Any]:
    connection = notice.connection
    return {
        "organization": connection.tenant.name,
        "connection_id": str(connection.pk),
        "connection_name": connection.name,
        "member": notice.owner.get_username() if notice.owner else None,
        "reason": notice.reason,
        "sentence": notice.sentence,
        "next_step": next_step(notice.reason),
        "until": notice.until.isoformat() if notice.until else None,
        "admin_url": page_of(notice),
    }
