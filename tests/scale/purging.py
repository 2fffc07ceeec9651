"""Deleting old calls: how long a batch holds its rows, how many go in a second, and what the tables weigh."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from tests.scale.measure import Cost
from tests.scale.size import BATCH_MS

BATCHES = 40
_WEIGHT = """
    SELECT pg_table_size(c.oid), pg_indexes_size(c.oid), c.reltuples FROM pg_class c WHERE c.relname = %s
"""


def costs() -> Iterator[Cost]:
    """Purge some batches of the first organization's calls; yield what the middle one and the longest cost."""
    from django.utils import timezone

    from connections.models import Tenant
    from tools.calls import retention

    first = Tenant.objects.get(slug="company-0000")
    before = timezone.now() - timedelta(days=10)
    took = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        if retention._purge_batch(first, before, retention.AT_ONCE) < retention.AT_ONCE:
            break
        took.append(1000 * (time.perf_counter() - began))
    took.sort()
    for name, value in (("in the middle", took[len(took) // 2]), ("the longest", took[-1])):
        what = f"a batch of {retention.AT_ONCE} calls, {name}: {retention.AT_ONCE / value * 1000:,.0f} a second"
        yield Cost("purge", what, value, value, 1, most=BATCH_MS)


def weights() -> Iterator[str]:
    """Yield what the largest tables weigh."""
    from django.db import connection

    with connection.cursor() as cursor:
        for table in ("tools_call", "tools_callevent", "tools_storedcontent", "tools_dailyuse", "tools_probe"):
            cursor.execute(_WEIGHT, [table])
            rows, indexes, count = cursor.fetchone()
            yield f"{table}: {count:,.0f} rows, {rows / 2**20:,.0f} MB, indexes {indexes / 2**20:,.0f} MB"
