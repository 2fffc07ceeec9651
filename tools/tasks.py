"""The Celery tasks; each takes keyword-only ids and calls one function of `calls` or `catalog`."""

from __future__ import annotations

import random
from uuid import UUID

from celery import Task, shared_task
from django.utils import timezone

from connections import deleting, shares, statement_timeouts
from connections.checking import CHECKS
from connections.models import Bulletin, Tenant
from connections.notices import audit_feed, delivering, matters
from tools.calls import acting, activity, awaited, life, organizations, owner_mail, polling, pubsub, retention, usage
from tools.calls.sessions import ending as session_ends
from tools.catalog import days, probing
from tools.inbox import handling
from tools.models import Call, McpSession, OwnerNotice

POLLS = shares.Work(task="tools.poll_task", dispatcher="tools.dispatch_task_polls")
CANCELS = shares.Work(task="tools.cancel_task", dispatcher="tools.dispatch_task_polls")
SESSION_ENDS = shares.Work(task="tools.end_session", dispatcher="tools.dispatch_session_ends")
BULLETINS = shares.Work(task="tools.deliver_bulletin", dispatcher="tools.dispatch_bulletins")
_CANCEL_TRIES = 12  # the pause doubles each time: thousands that wait must not delay other tasks


@shared_task(name="tools.dispatch_probes")
def dispatch_probes() -> None:
    """Enqueue the probes that are due, for each organization at most its share."""
    for connection_id in probing.due(timezone.now(), work=CHECKS):
        probe_connection.apply_async(kwargs={"connection_id": str(connection_id)}, expires=shares.WAITS)


@shared_task(name="tools.check_due")
def check_due() -> None:
    """Do what a dispatcher of the version before sends for, which would be refused as unknown, and nothing checked."""
    dispatch_probes()


@shared_task(name="tools.probe_connection", acks_late=True, reject_on_worker_lost=True)
def probe_connection(*, connection_id: str) -> None:
    """Probe one connection."""
    with CHECKS.held(connection_id):
        probing.probe(UUID(connection_id))


@shared_task(name="tools.dispatch_task_polls")
def dispatch_task_polls() -> None:
    """Enqueue the polls of MCP tasks that are due, for each organization at most its share."""
    for call_id in polling.due(timezone.now(), POLLS):
        poll_task.apply_async(kwargs={"call_id": str(call_id)}, expires=shares.WAITS)


@shared_task(name="tools.poll_task")
def poll_task(*, call_id: str) -> None:
    """Poll the MCP task of one call."""
    with POLLS.held(call_id), deleting.may_vanish(Call.objects.filter(pk=call_id)):
        polling.poll(UUID(call_id))
    pubsub.publish(UUID(call_id))


@shared_task(name="tools.cancel_task", bind=True, max_retries=_CANCEL_TRIES)
def cancel_task(self: Task[..., None], *, call_id: str) -> None:
    """Send `tasks/cancel` for the MCP task of a call, as soon as the organization has a free slot for it."""
    tenant = Call.objects.filter(pk=call_id).values_list("tenant", flat=True).first()
    if tenant is None:
        return
    if not CANCELS.admits(tenant, UUID(call_id)):
        pause = random.uniform(5, 10) * 2 ** min(self.request.retries, 6)  # noqa: S311 - spreads load, no secret
        raise self.retry(countdown=pause)
    with CANCELS.held(call_id), deleting.may_vanish(Call.objects.filter(pk=call_id)):
        polling.cancel(UUID(call_id))


@shared_task(name="tools.sweep_calls")
def sweep_calls() -> None:
    """End the calls of dead processes, or put them back into the queue."""
    life.sweep(timezone.now())


@shared_task(name="tools.dispatch_session_ends")
def dispatch_session_ends() -> None:
    """End the sessions that are over, and enqueue telling their servers, for each organization at most its share."""
    session_ends.sweep(timezone.now())
    for session_id in session_ends.due(timezone.now(), SESSION_ENDS):
        end_session.apply_async(kwargs={"session_id": str(session_id)}, expires=shares.WAITS)


@shared_task(name="tools.end_session")
def end_session(*, session_id: str) -> None:
    """Tell one server that a session is over."""
    with SESSION_ENDS.held(session_id), deleting.may_vanish(McpSession.objects.filter(pk=session_id)):
        session_ends.tell(UUID(session_id))


@shared_task(name="tools.dispatch_owner_mail")
def dispatch_owner_mail() -> None:
    """Enqueue the mails to owners of assignments that are due: to be tried again, or whose Celery message was lost."""
    for notice_id in owner_mail.due(timezone.now(), acting.MAILS):
        mail_owner.apply_async(kwargs={"notice_id": str(notice_id)}, expires=shares.WAITS)


@shared_task(name="tools.mail_owner")
def mail_owner(*, notice_id: str) -> None:
    """Mail an owner what somebody did in their name."""
    with acting.MAILS.held(notice_id), deleting.may_vanish(OwnerNotice.objects.filter(pk=notice_id)):
        owner_mail.deliver(UUID(notice_id))


@shared_task(name="tools.dispatch_bulletins")
def dispatch_bulletins() -> None:
    """Find what people are to be told, gather it into bulletins, and enqueue those that are due.

    Who had what is done is forgotten.
    """
    now = timezone.now()
    awaited.watch(now)
    matters.watch_connections(now)
    matters.gather(now)
    audit_feed.gather(now)
    handling.forget_done()
    for bulletin_id in matters.due(now, BULLETINS):
        deliver_bulletin.apply_async(kwargs={"bulletin_id": str(bulletin_id)}, expires=shares.WAITS)


@shared_task(name="tools.deliver_bulletin", acks_late=True, reject_on_worker_lost=True)
def deliver_bulletin(*, bulletin_id: str) -> None:
    """Mail one bulletin and send it to the webhook, without the calls that somebody has just decided or answered."""
    rows = Bulletin.objects.filter(pk=bulletin_id)
    with BULLETINS.held(bulletin_id), deleting.may_vanish(rows):
        for bulletin in rows:
            awaited.resolve(bulletin.kind, timezone.now(), bulletin.pk)
        delivering.deliver_bulletin(UUID(bulletin_id))


@shared_task(name="tools.purge_calls")
def purge_calls() -> None:
    """Delete the calls that their organizations no longer want kept, and measure what each stores."""
    with statement_timeouts.suspended():
        retention.purge(timezone.now())
        days.forget(timezone.now())
        for tenant in Tenant.objects.all():
            usage.measure(tenant)


@shared_task(name="tools.delete_organizations")
def delete_organizations() -> None:
    """Go on deleting the organizations that have too much to be deleted while somebody waits."""
    with statement_timeouts.suspended():
        organizations.carry_on()


@shared_task(name="tools.count_use")
def count_use() -> None:
    """Count by day what was called, for the pages and programs that ask how much is used."""
    with statement_timeouts.suspended():
        activity.count_all(timezone.now())


@shared_task(name="tools.count_open_calls")
def count_open_calls() -> None:
    """Count the open calls of each organization."""
    usage.count_open()
