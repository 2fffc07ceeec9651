"""The tables and the rows of a bench, made in a process with the product's settings, and the calls counted at its end.

`python -m tests.bench.furnish make URL` prints a token, `python -m tests.bench.furnish count` two numbers, and
`python -m tests.bench.furnish spread TENANTS CONNECTIONS` prints nothing, nor does
`python -m tests.bench.furnish unchecked URL TENANTS CONNECTIONS`.
"""

from __future__ import annotations

import sys
from copy import copy
from typing import TypeVar

import django
from django.db import connection
from django.db.models import Model

PLENTY = 30_000  # calls at a time
FAST = 10_000_000  # calls per minute: no limit is reached, and each one is asked


def make(server_url: str) -> str:
    """Make the tables, connections to the server in each era and with sessions, and an assignment; return its token."""
    from django.core.management import call_command

    from connections.models import Connection, Era, Tenant
    from tools.catalog import probing
    from tools.models import AccessToken, Assignment

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="acme", max_concurrency=PLENTY)
    remembering = server_url.replace("/mcp", "/remembers")
    servers = [
        ("modern", Era.MODERN, server_url),
        ("legacy", Era.LEGACY, server_url),
        ("session", Era.LEGACY, remembering),
    ]
    for name, era, url in servers:
        connection = Connection.objects.create(
            tenant=tenant, name=name, slug=name, server_url=url, era_choice=era,
            max_concurrency=PLENTY, max_rate=FAST, send_trace=True,
        )  # fmt: skip
        report = probing.probe(connection.pk)
        assert report is not None
        assert report.outcome == "passed", report.stages
    assignment = Assignment.objects.create(tenant=tenant, name="bench", max_rate=FAST)
    return AccessToken.issue(assignment=assignment)[1]


def spread(tenants: str, connections: str) -> None:
    """Make many organizations, each with an assignment and so many connections like the one of `make`."""
    from uuid_utils.compat import uuid7

    from connections.models import Connection, Tenant
    from tools.models import AccessToken, Assignment, Tool
    from tools.models.assignments import digest_of

    like, tool = Connection.objects.get(slug="modern"), Tool.objects.get(public_name="modern__echo")
    houses = [Tenant(name=f"house {n}", slug=f"house-{n}", max_concurrency=PLENTY) for n in range(int(tenants))]
    jobs = [Assignment(tenant=house, name="bench", max_rate=FAST) for house in houses]
    tokens = [AccessToken(assignment=job, digest=digest_of(token_of(n)), prefix="x") for n, job in enumerate(jobs)]
    links = [
        _changed(like, id=uuid7(), tenant=house, name=f"c{n}", slug=f"c{n}")
        for house in houses
        for n in range(int(connections))
    ]
    tools = [_changed(tool, id=uuid7(), connection=link, public_name=f"{link.slug}__echo") for link in links]
    for model, rows in (
        (Tenant, houses),
        (Assignment, jobs),
        (AccessToken, tokens),
        (Connection, links),
        (Tool, tools),
    ):
        model.objects.bulk_create(rows, batch_size=500)  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as autovacuum does on a machine that has been running for a while


def unchecked(server_url: str, tenants: str, connections: str) -> None:
    """Make the tables, and many organizations with so many connections that nobody has checked yet."""
    from django.core.management import call_command

    from connections.models import Connection, Tenant

    call_command("migrate", verbosity=0)
    houses = Tenant.objects.bulk_create(Tenant(name=f"house {n}", slug=f"house-{n}") for n in range(int(tenants)))
    Connection.objects.bulk_create(
        Connection(tenant=house, name=f"c{n}", slug=f"c{n}", server_url=server_url, next_probe_at="2100-01-01T00:00Z")
        for house in houses
        for n in range(int(connections))
    )


def token_of(number: int) -> str:
    """Return the token of one of the many organizations, which nobody has to remember."""
    return f"duvo_{number:043d}"


Row = TypeVar("Row", bound=Model)


def _changed(row: Row, **members: object) -> Row:
    changed = copy(row)
    for name, value in members.items():
        setattr(changed, name, value)
    return changed


def count() -> str:
    """Return how many calls there are, and how many of them succeeded."""
    from tools.models import Call

    return f"{Call.objects.count()} {Call.objects.filter(state='succeeded').count()}"


if __name__ == "__main__":
    django.setup()
    print({"make": make, "spread": spread, "unchecked": unchecked, "count": count}[sys.argv[1]](*sys.argv[2:]) or "")
