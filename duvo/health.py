"""The health checks, and the answers to unknown URLs and to failures of ours."""

from __future__ import annotations

import threading

import redis
from cachetools import TTLCache, cached
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.cache import never_cache

from tools.api import problems


def alive(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process answers at all."""
    return JsonResponse({"status": "ok"})


@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Answer 200 when database and broker answer, else 503 with which one does not; asked once a second."""
    checks = _checks()
    return JsonResponse({"checks": checks}, status=200 if all(checks.values()) else 503)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404, for the API as a problem (RFC 9457)."""
    if request.path.startswith("/v1/"):
        body = problems.problem(404, "not_found", "There is nothing here for you.")
        return JsonResponse(body, status=404, content_type=problems.CONTENT_TYPE)
    return defaults.page_not_found(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """Answer 500, for the API as a problem (RFC 9457)."""
    return problems.server_error() if request.path.startswith("/v1/") else defaults.server_error(request)


@cached(TTLCache(maxsize=1, ttl=1.0), condition=threading.Condition())
def _checks() -> dict[str, bool]:
    return {"database": _database(), "broker": _broker()}


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
    except redis.RedisError:
        return False
