"""A large platform's pages, API and housekeeping: `make scale`, or `python -m tests.scale [--calls 200000] [PART ...]`.

It fills a PostgreSQL of its own with 10,000 connections, 50,000 tools and 1,000,000 calls of 1,000 organizations, and
asks for every list with every filter and search, a page of each kind of row, every list of the API, and every task that
beat sends. It ends with a status other than 0 when something takes more than it may (`size.py`).

To measure again and again, keep the database: `python -m tests.servers.postgres -- bash`, and run it in there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.load.machine import Others
from tests.scale import addresses, measure, purging, seed, tasks
from tests.scale.measure import Cost
from tests.scale.people import HOST, browsers, programs
from tests.scale.progress import through
from tests.scale.size import CALLS_OF_ALL, CONNECTIONS_OF_ALL, TENANTS_OF_ALL, Size
from tests.servers import postgres, valkey

PARTS = ("pages", "api", "tasks", "purge", "jobs")
HEAD = f"{'who':<10} {'ms':>7} {'of db':>7} {'cpu':>7} {'KB':>6} {'queries':>7}  what"


def main() -> int:
    """Measure what was asked for; return the status of this process."""
    options = argparse.ArgumentParser(prog="python -m tests.scale", description="A large platform, measured.")
    options.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}; all without")
    options.add_argument("--calls", type=int, default=CALLS_OF_ALL, help="how many calls there are")
    options.add_argument("--connections", type=int, default=CONNECTIONS_OF_ALL)
    options.add_argument("--tenants", type=int, default=TENANTS_OF_ALL)
    options.add_argument("--only", default="", help="measure only what has this in its name")
    options.add_argument("--who", default="", help="measure only what this person or program asks for")
    options.add_argument("--slowest", action="store_true", help="print the slowest statement of what is over")
    asked = options.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        options.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with _database() as database_url, valkey.running() as redis_url:
        _set_up(database_url, redis_url)
        if not _is_sown():
            seed.sow(database_url, Size(asked.calls, asked.connections, asked.tenants))
        print(*purging.weights(), sep="\n", flush=True)
        others = Others()
        costs = [cost for part in asked.parts or PARTS for cost in _measured(part, asked.only, asked.who)]
        share = others.share
    over = [cost for cost in costs if cost.faults]
    if asked.slowest:
        print(*(f"\n{cost.what}\n   {cost.slowest}" for cost in over), sep="\n")
    print(f"scale: {len(costs)} measured, others had {share:.0f} % of the machine", flush=True)
    print(*(f"scale: {cost.line()}" for cost in over) if over else ["scale: nothing is over its budget"], sep="\n")
    return 1 if over else 0


@contextmanager
def _database() -> Iterator[str]:
    """Give the URL of the database of this shell, or of one that ends with this process."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with postgres.running(durable=True) as url:
        yield url


def _is_sown() -> bool:
    from connections.models import Tenant

    return Tenant.objects.filter(slug="company-0000").exists()


def _set_up(database_url: str, redis_url: str) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "duvo.settings", "DATABASE_URL": database_url, "REDIS_URL": redis_url,
        "SECRET_KEY": "x" * 50, "SEAL_KEYS": "eA" * 22 + "==", "PUBLIC_URL": f"http://{HOST}", "ALLOWED_HOSTS": HOST,
        "LOG_LEVEL": "CRITICAL", "LOG_FORMAT": "text", "ENV_FILE": os.devnull,
    }  # fmt: skip
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    # The layer of static files looks through all of them for each new client.
    settings.MIDDLEWARE = [layer for layer in settings.MIDDLEWARE if not layer.startswith("servestatic.")]
    call_command("migrate", verbosity=0)


def _measured(part: str, only: str, who: str) -> Iterator[Cost]:
    """Measure a part, and print its rows."""
    print(f"\n{part}", HEAD, sep="\n", flush=True)
    for cost in _costs(part, only, who):
        print(cost.line(), flush=True)
        yield cost


def _costs(part: str, only: str, who: str) -> Iterator[Cost]:
    if part in ("pages", "api"):
        of = addresses.of_person if part == "pages" else addresses.of_program
        every = browsers() if part == "pages" else programs()
        for looker in (looker for looker in every if who in looker.name):
            found = [address for address in dict.fromkeys(of(looker)) if only in address]
            for address in through(found, looker.name):
                if cost := measure.page(looker.name, address, looker.get):
                    yield cost
        return
    if part == "purge":
        yield from purging.costs()
        return
    for name, run in (tasks.quick() if part == "tasks" else tasks.long()).items():
        if only in name:
            yield measure.task(name, run, tasks.as_in_a_tick)


if __name__ == "__main__":
    sys.exit(main())
