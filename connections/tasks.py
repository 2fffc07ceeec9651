"""The Celery tasks of this package."""

from __future__ import annotations

from smtplib import SMTPException
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from connections import deleting, shares, visits
from connections.models import Invitation, Notice
from connections.notices import delivering, notices
from connections.people import resetting
from connections.sessions import SessionStore, forget_browsers


@shared_task(name="connections.forget_sessions")
def forget_sessions() -> None:
    """Delete the sessions that are over, and invitations that were taken or have expired long ago."""
    SessionStore.clear_expired()
    forget_browsers()
    Invitation.objects.forget_old(timezone.now())


@shared_task(name="connections.end_staff_visits")
def end_staff_visits() -> None:
    """Have staff act no longer where their hour is over."""
    visits.end_over(timezone.now())


@shared_task(name="connections.dispatch_notices")
def dispatch_notices() -> None:
    """Enqueue the notices that are to be sent again, or whose message was lost."""
    for notice_id in notices.due(timezone.now(), notices.DELIVERIES):
        deliver_notice.apply_async(kwargs={"notice_id": str(notice_id)}, expires=shares.WAITS)


@shared_task(name="connections.deliver_notice", acks_late=True, reject_on_worker_lost=True)
def deliver_notice(*, notice_id: str) -> None:
    """Mail one notice and send it to the webhook."""
    with notices.DELIVERIES.held(notice_id), deleting.may_vanish(Notice.objects.filter(pk=notice_id)):
        delivering.deliver(UUID(notice_id))


@shared_task(
    name="connections.mail_new_password", autoretry_for=(SMTPException, OSError), max_retries=3, default_retry_delay=20
)
def mail_new_password(*, user_id: int) -> None:
    """Mail a person the link to a new password."""
    resetting.mail_link(user_id)
