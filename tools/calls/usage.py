"""How much of its quotas an organization uses, counted by periodic tasks, so that calls need no query for it.

count_open   every few seconds: how many calls of each organization are open, into Redis, where limits.lua asks
measure      every hour: how many bytes an organization stores, into its row; limits.lua adds what comes after
of           what the organization's page shows
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import redis
from django.conf import settings
from django.db.models import Count, F, Func, IntegerField, QuerySet, Sum

from connections.models import Tenant
from connections.quotas import ASSIGNMENTS, CONNECTIONS, MEGABYTE, TOKENS
from tools.models import AccessToken, Assignment, Call, CallEvent, StoredContent, Tool, ToolVersion

OPEN: Final = "duvo:limits:open"  # hash: organization -> open calls
STORED: Final = "duvo:limits:stored:{}"  # bytes that calls have added since the last measurement
_OPEN_FOR: Final = 60  # seconds; when nobody counts any more, nobody is refused
_PATIENCE: Final = 1.0  # seconds that Redis may take


class Use(NamedTuple):
    """One quota: its name for programs and for people, how much is used (None: not known), how much may be."""

    name: str
    label: str
    used: int | None
    most: int


class _Octets(Func):
    """The bytes of a text; PostgreSQL knows them without decompressing it."""

    function = "octet_length"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """Use the name that the function has in SQLite."""
        return self.as_sql(compiler, connection, function="length", **more)


def octets(column: str) -> Func:
    """Return the expression for the bytes of a text column."""
    return _Octets(F(column))


def count_open() -> None:
    """Store in Redis how many calls of each organization are open."""
    rows = Call.objects.filter(finished_at=None).order_by().values_list("tenant").annotate(many=Count("pk"))
    counted = {str(tenant): many for tenant, many in rows}
    with _redis() as client, client.pipeline() as together:
        together.delete(OPEN)
        together.hset(OPEN, mapping={"": 0, **counted})  # Redis keeps no empty hash
        together.expire(OPEN, _OPEN_FOR)
        together.execute()


def measure(tenant: Tenant) -> int:
    """Count the bytes that an organization stores, write it into its row and return it."""
    try:
        before = _added(tenant)
    except redis.RedisError:
        before = 0
    size = sum(_sizes(tenant))
    Tenant.objects.filter(pk=tenant.pk).update(stored_bytes=size)
    if before:
        with _redis() as client:  # what calls have added while it was counted is counted again in an hour
            client.decrby(STORED.format(tenant.pk), before)
    return size


def of(tenant: Tenant) -> list[Use]:
    """Return how much of each quota an organization uses."""
    try:
        with _redis() as client:
            found: Any = client.hget(OPEN, str(tenant.pk)) or (0 if client.exists(OPEN) else None)
        added = _added(tenant)
    except redis.RedisError:
        found, added = None, 0
    return [
        Use("connections", "Connections", tenant.connections.count(), getattr(tenant, CONNECTIONS.field)),
        Use("assignments", "Assignments", tenant.assignments.count(), getattr(tenant, ASSIGNMENTS.field)),
        Use("tokens", "API tokens", AccessToken.objects.of(tenant.pk).count(), getattr(tenant, TOKENS.field)),
        Use("open_calls", "Open calls", None if found is None else int(found), tenant.max_open_calls),
        Use("stored_megabytes", "MB stored", round((tenant.stored_bytes + added) / MEGABYTE), tenant.max_stored),
    ]


def _sizes(tenant: Tenant) -> list[int]:
    calls = Call.objects.filter(tenant=tenant)
    tools = Tool.objects.filter(connection__tenant=tenant)
    return [
        _sum(calls, *Call.sealed_fields),
        _sum(CallEvent.objects.filter(call__tenant=tenant).exclude(sealed_progress=""), "sealed_progress"),
        StoredContent.objects.filter(call__tenant=tenant).aggregate(size=Sum("size"))["size"] or 0,
        _sum(Assignment.objects.filter(tenant=tenant), "instructions"),
        # The last seen and the approved definition of a tool are among its versions: twice their size is near enough.
        2 * (ToolVersion.objects.filter(tool__in=tools).aggregate(size=Sum("size"))["size"] or 0),
    ]


def _sum(rows: QuerySet[Any], *columns: str) -> int:
    sizes = {f"of_{column}": Sum(octets(column)) for column in columns}
    return sum(size or 0 for size in rows.order_by().aggregate(**sizes).values())


def _added(tenant: Tenant) -> int:
    with _redis() as client:
        found: Any = client.get(STORED.format(tenant.pk))
    return max(0, int(found or 0))


def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
