"""The doors of the workers: keyword-only ids in, one story each."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from connections import patience
from connections.models import Tenant
from tools import calls, owner_mail, polling, probing, pubsub, retention, usage


@shared_task(name="tools.dispatch_probes")
def dispatch_probes() -> None:
    """Enqueue the probes that are due; a message that waits longer than a probe interval is dropped."""
    for connection_id in probing.due(timezone.now()):
        probe_connection.apply_async(kwargs={"connection_id": str(connection_id)}, expires=probing.MESSAGE_EXPIRES)


@shared_task(name="tools.probe_connection", acks_late=True, reject_on_worker_lost=True)
def probe_connection(*, connection_id: str) -> None:
    """Probe one connection."""
    probing.probe(UUID(connection_id))


@shared_task(name="tools.run_call")
def run_call(*, call_id: str) -> None:
    """Run one queued call; the row is the claim, so a message that comes twice does nothing."""
    calls.resume(UUID(call_id))
    pubsub.tell(UUID(call_id))


@shared_task(name="tools.dispatch_task_looks")
def dispatch_task_looks() -> None:
    """Enqueue looks at the tasks of servers that are due."""
    for call_id in polling.due(timezone.now()):
        look_at_task.delay(call_id=str(call_id))


@shared_task(name="tools.look_at_task")
def look_at_task(*, call_id: str) -> None:
    """Look at the task of one call."""
    polling.look(UUID(call_id))
    pubsub.tell(UUID(call_id))


@shared_task(name="tools.cancel_task")
def cancel_task(*, call_id: str) -> None:
    """Tell a server that nobody wants the task of a call any more."""
    polling.cancel(UUID(call_id))


@shared_task(name="tools.sweep_calls")
def sweep_calls() -> None:
    """End the calls of dead processes, enqueue again the calls whose message got lost."""
    for call_id in calls.sweep(timezone.now()):
        run_call.delay(call_id=str(call_id))


@shared_task(name="tools.dispatch_owner_mail")
def dispatch_owner_mail() -> None:
    """Enqueue the mails to owners of assignments that are to be sent again, or whose message was lost."""
    for notice_id in owner_mail.due(timezone.now()):
        mail_owner.apply_async(kwargs={"notice_id": str(notice_id)}, expires=60)


@shared_task(name="tools.mail_owner")
def mail_owner(*, notice_id: str) -> None:
    """Mail an owner what somebody did in their name."""
    owner_mail.deliver(UUID(notice_id))


@shared_task(name="tools.purge_calls")
def purge_calls() -> None:
    """Delete the calls that their organizations no longer want kept, and measure what each stores."""
    with patience.unhurried():
        retention.purge(timezone.now())
        for tenant in Tenant.objects.all():
            usage.measure(tenant)


@shared_task(name="tools.count_open_calls")
def count_open_calls() -> None:
    """Count the open calls of each organization."""
    usage.count_open()
