"""Deleting old calls, which an organization no longer wants kept, with their events, contents and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from django.core.files.storage import Storage
from django.db import transaction
from django.db.models import QuerySet

from connections import audit, sealed_files
from connections.models import Tenant
from tools.calls import activity
from tools.models import Call, StoredContent
from tools.models.call_states import FINAL_STATES

AT_ONCE = 500  # calls in one transaction
MOST_BATCHES = 400  # of one organization in one run, so that every organization has its turn
_ORPHANED_AFTER = timedelta(days=1)  # a file is written a moment before its row


def purge(now: datetime, *, at_once: int = AT_ONCE, most_batches: int = MOST_BATCHES) -> int:
    """Delete the calls that ended longer ago than their organization keeps them, and return how many.

    Open calls stay, however old. What a run does not get to is left to the next. Files without a row are deleted too.
    """
    purged = 0
    for tenant in Tenant.objects.filter(suspended_at=None).only("name", "retention_days"):
        before = now - timedelta(days=tenant.retention_days)
        activity.before_purge(tenant, before, now)
        purged += _purge_tenant(tenant, before, at_once, most_batches)
    if sealed_files.set_up():
        _delete_orphans(sealed_files.storage(), now - _ORPHANED_AFTER, at_once)
    return purged


def _purge_tenant(tenant: Tenant, before: datetime, at_once: int, most_batches: int) -> int:
    purged = 0
    try:
        for _ in range(most_batches):
            count = _purge_batch(tenant, before, at_once)
            purged += count
            if count < at_once:
                break
    finally:  # what was deleted is audited, also when the database fails in between
        if purged:
            older_than = before.isoformat(timespec="seconds")
            audit.record("system", "tenant.calls_purged", tenant, tenant=tenant, count=purged, older_than=older_than)
    return purged


def _purge_batch(tenant: Tenant, before: datetime, at_once: int) -> int:
    """Delete one batch, oldest first, and then its files: a file that is left over is an orphan."""
    # What ended before then began before then: `created_at` is what the index `call_by_tenant` knows.
    return delete_batch(
        tenant.calls.filter(state__in=FINAL_STATES, created_at__lt=before, finished_at__lt=before), at_once
    )


def delete_batch(calls: QuerySet[Call], at_once: int) -> int:
    """Delete so many of these calls with their events, contents and files; return how many. Locked ones are left."""
    with transaction.atomic():
        oldest = calls.order_by("created_at").select_for_update(skip_locked=True)
        ids = list(oldest.values_list("pk", flat=True)[:at_once])
        files = list(StoredContent.objects.filter(call__in=ids).exclude(file="").values_list("file", flat=True))
        # Only the keys are read: results may have megabytes. Events and contents go in one statement each.
        Call.objects.filter(pk__in=ids).only("pk").delete()
    for file in files:
        sealed_files.storage().delete(file)
    return len(ids)


def _delete_orphans(storage: Storage, before: datetime, at_once: int) -> None:
    """Delete the files that no row names, unless they are so new that their row may be on its way."""
    for folder in _listed(storage, "")[0]:
        names = (f"{folder}/{name}" for name in _listed(storage, folder)[1])
        while batch := list(islice(names, at_once)):
            for name in _unnamed(batch):
                with suppress(FileNotFoundError):  # another run was quicker
                    if storage.get_modified_time(name) < before:
                        storage.delete(name)


def _listed(storage: Storage, folder: str) -> tuple[list[str], list[str]]:
    """Return the folders and files in a folder, none in one that is not there yet."""
    try:
        return storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def _unnamed(names: list[str]) -> Iterator[str]:
    """Return those of the files that no row names; a file's name says which call it belongs to."""
    calls = {call for name in names if (call := _call_of(name)) is not None}
    named = set(StoredContent.objects.filter(call__in=calls).exclude(file="").values_list("file", flat=True))
    return (name for name in names if name not in named)


def _call_of(name: str) -> UUID | None:
    try:
        return UUID(name.rpartition("/")[2][:36])
    except ValueError:
        return None
