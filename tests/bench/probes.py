"""Measure the checks of connections: `python -m tests.bench.probes [CONNECTIONS [TENANTS [TOOLS]]]`.

One worker of the queue `probes`, one of `housekeeping`, beat, a raw server whose listing has so many tools, PostgreSQL
that waits for the disk. Each connection is checked once, which lists its tools for the first time; then all are due at
once again, nothing has changed, and that round is measured: checks per second from the first to the last, and the CPU
time that each process spends on one. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psycopg

from tests.bench.product import cpu, environment_of, furnish, process
from tests.servers import postgres, valkey

PLACES = os.environ.get("BENCH_PLACES", "4")  # processes of the worker, as `make up` has them
PATIENCE = 900.0  # seconds for one round
_DUE = "UPDATE connections_connection SET next_probe_at = now(), probed_at = NULL"
_CHECKED = "SELECT count(*) FROM connections_connection WHERE probed_at IS NOT NULL"
_FAILED = "SELECT count(*) FROM tools_probe WHERE outcome <> 'passed'"

say = partial(print, flush=True)


@contextmanager
def workers(environment: dict[str, str]) -> Iterator[dict[str, int]]:
    """Run the processes that checks need; give their process ids by name."""
    worker = ["celery", "--quiet", "--app", "duvo", "worker", "--without-gossip", "--without-mingle"]
    commands = {
        "probes": [*worker, "--queues", "probes", "--concurrency", PLACES, "--hostname", "probes@%h"],
        "housekeeping": [*worker, "--queues", "housekeeping", "--concurrency", "1", "--hostname", "housekeeping@%h"],
        "beat": ["celery", "--quiet", "--app", "duvo", "beat"],
    }
    with ExitStack() as until_end:
        started = {
            name: until_end.enter_context(process(*command, environment=environment))
            for name, command in commands.items()
        }
        yield {name: child.pid for name, child in started.items()}


def round_(database: psycopg.Connection, many: int, watched: dict[str, int]) -> dict[str, float]:
    """Have every connection checked; return seconds, checks per second and CPU milliseconds per check."""

    def checked() -> int:
        row = database.execute(_CHECKED).fetchone()
        assert row is not None
        return int(row[0])

    before = {name: cpu(pid) for name, pid in watched.items()}
    database.execute(_DUE)
    deadline, first = time.monotonic() + PATIENCE, 0.0
    while (done := checked()) < many:
        if done and not first:
            first = time.monotonic()
        assert time.monotonic() < deadline, f"only {done} of {many} were checked"
        time.sleep(0.1)
    seconds = time.monotonic() - first
    spent = {f"{name}_cpu_ms": round(1000 * (cpu(pid) - before[name]) / many, 2) for name, pid in watched.items()}
    return {"seconds": round(seconds, 1), "checks_per_s": round(many / seconds, 1), **spent}


def main(connections: int = 1_000, tenants: int = 200, tools: int = 20) -> None:
    """Start everything, measure, stop everything."""
    with ExitStack() as until_end:
        broker = until_end.enter_context(valkey.running())
        echo = until_end.enter_context(process("tests.servers.echo", "--port", "0", "--tools", str(tools)))
        assert echo.stdout is not None
        database = until_end.enter_context(postgres.cluster(durable=True))
        environment = environment_of(database.url, broker)
        furnish(environment, "unchecked", echo.stdout.readline().strip(), str(tenants), str(connections // tenants))
        watched = until_end.enter_context(workers(environment))
        watched |= {"postgresql": database.pid, "valkey": _listener(broker)}
        with psycopg.connect(database.url, autocommit=True) as rows:
            first = round_(rows, connections, watched)
            say("the first listing", first)
            again = round_(rows, connections, watched)
            say("nothing has changed", again)
            failed = rows.execute(_FAILED).fetchone()
            assert failed == (0,), f"{failed} checks failed"
    say(json.dumps({"connections": connections, "tenants": tenants, "tools": tools, "first": first, "again": again}))


def _listener(url: str) -> int:
    """Return the process that serves a unix socket in a folder of its own."""
    folder = str(Path(url.removeprefix("unix://")).parent)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and folder in (entry / "cmdline").read_text():
            return int(entry.name)
    raise AssertionError(url)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
