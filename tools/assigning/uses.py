"""Which assignments use which tools of some connections: what breaks when these are disabled or deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from connections.models import Connection
from tools.models import Assignment, Policy, Tool

NAMED = 3  # tools of one assignment


class Use(NamedTuple):
    """An assignment, how many tools of these connections it may use, and the first of their names."""

    assignment: Assignment
    tools: int
    names: list[str]

    @property
    def others(self) -> int:
        """How many tools are not named."""
        return self.tools - len(self.names)


class Uses(NamedTuple):
    """Who uses some connections: the first of them, and how many there are."""

    shown: list[Use]
    total: int

    @property
    def others(self) -> int:
        """How many assignments are not shown."""
        return self.total - len(self.shown)


def of(connections: Iterable[Connection], most: int) -> Uses:
    """Return the enabled assignments that may use tools of these connections, `most` of them by name."""
    rows = list(connections)
    offered = Tool.objects.filter(connection__in=[row.pk for row in rows], gone_at=None).exclude(policy=Policy.DENY)
    of_all = _named(offered, "connection__tenant", "public_name")
    chosen = Assignment.tools.through.objects.filter(tool__in=offered)
    reached = Q(scope=Assignment.Scope.ALL, tenant__in=list(of_all)) | (
        Q(scope=Assignment.Scope.CHOSEN) & Exists(chosen.filter(assignment=OuterRef("pk")))
    )
    users = Assignment.objects.filter(reached, enabled=True, tenant__in={row.tenant_id for row in rows})
    shown = list(users.select_related("owner").order_by("name", "pk")[: most + 1])
    total = users.count() if len(shown) > most else len(shown)
    of_one = _named(chosen.filter(assignment__in=[row.pk for row in shown[:most]]), "assignment", "tool__public_name")
    return Uses([_use(row, of_all, of_one) for row in shown[:most]], total)


def _named(tools: QuerySet[Any], by: str, name: str) -> dict[UUID, tuple[int, list[str]]]:
    """Return by this column how many tools there are, and the first names."""
    numbered = tools.order_by(name).annotate(
        number=Window(RowNumber(), partition_by=by, order_by=name), together=Window(Count("pk"), partition_by=by)
    )
    found: dict[UUID, tuple[int, list[str]]] = {}
    for key, called, together in numbered.filter(number__lte=NAMED).values_list(by, name, "together"):
        found.setdefault(key, (together, []))[1].append(called)
    return found


def _use(row: Assignment, of_all: dict[UUID, tuple[int, list[str]]], of_one: dict[UUID, tuple[int, list[str]]]) -> Use:
    tools, names = of_all[row.tenant_id] if row.scope == Assignment.Scope.ALL else of_one.get(row.pk, (0, []))
    return Use(row, tools, names)
