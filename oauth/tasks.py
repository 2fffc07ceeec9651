"""The Celery tasks: each takes ids as keyword arguments and calls one function."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from connections import deleting, shares, statement_timeouts
from connections.models import Connection
from connections.notices import notices
from oauth import feedback, flow, refreshing, revoking, sign_in_notices
from oauth.models import SignIn

RENEWALS = shares.Work(task="oauth.attend_sign_in", dispatcher="oauth.dispatch_renewals")
FORGETTING = shares.Work(task="oauth.forget_abandoned", dispatcher="oauth.dispatch_renewals")


@shared_task(name="oauth.dispatch_renewals")
def dispatch_renewals() -> None:
    """Enqueue the sign-ins that are to be renewed, warned about or revoked."""
    for connection_id in revoking.abandoned(FORGETTING):
        forget_abandoned.apply_async(kwargs={"connection_id": str(connection_id)}, expires=shares.WAITS)
    for sign_in_id in sign_in_notices.about_leavers():
        tell_who_left.apply_async(kwargs={"sign_in_id": str(sign_in_id)}, expires=5)
    for sign_in_id in refreshing.due(timezone.now(), RENEWALS):
        attend_sign_in.apply_async(kwargs={"sign_in_id": str(sign_in_id)}, expires=90)


@shared_task(name="oauth.attend_sign_in", acks_late=True, reject_on_worker_lost=True)
def attend_sign_in(*, sign_in_id: str) -> None:
    """Renew one sign-in; a second run finds it renewed."""
    with RENEWALS.held(sign_in_id), deleting.may_vanish(SignIn.objects.filter(pk=sign_in_id)):
        refreshing.attend(UUID(sign_in_id))


@shared_task(name="oauth.forget_abandoned")
def forget_abandoned(*, connection_id: str) -> None:
    """Revoke the tokens of people who may no longer act."""
    with FORGETTING.held(connection_id), deleting.may_vanish(Connection.objects.filter(pk=connection_id)):
        revoking.forget_abandoned(UUID(connection_id))


@shared_task(name="oauth.tell_who_left")
def tell_who_left(*, sign_in_id: str) -> None:
    """Open the notice that a person who has left made an organization's sign-in, or resolve it."""
    with deleting.may_vanish(SignIn.objects.filter(pk=sign_in_id)):
        sign_in_notices.tell_who_left(UUID(sign_in_id))


@shared_task(name="oauth.discover_again")
def discover_again(*, connection_id: str) -> None:
    """Find out whether a connection's server still trusts the sign-in server that its sign-ins come from."""
    with feedback.DISCOVERIES.held(connection_id), deleting.may_vanish(Connection.objects.filter(pk=connection_id)):
        flow.discover_again(UUID(connection_id))


@shared_task(name="oauth.forget_old")
def forget_old() -> None:
    """Delete old pending authorizations and notices."""
    now = timezone.now()
    with statement_timeouts.suspended():
        flow.forget_old(now)
        sign_in_notices.resolve_obsolete(now)
        notices.forget_old(now)
