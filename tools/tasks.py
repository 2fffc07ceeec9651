"""The doors of the workers: keyword-only ids in, one story each."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from tools import calls, probing


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


@shared_task(name="tools.sweep_calls")
def sweep_calls() -> None:
    """End the calls of dead processes, enqueue again the calls whose message got lost."""
    for call_id in calls.sweep(timezone.now()):
        run_call.delay(call_id=str(call_id))
