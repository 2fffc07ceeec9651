"""Deleting organizations that have much: their calls go some hundred at a time, then each connection, then they."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

from django.db import DatabaseError

from connections import audit, deleting
from connections.models import Connection, Tenant
from tools.calls import retention
from tools.models import Assignment

logger = logging.getLogger(__name__)

PATIENCE: Final = 50.0  # seconds of one run: the next one goes on


def carry_on(patience: float = PATIENCE) -> int:
    """Delete what organizations have whose deletion has begun, for so many seconds; return how many are gone.

    What is deleted stays so if it breaks off. A call that somebody has locked is left to the end, which waits for it.
    """
    gone, until = 0, time.monotonic() + patience
    for tenant in Tenant.objects.filter(deletion_begun_at__isnull=False).order_by("deletion_begun_at"):
        try:
            if not _empty(tenant, until):
                break
            deleting.carry_out(partial(_delete, tenant))
        except (DatabaseError, OSError):  # the others do not wait for it, and the next run tries again
            logger.exception("An organization could not be deleted: tenant %s", tenant.pk)
            continue
        gone += 1
    return gone


def _delete(tenant: Tenant) -> None:
    audit.record("system", "tenant.deleted", tenant, tenant=tenant)
    Tenant.objects.filter(pk=tenant.pk).delete()


def _empty(tenant: Tenant, until: float) -> bool:
    """Delete what one organization has, piece by piece; False if the time did not suffice."""
    while retention.delete_batch(tenant.calls.all(), retention.AT_ONCE):
        if time.monotonic() > until:
            return False
    for pieces in (Connection.objects.filter(tenant=tenant), Assignment.objects.filter(tenant=tenant)):
        for piece in pieces.only("pk", "tenant").order_by("pk"):
            deleting.delete(piece)
            if time.monotonic() > until:
                return False
    return True
