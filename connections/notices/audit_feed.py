"""The audit trail, sent to an organization's webhook as it grows: in order, each event once, with its id.

    start, stop   an organization chooses it, or no longer
    gather        makes the next message of each organization whose message before has arrived, or was given up
    letter        what the message says

Only the webhook is told. A receiver that was away gets what it missed, in order. Every try of a message has the same id
and the same events, each of which has an id of its own, so that a receiver tells repeats. An event whose transaction
took long is in a later message than its moment would have it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from connections.audit import said
from connections.models import AuditEvent, AuditFeed, Bulletin, Kind, Tenant
from connections.notices.letters import Letter

MOST = 100  # events of one message
NO_LONGER = "Not sent: the audit trail is no longer sent to the webhook."
_SETTLED = timedelta(seconds=10)  # what is younger may still get neighbours that are older
_LATE = timedelta(minutes=10)  # no transaction takes as long


def is_on(tenant: Tenant) -> bool:
    """Whether the organization has its audit trail sent."""
    return tenant.pk is not None and AuditFeed.objects.filter(tenant=tenant.pk).exists()


def start(tenant: Tenant) -> None:
    """Send what happens from now on."""
    now = timezone.now()
    AuditFeed.objects.get_or_create(tenant=tenant, defaults={"since": now, "told_until": now})


def stop(tenant: Tenant) -> None:
    """Send nothing more, also of what waits to be sent."""
    AuditFeed.objects.filter(tenant=tenant).delete()
    _messages(tenant).filter(deliver_at__isnull=False).update(deliver_at=None, trouble=NO_LONGER)


def gather(now: datetime) -> None:
    """Make the next message, due now, of each organization in which something has happened."""
    # A worker of a version that does not know this kind puts a message aside, as if there was nothing to say.
    aside = Bulletin.objects.filter(kind=Kind.AUDIT, deliver_at=None, delivered_at=None, trouble="")
    aside.filter(tenant__audit_feeds__since__lte=F("created_at")).update(deliver_at=now)
    ready = AuditFeed.objects.filter(tenant__suspended_at=None).exclude(tenant__webhook_url="")
    mine = AuditEvent.objects.filter(tenant=OuterRef("tenant"), at__lte=now - _SETTLED)
    news = mine.filter(Q(at__gt=OuterRef("told_until")) | Q(at__gt=now - _LATE))
    for pk in ready.filter(Exists(news)).exclude(tenant__sealed_webhook_secret="").values_list("pk", flat=True):
        with transaction.atomic():
            _gather(pk, now)


def letter(bulletin: Bulletin) -> Letter | None:
    """Return the message with its events; None when the organization has its trail sent no longer."""
    tenant = bulletin.tenant
    if not is_on(tenant):
        return None
    rows = tenant.audit_events.filter(pk__in=bulletin.events).select_related("tenant")
    found = {str(event.pk): event for event in rows}
    events = [said(found[pk]) for pk in bulletin.events if pk in found]
    data: dict[str, Any] = {"organization": tenant.name, "count": len(events), "events": events}
    return Letter(
        tenant=tenant, kind=Kind.AUDIT, type=Kind.AUDIT.value, readers=[], subject="", text_for=lambda _: "",
        data=data, step="", links=[], for_people=False,
    )  # fmt: skip


def _gather(pk: int, now: datetime) -> None:
    feed = AuditFeed.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=pk).first()
    if feed is None:
        return
    mine = _messages(feed.tenant)
    if mine.filter(deliver_at__isnull=False).exists():  # the one before has not arrived
        return
    first = max(feed.since, feed.told_until - _LATE)
    told = {pk for ids in mine.filter(created_at__gte=first).values_list("events", flat=True) for pk in ids}
    rows = feed.tenant.audit_events.filter(at__gte=first, at__lte=now - _SETTLED).exclude(pk__in=told)
    events = list(rows.order_by("at", "id").values_list("pk", "at")[:MOST])
    if not events:
        return
    Bulletin.objects.create(
        tenant=feed.tenant, kind=Kind.AUDIT, created_at=now, deliver_at=now, events=[str(key) for key, _ in events]
    )
    AuditFeed.objects.filter(pk=feed.pk).update(told_until=max(feed.told_until, events[-1][1]))


def _messages(tenant: Tenant) -> Any:
    return Bulletin.objects.filter(tenant=tenant, kind=Kind.AUDIT)
