"""What beat sends: the dispatchers and sweepers, which have a budget, and the long jobs, which have none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

QUICK = 60.0  # seconds: what is sent at least so often has to be quick
_TICK = 170  # checks that are due in one tick of the dispatcher, with 10,000 connections


def quick() -> dict[str, Callable[[], object]]:
    """Return the tasks that beat sends every minute or more often."""
    return _scheduled(lambda every: every <= QUICK)


def long() -> dict[str, Callable[[], object]]:
    """Return the others."""
    return _scheduled(lambda every: every > QUICK)


def _scheduled(wanted: Callable[[float], bool]) -> dict[str, Callable[[], object]]:
    from celery import current_app
    from django.conf import settings

    current_app.loader.import_default_modules()
    schedule: dict[str, dict[str, Any]] = settings.CELERY_BEAT_SCHEDULE
    names: set[str] = {
        entry["task"]
        for entry in schedule.values()
        if isinstance(entry["schedule"], float) and wanted(entry["schedule"]) and ".show" not in entry["task"]
    }
    return {name: current_app.tasks[name].run for name in sorted(names)}


def as_in_a_tick() -> None:
    """Have as many checks due as are in one tick, and all slots and queues empty."""
    import redis
    from django.conf import settings
    from django.utils import timezone

    from connections.models import Connection

    now = timezone.now()
    rows: Any = Connection.objects.filter(enabled=True)
    due = list(rows.order_by("pk").values_list("pk", flat=True)[:_TICK])
    rows.filter(next_probe_at__lte=now + timedelta(minutes=1)).update(next_probe_at=now + timedelta(minutes=5))
    rows.filter(pk__in=due).update(next_probe_at=now)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
