"""Measure the call path: `make bench`. The last line is one JSON object.

One web process, one raw echo server, the ledger on PostgreSQL that waits for the disk. Calls through the product and
direct calls to the echo server are made in turn, in one run, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import django

from duvo import stack
from tests.bench import load
from tests.servers import postgres, valkey

CALLS = int(os.environ.get("BENCH_CALLS", "6000"))
ROUNDS = 3
CALLERS = (1, 8, 32)
ARGUMENTS = {"text": "x" * 128}
HOST = "127.0.0.1"


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a child that dies with this process."""
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


def prepare(echo_url: str) -> str:
    """Make the tables, a connection to the echo server and an assignment; return its token."""
    django.setup()
    from django.core.management import call_command

    from connections.models import Connection, Tenant
    from tools import probing
    from tools.models import AccessToken, Assignment

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="acme")
    connection = Connection.objects.create(tenant=tenant, name="Echo", slug="echo", server_url=echo_url)
    report = probing.probe(connection.pk)
    assert report is not None
    assert report.outcome == "passed", report.stages
    return AccessToken.issue(assignment=Assignment.objects.create(tenant=tenant, name="bench"))[1]


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def wait_until_up(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            assert time.monotonic() < deadline, "the web process did not start"
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def measure(web: subprocess.Popen[str], web_port: int, echo_port: int, token: str) -> dict[str, float]:
    """Print a table and return the figures for 32 callers."""
    await wait_until_up(web_port)
    governed = load.post(
        HOST, "/v1/tools/echo__echo/call", {"arguments": ARGUMENTS}, {"Authorization": f"Bearer {token}"}
    )
    rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": ARGUMENTS}}
    direct = load.post(HOST, "/mcp", rpc, {})
    await load.run(HOST, web_port, governed, callers=8, calls=500)  # imports, caches and pools are warm afterwards
    print("callers  CPU ms/call  calls/s   p50 ms   p95 ms   p99 ms   direct calls/s  direct p50 ms")
    figures: dict[str, float] = {}
    for callers in CALLERS:
        ours, theirs, spent = load.Load(), load.Load(), 0.0
        calls = CALLS // ROUNDS if callers > 1 else CALLS // ROUNDS // 3
        for _ in range(ROUNDS):
            part = await load.run(HOST, echo_port, direct, callers=callers, calls=calls)
            theirs.seconds += part.seconds
            theirs.latencies += part.latencies
            before = cpu(web.pid)
            part = await load.run(HOST, web_port, governed, callers=callers, calls=calls)
            spent += cpu(web.pid) - before
            ours.seconds += part.seconds
            ours.latencies += part.latencies
        each = 1000 * spent / len(ours.latencies)
        print(
            f"{callers:7}  {each:11.2f}  {ours.per_second:7.0f}  {ours.percentile(50):7.2f}  {ours.percentile(95):7.2f}"
            f"  {ours.percentile(99):7.2f}  {theirs.per_second:15.0f}  {theirs.percentile(50):13.2f}"
        )
        figures = {
            "cpu_ms_per_call": round(each, 3),
            "calls_per_s": round(ours.per_second, 1),
            "direct_calls_per_s": round(theirs.per_second, 1),
            "p50_ms": round(ours.percentile(50), 2),
            "p99_ms": round(ours.percentile(99), 2),
        }
    return figures


def check_ledger(expected: int) -> None:
    """Every call that was answered is in the ledger, with its outcome."""
    from tools.models import Call

    succeeded = Call.objects.filter(state="succeeded").count()
    assert succeeded == Call.objects.count() == expected, f"{succeeded} of {expected} calls are in the ledger"


def main() -> None:
    """Start everything, measure, stop everything."""
    with ExitStack() as until_end:
        os.environ.update(
            DATABASE_URL=until_end.enter_context(postgres.running(durable=True)),
            REDIS_URL=until_end.enter_context(valkey.running()),
            DJANGO_SETTINGS_MODULE="duvo.settings",
            SECRET_KEY="x" * 50,
            SEAL_KEYS="eA" * 22 + "==",
            PUBLIC_URL=f"http://{HOST}",
            EGRESS_ALLOWED_NETWORKS="127.0.0.0/8",
            LOG_LEVEL="WARNING",
        )
        echo = until_end.enter_context(process("tests.servers.echo", "--port", "0"))
        assert echo.stdout is not None
        echo_url = echo.stdout.readline().strip()
        token = prepare(echo_url)
        port = free_port()
        web = until_end.enter_context(
            process(
                "uvicorn", "duvo.asgi:application", "--host", HOST, "--port", str(port), "--loop", "uvloop",
                "--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning",
            )
        )  # fmt: skip
        port_of_echo = int(re.search(r":(\d+)", echo_url).group(1))  # type: ignore[union-attr]
        figures = asyncio.run(measure(web, port, port_of_echo, token))
        check_ledger(500 + CALLS * 2 + CALLS // ROUNDS // 3 * ROUNDS)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
