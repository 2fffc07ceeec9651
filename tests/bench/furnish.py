"""The tables and the rows of a bench, made in a process with the product's settings, and the calls counted at its end.

`python -m tests.bench.furnish make URL` prints a token, `python -m tests.bench.furnish count` two numbers.
"""

from __future__ import annotations

import sys

import django

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


def count() -> str:
    """Return how many calls there are, and how many of them succeeded."""
    from tools.models import Call

    return f"{Call.objects.count()} {Call.objects.filter(state='succeeded').count()}"


if __name__ == "__main__":
    django.setup()
    print({"make": make, "count": count}[sys.argv[1]](*sys.argv[2:]))
