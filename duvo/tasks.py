"""The tasks that beat sends through each queue, to see that it moves."""

from __future__ import annotations

from datetime import UTC, datetime

from celery import shared_task
from django.utils import timezone

from connections import heartbeats


@shared_task(name="duvo.show_housekeeping")
def show_housekeeping(*, sent_at: float) -> None:
    """Show that beat has sent this, and that a worker of this queue works."""
    heartbeats.note_quickly("housekeeping")
    heartbeats.note_in_database({"housekeeping": timezone.now(), "beat": datetime.fromtimestamp(sent_at, UTC)})


@shared_task(name="duvo.show_probes")
def show_probes() -> None:
    """Show that a worker of this queue works."""
    heartbeats.note("probes")
