"""The tables and the rows that the scenes need: `python -m tests.faults.furnish URL URL` prints tokens.

It runs in a process of its own, with the settings of the product's processes, which are not those of the tests.
"""

from __future__ import annotations

import sys
from typing import Any

import django

IMPATIENCE = 2  # seconds that the connection `hasty` waits for a sign of life
MANY = 30_000  # no limit stands in the way of what is measured here
ASSIGNMENTS = 6  # each may wait for 200 calls at a time


def furnish(server_url: str, other_url: str) -> str:
    """Make the tables, connections to two servers, and assignments that may use them; return their tokens."""
    from django.core.management import call_command

    from connections.models import Connection, Tenant
    from tools.catalog import probing
    from tools.models import AccessToken, Assignment, Tool

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="acme", max_concurrency=MANY, max_open_calls=MANY)
    connections: dict[str, dict[str, Any]] = {
        "patient": {"server_url": f"{server_url}/mcp"},
        "hasty": {"server_url": f"{server_url}/mcp", "idle_timeout": IMPATIENCE},
        "other": {"server_url": f"{other_url}/mcp"},
    }
    for name, more in connections.items():
        connection = Connection.objects.create(
            tenant=tenant, name=name.title(), slug=name, max_concurrency=MANY, **more
        )
        report = probing.probe(connection.pk)
        assert report is not None
        assert report.outcome == "passed", report.stages
    Tool.objects.update(placement="at_once")  # where a call runs is the scene's choice, not learned from slow ones
    names = ["Scenes", *(f"Scenes {number}" for number in range(2, ASSIGNMENTS + 1))]
    assignments = [Assignment.objects.create(tenant=tenant, name=name) for name in names]
    return " ".join(AccessToken.issue(assignment=assignment)[1] for assignment in assignments)


if __name__ == "__main__":
    django.setup()
    print(furnish(*sys.argv[1:]))  # noqa: T201
