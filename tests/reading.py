"""Everything that a curious person could read of the product, for tests that look for what must not be there."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db import connection as database

from connections.models import Connection
from duvo.logging import JsonFormatter
from tools.models import Call

QUEUES = ("probes", "housekeeping")  # `calls` has rows instead of messages
# Loggers of the MCP servers, which live in the same process as the product during tests.
OF_THE_SERVERS = ("sse_starlette",)


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """Valkey itself; the queues are empty at first."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(*QUEUES)
        yield client


def admin_pages(most: int | None = None) -> list[str]:
    """The paths of every page of the admin: for all connections, and for so many rows of each other model at most."""
    paths = ["/admin/", "/admin/connections/", "/admin/tools/"]
    for model in admin.site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        paths += [base, f"{base}add/"]
        found = model._default_manager.all()
        rows = list(found if model is Connection else found[:most])
        paths += [f"{base}{row.pk}/change/" for row in rows]
        paths += [f"{base}{row.pk}/{page}/" for row in rows[:2] for page in ("history", "delete")]
    paths += [f"/admin/tools/call/{row.pk}/life/" for row in Call.objects.all()[:most]]
    return [*paths, *(f"/admin/tools/probe/report/{row.pk}/" for row in Connection.objects.all())]


def tables() -> Iterator[tuple[str, str]]:
    """The name of every table, and all its rows as text."""
    names = database.introspection.table_names()
    assert {model._meta.db_table for model in apps.get_models()} <= set(names)
    with database.cursor() as cursor:
        for name in names:
            cursor.execute(f"SELECT * FROM {database.ops.quote_name(name)}")  # noqa: S608 - a name of our own
            yield name, str(cursor.fetchall())


def rows() -> Iterator[str]:
    """What every row says about itself."""
    for model in apps.get_models():
        for row in model._default_manager.all():
            yield repr(row) + str(row)


def messages(broker: redis.Redis, queue: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every waiting message of a queue as text, and the arguments of its task."""
    waiting: Any = broker.lrange(queue, 0, -1)
    for message in map(json.loads, waiting):
        body = base64.b64decode(message["body"]).decode()
        _, arguments, _ = json.loads(body)
        yield json.dumps(message) + body, arguments


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every line of the product's log so far, of fixtures too, as it is written in production."""
    records = [*caplog.get_records("setup"), *caplog.records]
    ours = [record for record in records if not record.name.startswith(OF_THE_SERVERS)]
    assert ours
    assert logging.getLogger().level == logging.DEBUG
    return [JsonFormatter().format(record) for record in ours]
