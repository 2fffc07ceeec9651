"""The tables and rows of one attack: `python -m tests.neighbours.furnish ATTACK ACME_URL RIVAL_PORT` prints the keys.

It runs in a process of its own, with the settings of the product's processes, which are not those of who measures.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import django

from tests.neighbours.attacks import ATTACKS
from tests.neighbours.plan import PASSWORD, Keys, Wanted

QUIET = ("north", "east", "south")  # organizations that only have their connection checked
PLENTY = 1_000  # calls at a time: what an admin may set


def furnish(name: str, acme_url: str, rival_port: int) -> Keys:
    """Make tables and rows, and check the connections as often as the attack wants; return the keys."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    acme_token, acme_admin, acme = _house("acme", {"orders": acme_url, "stock": acme_url})
    for quiet in QUIET:
        _house(quiet, {"orders": acme_url})
    rival_token, rival_admin, rival = _house("rival", {})
    for wanted in ATTACKS[name].wanted:
        rival[wanted.slug] = _rival(wanted, rival_port)
    return Keys(acme_token, acme_admin, acme, rival_token, rival_admin, rival)


def _house(name: str, urls: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    """Make an organization with checked connections; return the tokens of its assignment and admin, and their ids."""
    from connections.models import Membership, Role, Tenant, User
    from tools.models import AccessToken, Assignment

    tenant = Tenant.objects.create(name=name)
    admin = User.objects.create_user(f"admin@{name}.example", f"admin@{name}.example", PASSWORD)
    membership = Membership.objects.create(user=admin, tenant=tenant, role=Role.ADMIN)
    made = {slug: _connection(tenant, slug, url) for slug, url in urls.items()}
    for connection in made.values():
        _check(connection, must_pass=True)
    assignment = Assignment.objects.create(tenant=tenant, name="Nightly", owner=admin)
    tokens = AccessToken.issue(assignment=assignment)[1], AccessToken.issue(membership=membership)[1]
    return *tokens, {slug: str(connection.pk) for slug, connection in made.items()}


def _rival(wanted: Wanted, port: int) -> str:
    from connections.models import Tenant
    from tools.models import Tool

    url = f"http://{wanted.host}:{port}/{wanted.behaviour}/mcp"
    settings = {"max_concurrency": PLENTY, **wanted.settings}
    connection = _connection(Tenant.objects.get(name="rival"), wanted.slug, url, **settings)
    for _ in range(wanted.checks):
        _check(connection)
    Tool.objects.filter(connection=connection).update(placement="at_once")  # a call runs where its caller wants it
    return str(connection.pk)


def _connection(tenant: Any, slug: str, url: str, **more: Any) -> Any:
    from django.utils import timezone

    from connections.models import Connection

    later = timezone.now() + timedelta(hours=1)  # until the attack asks for it, or the first check says when
    name = slug.title()
    return Connection.objects.create(tenant=tenant, name=name, slug=slug, server_url=url, next_probe_at=later, **more)


def _check(connection: Any, *, must_pass: bool = False) -> None:
    from tools.catalog import probing

    report = probing.probe(connection.pk)
    assert report is not None
    assert report.outcome == "passed" or not must_pass, report.stages


if __name__ == "__main__":
    django.setup()
    attack, acme_url, rival_port = sys.argv[1:]
    print(furnish(attack, acme_url, int(rival_port)).written())
