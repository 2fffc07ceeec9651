"""Drive the running product under the official MCP conformance suite: `make conformance`.

The product runs as `manage.py up` runs it (web, workers, beat, Valkey), on PostgreSQL. For every scenario the suite
starts a server of its own and `client.py`, which uses the product over HTTP. The last line counts; the exit code is 0
when every scored scenario passed. What happened in each, and the product's log, stays in `.cache/conformance/results/`.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path

import django

from duvo import processes, stack
from tests.conformance.suite import Suite, Verdict
from tests.servers import postgres

RESULTS = stack.BASE_DIR / ".cache" / "conformance" / "results"
# What the product promises beyond the scenarios that a revision requires.
CREDENTIALS = ["auth/client-credentials-basic", "auth/client-credentials-jwt"]
REVISIONS = {
    "2025-03-26": ["auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback"],
    "2025-11-25": CREDENTIALS,
    "2026-07-28": CREDENTIALS,
}
# Scenario: why it fails for now.
EXPECTED_TO_FAIL: dict[str, str] = {}

say = partial(print, flush=True, file=sys.stdout)


def environment(data: Path, port: int, database_url: str) -> dict[str, str]:
    """Return the product's settings: the suite's servers answer on loopback and know our client ID by this address."""
    return stack.embedded_environment(data, port=port) | {
        "DJANGO_SETTINGS_MODULE": "duvo.settings",
        "DATABASE_URL": database_url,
        "EGRESS_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
        "OAUTH_CLIENT_METADATA_URL": "https://conformance-test.local/client-metadata.json",
        "LOG_LEVEL": "ERROR",
    }


def people(port: int) -> dict[str, str]:
    """Make an organization, its admin and an assignment; return what `client.py` needs to be one of them."""
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from connections.models import Membership, Role, Tenant, User
    from tools.models import AccessToken, Assignment

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="acme")
    admin = User.objects.create_user("admin@acme.example", "admin@acme.example", "correct horse battery staple")
    membership = Membership.objects.create(user=admin, tenant=tenant, role=Role.ADMIN)
    assignment = Assignment.objects.create(tenant=tenant, name="Conformance", owner=admin)
    told = {
        "PRODUCT_URL": f"http://{processes.HOST}:{port}",
        "PRODUCT_ADMIN": admin.get_username(),
        "PRODUCT_PASSWORD": "correct horse battery staple",
        "PRODUCT_ADMIN_TOKEN": AccessToken.issue(membership=membership)[1],
        "PRODUCT_ASSIGNMENT_TOKEN": AccessToken.issue(assignment=assignment)[1],
    }
    connections.close_all()
    return told


async def judge(suite: Suite, data: Path, port: int, told: dict[str, str]) -> bool:
    """Run every revision against one running product; say whether all that is required passed."""
    command = shlex.join([sys.executable, "-m", "tests.conformance.client"])
    good = True
    counts: list[str] = []
    async with processes.running(port=port, data=data) as tree:
        for revision, promised in REVISIONS.items():
            began = time.monotonic()
            run = suite.run(revision, command, told, RESULTS / revision)
            verdicts = {verdict.scenario: verdict for verdict in await tree.unless_stopped(run)}
            say(f"\nMCP {revision}, {time.monotonic() - began:.0f} s")
            required = [*suite.scored(revision), *promised]
            failed = {name for name in required if not shown(name, verdicts.get(name), required=True)}
            for name in sorted(verdicts.keys() - set(required)):
                shown(name, verdicts[name], required=False)
            good = good and failed == EXPECTED_TO_FAIL.keys() & set(required)
            counts.append(f"{revision}: {len(required) - len(failed)} of {len(required)} passed")
    say(f"\n{'Good' if good else 'NOT good'}. {'; '.join(counts)}; expected to fail: {len(EXPECTED_TO_FAIL)}.")
    return good


def shown(name: str, verdict: Verdict | None, *, required: bool) -> bool:
    """Print one line of the table, and the faults below it; say whether the scenario passed."""
    passed = verdict is not None and verdict.ok
    remark = "" if required else "not required"
    if name in EXPECTED_TO_FAIL:
        remark = "passes by now: take it off the list" if passed else f"expected: {EXPECTED_TO_FAIL[name]}"
    say(f"  {'passed' if passed else 'failed'}  {name:<38} {remark}".rstrip())
    if required and not passed and name not in EXPECTED_TO_FAIL:
        for fault in verdict.faults if verdict else ["the suite did not run it"]:
            say(f"          {fault}")
    return passed


def main() -> int:
    suite = Suite.installed()
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    with ExitStack() as until_end:
        data = Path(until_end.enter_context(tempfile.TemporaryDirectory(prefix="duvo-conformance-")))
        port = stack.free_port()
        os.environ |= environment(data, port, until_end.enter_context(postgres.running()))
        told = people(port)
        until_end.enter_context(redirect_stdout(until_end.enter_context((RESULTS / "product.log").open("w"))))
        try:
            return 0 if asyncio.run(judge(suite, data, port, told)) else 1
        except (processes.StackError, processes.Stopped) as end:
            say(f"{str(end) or 'Stopped.'} See {RESULTS / 'product.log'}")
            return 1


if __name__ == "__main__":
    sys.exit(main())
