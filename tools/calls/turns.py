"""Whose queued call is made next: the organization's that has the fewest under way, and none takes all slots.

An organization gets another slot only as long as it holds fewer than are left free. Alone it fills half of a worker,
two fill two thirds, and whoever comes next finds a slot at once. Among equals it goes round.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

from tools.models import Call
from tools.models.call_states import CallState

# Goes from organization to organization, not from row to row: a backlog of 100,000 calls costs no more than one.
_WAITING = """
    WITH RECURSIVE tenants(id) AS (
        SELECT * FROM (SELECT tenant_id FROM tools_call WHERE state = 'queued' ORDER BY tenant_id LIMIT 1) AS first
        UNION ALL
        SELECT (
            SELECT tenant_id FROM tools_call WHERE state = 'queued' AND tenant_id > tenants.id
            ORDER BY tenant_id LIMIT 1
        ) FROM tenants WHERE tenants.id IS NOT NULL
    )
    SELECT id FROM tenants WHERE id IS NOT NULL AND EXISTS (
        SELECT 1 FROM tools_call WHERE state = 'queued' AND tenant_id = tenants.id AND lease_until <= %s
    ) AND NOT EXISTS (SELECT 1 FROM connections_tenant AS t WHERE t.id = tenants.id AND t.suspended_at IS NOT NULL)
"""


def allocate(waiting: Sequence[UUID], held: Mapping[UUID, int], slots: int) -> Counter[UUID]:
    """Return how many of a worker's free slots each waiting organization gets; among equals the first come first."""
    free = slots - sum(held.values())
    fewest = [(held.get(tenant, 0), position, tenant) for position, tenant in enumerate(waiting)]
    heapq.heapify(fewest)
    given: Counter[UUID] = Counter()
    while fewest and fewest[0][0] < free:
        holds, position, tenant = fewest[0]
        heapq.heapreplace(fewest, (holds + 1, position, tenant))
        given[tenant] += 1
        free -= 1
    return given


class Turns:
    """The order in which one worker serves the organizations."""

    def __init__(self, slots: int) -> None:
        """Take how many calls the worker makes at a time."""
        self.slots = slots
        self._served: dict[UUID, None] = {}  # who was served last stands last

    def take(self, held: Mapping[UUID, int], now: datetime, keep: timedelta) -> list[tuple[UUID, UUID]]:
        """Return tenant and id of the queued calls to be made now; for the time `keep` no other worker takes them.

        They stay queued. `held` says how many calls of each organization are under way in this worker.
        """
        taken: list[tuple[UUID, UUID]] = []
        under_way = Counter(held)
        waiting = self._waiting(now)
        while given := allocate(waiting, under_way, self.slots):
            short = set()
            for tenant, most in given.items():
                calls = _reserve(tenant, most, now, now + keep)
                taken += [(tenant, call) for call in calls]
                under_way[tenant] += len(calls)
                if len(calls) < most:  # it has no more, or another worker was quicker: its slots go to others
                    short.add(tenant)
                if calls:
                    self._served.pop(tenant, None)
                    self._served[tenant] = None
            if not short:
                break
            waiting = [tenant for tenant in waiting if tenant not in short]
        return taken

    def _waiting(self, now: datetime) -> list[UUID]:
        with connection.cursor() as cursor:
            cursor.execute(_WAITING, [connection.ops.adapt_datetimefield_value(now)])
            found = {tenant if isinstance(tenant, UUID) else UUID(tenant) for (tenant,) in cursor.fetchall()}
        self._served = {tenant: None for tenant in self._served if tenant in found}
        return [*sorted(found - self._served.keys()), *self._served]


def _reserve(tenant: UUID, most: int, now: datetime, until: datetime) -> list[UUID]:
    """Return the queued calls of an organization that wait longest, reserved for this worker until `until`."""
    due = Call.objects.filter(tenant=tenant, state=CallState.QUEUED, lease_until__lte=now).order_by("lease_until")
    with transaction.atomic():
        skips = connection.features.has_select_for_update_skip_locked
        calls = list(due.select_for_update(skip_locked=skips).values_list("pk", flat=True)[:most])
        Call.objects.filter(pk__in=calls, state=CallState.QUEUED).update(lease_until=until)
    return calls
