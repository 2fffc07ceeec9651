"""The health checks, and the answers to unknown URLs and to failures of ours."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import Final

import redis
from cachetools import TTLCache, cached
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views import defaults
from django.views.decorators.cache import never_cache

from connections import heartbeats
from duvo import database_failures
from tools.api import problems

PARTS: Final = ("database", "migrations", "writes", "broker", *heartbeats.NAMES)
NEEDED: Final = frozenset({"database", "migrations", "broker"})  # by a web process that is to get requests
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Health:
    """Which parts of the product work, and how many seconds ago the processes in the background did."""

    parts: dict[str, bool]
    ages: dict[str, float | None] = field(default_factory=dict)

    @property
    def degraded(self) -> list[str]:
        """Return the parts that do not work."""
        return [name for name, works in self.parts.items() if not works]


def alive(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process answers at all."""
    return JsonResponse({"status": "ok"})


@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Answer 200 when the parts that are needed work, else 503; asked once a second.

    `?require=` names the needed parts with commas, or `all`; else they are what a web process cannot do without.
    """
    wanted = {name.strip() for text in request.GET.getlist("require") for name in text.split(",") if name.strip()}
    if unknown := wanted - {*PARTS, ALL}:
        known = ", ".join((*PARTS, ALL))
        return JsonResponse({"error": f"There is no part {min(unknown)[:40]!r}; there are {known}."}, status=400)
    needed = set(PARTS) if ALL in wanted else wanted or NEEDED
    health = now()
    missing = needed.intersection(health.degraded)
    answer = {
        "status": "not ready" if missing else "degraded" if health.degraded else "ready",
        "checks": health.parts,
        "degraded": health.degraded,
        "required": [name for name in PARTS if name in needed],
        "seconds_since": health.ages,
    }
    return JsonResponse(answer, status=503 if missing else 200)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404, for the API as a problem (RFC 9457)."""
    if request.path.startswith("/v1/"):
        body = problems.problem(404, "not_found", "There is nothing here for you.")
        return JsonResponse(body, status=404, content_type=problems.CONTENT_TYPE)
    return defaults.page_not_found(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """Answer 500, for the API as a problem (RFC 9457); 503 where it is only the database that does not answer."""
    known = database_failures.answer_to(request, sys.exc_info()[1])
    if known is not None:
        return known
    return problems.server_error() if request.path.startswith("/v1/") else defaults.server_error(request)


@cached(TTLCache(maxsize=1, ttl=1.0), condition=threading.Condition())
def now() -> Health:
    """Return which parts work, as of at most a second ago."""
    database = _database()
    signs = heartbeats.seen()
    parts = {"database": database, "migrations": database and _is_migrated()}
    parts |= {"writes": not signs.refuses_writes, "broker": _broker()}
    moment = timezone.now()
    ages = {sign.name: age and round(age, 1) for sign in signs.processes for age in [sign.age(moment)]}
    return Health(parts | {sign.name: not sign.late for sign in signs.processes}, ages)


def _database() -> bool:
    try:
        connection.ensure_connection()
    except DatabaseError:
        return False
    return True


def _broker() -> bool:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1) as broker:
            return bool(broker.ping())
    except (redis.RedisError, OSError):
        return False


_migrated = threading.Event()  # set once and for all: nothing takes a migration back


def _is_migrated() -> bool:
    """Whether the database has every migration of this version."""
    if not _migrated.is_set():
        try:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return False
        except DatabaseError:
            return False
        _migrated.set()
    return True
