"""Doing what beat and the workers do to tell people what has come up, without waiting for the clock."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F
from django.utils import timezone

from connections.models import Bulletin, Connection, Matter
from connections.notices import matters
from tools import tasks
from tools.calls import awaited


def find() -> None:
    """Find what is so now, and gather what is old enough."""
    now = timezone.now()
    awaited.watch(now)
    matters.watch_connections(now)
    matters.gather(now)


def send() -> None:
    """Send what is due."""
    for bulletin in matters.due(timezone.now()):
        tasks.deliver_bulletin(bulletin_id=str(bulletin))


def later(**by: float) -> None:
    """Let this much time pass."""
    ago = timedelta(**by)
    Matter.objects.update(created_at=F("created_at") - ago)
    Bulletin.objects.update(created_at=F("created_at") - ago)
    Bulletin.objects.update(deliver_at=F("deliver_at") - ago)
    Connection.objects.update(reachability_since=F("reachability_since") - ago, tools_since=F("tools_since") - ago)


def tell(**after: float) -> None:
    """Let this time pass, find what is so, and again a minute later, and send what is due then."""
    later(**after)
    find()
    later(minutes=1)
    find()
    send()
