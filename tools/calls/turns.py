"""Whose queued call is made next: the organization's that has the fewest under way, and none takes all slots.

An organization gets another slot only as long as it holds fewer than are left free. Alone it fills half of a worker,
two fill two thirds, and whoever comes next finds a slot at once. Among equals it goes round.

`Turns` decides and asks nobody: its questions are answered on the line of an event loop, or by Django.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from tools.calls.lines import QUICKLY, Line, Rows
from tools.models import Call
from tools.models.call_states import CallState

# Goes from organization to organization, not from row to row: a backlog of 100,000 calls costs no more than one.
_WAITING: Final = """
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
# What a run needs of its row.
_READ: Final = (
    "id", "tenant_id", "assignment_id", "token_id", "connection_id", "tool_id", "tool_name", "tool_digest",
    "server_url", "state", "sealed_arguments", "request_id", "created_at", "sent_at", "attempts", "decided_at",
    "sealed_question", "sealed_answers", "traceparent", "session_name",
)  # fmt: skip
# Not waiting for the disk: what a crash of the database takes back is due again, and only a claim lets a call run.
_RESERVE: Final = f"""
    WITH due AS (
        SELECT call.id, call.lease_until
        FROM unnest(%s::uuid[], %s::int[]) AS wanted(tenant_id, most) CROSS JOIN LATERAL (
            SELECT id, lease_until FROM tools_call
            WHERE tenant_id = wanted.tenant_id AND state = 'queued' AND lease_until <= %s
            ORDER BY lease_until LIMIT wanted.most FOR UPDATE SKIP LOCKED
        ) AS call
    )
    UPDATE tools_call SET lease_until = %s
    FROM due, {QUICKLY}
    WHERE tools_call.id = due.id AND tools_call.state = 'queued'
    RETURNING due.lease_until, {", ".join(f"tools_call.{name}" for name in _READ)}
"""  # noqa: S608 - the names are ours


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


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Which organizations have queued calls that are due?"""

    now: datetime


@dataclass(frozen=True, slots=True)
class _Reserve:
    """So many calls of each organization, those that wait longest, for nobody else until then."""

    given: Counter[UUID]
    now: datetime
    until: datetime


_Questions = Generator[_Waiting | _Reserve, Any, list[Call]]


class Turns:
    """The order in which one worker serves the organizations."""

    def __init__(self, slots: int) -> None:
        """Take how many calls the worker makes at a time."""
        self.slots = slots
        self.some_wait = False  # for a slot of this worker, when it last took some
        self._served: dict[UUID, None] = {}  # who was served last stands last

    def take(self, held: Mapping[UUID, int], now: datetime, keep: timedelta) -> list[Call]:
        """Return the queued calls to be made now, from synchronous code; for the time `keep` no other worker has them.

        They stay queued. `held` says how many calls of each organization are under way in this worker.
        """
        questions = self._questions(held, now, keep)
        try:
            question = next(questions)
            while True:
                question = questions.send(_answer(question))
        except StopIteration as end:
            return list(end.value)

    async def take_on(self, line: Line, held: Mapping[UUID, int], now: datetime, keep: timedelta) -> list[Call]:
        """Do the same on the line of an event loop."""
        questions = self._questions(held, now, keep)
        try:
            question = next(questions)
            while True:
                question = questions.send(await _answer_on(line, question))
        except StopIteration as end:
            return list(end.value)

    def _questions(self, held: Mapping[UUID, int], now: datetime, keep: timedelta) -> _Questions:
        taken: list[Call] = []
        under_way = Counter(held)
        waiting = self._in_turn((yield _Waiting(now)))
        while given := allocate(waiting, under_way, self.slots):
            calls: list[Call] = yield _Reserve(given, now, now + keep)
            got = Counter(call.tenant_id for call in calls)
            taken += calls
            under_way += got
            for tenant in filter(got.__contains__, given):
                self._served.pop(tenant, None)
                self._served[tenant] = None
            # Who has no more, or was taken from by another worker more quickly: its slots go to others.
            short = {tenant for tenant, most in given.items() if got[tenant] < most}
            waiting = [tenant for tenant in waiting if tenant not in short]
            if not short:
                break
        self.some_wait = bool(waiting)
        return taken

    def _in_turn(self, found: set[UUID]) -> list[UUID]:
        self._served = {tenant: None for tenant in self._served if tenant in found}
        return [*sorted(found - self._served.keys()), *self._served]


async def _answer_on(line: Line, question: _Waiting | _Reserve) -> Any:
    # Asked again on another connection if this one is broken: what was reserved by the first is due again later.
    if isinstance(question, _Waiting):
        return {tenant for (tenant,) in await line.ask_again(_WAITING, [question.now])}
    return _reserved(question, await line.ask_again(_RESERVE, _values(question)))


def _answer(question: _Waiting | _Reserve) -> Any:
    if isinstance(question, _Reserve) and connection.vendor != "postgresql":
        return [call for tenant, most in question.given.items() for call in _reserve_one_by_one(tenant, most, question)]
    with connection.cursor() as cursor:
        if isinstance(question, _Reserve):
            cursor.execute(_RESERVE, _values(question))
            return _reserved(question, cursor.fetchall())
        cursor.execute(_WAITING, [connection.ops.adapt_datetimefield_value(question.now)])
        return {tenant if isinstance(tenant, UUID) else UUID(tenant) for (tenant,) in cursor.fetchall()}


def _values(question: _Reserve) -> list[Any]:
    return [list(question.given), list(question.given.values()), question.now, question.until]


def _reserved(question: _Reserve, rows: Rows) -> list[Call]:
    """Return the calls of the organizations in their order, of each those first that wait longest."""
    order = {tenant: position for position, tenant in enumerate(question.given)}
    waited = sorted(rows, key=lambda row: (order[row[1 + _READ.index("tenant_id")]], row[0]))
    return [Call.from_db(connection.alias, _READ, row[1:]) for row in waited]


def _reserve_one_by_one(tenant: UUID, most: int, question: _Reserve) -> list[Call]:
    queued = Call.objects.filter(tenant=tenant, state=CallState.QUEUED)
    due = queued.filter(lease_until__lte=question.now).order_by("lease_until")
    with transaction.atomic():
        calls = list(due.only(*_READ)[:most])
        queued.filter(pk__in=[call.pk for call in calls]).update(lease_until=question.until)
    return calls
