"""Measure the call path: `make bench`. The last line is one JSON object.

One web process, one worker, one raw echo server, the ledger on PostgreSQL that waits for the disk and once on SQLite.
Every limit is set, and far away. Calls through the product and direct calls to the echo server are made in turn, in
one run, so that a busy machine disturbs both alike. Calls go to one hot connection, and spread over 1,000 organizations
with 9 connections each, in an order of chance, each of which was called once before. With QUICK=1 it takes a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from contextlib import ExitStack
from functools import partial

from tests.bench import load
from tests.bench.product import CONNECTIONS, HOST, TENANTS, Product, furnish, process, running
from tests.servers import postgres, valkey

QUICK = bool(os.environ.get("QUICK"))
CALLS = int(os.environ.get("BENCH_CALLS", "6000"))
ROUNDS = 1 if QUICK else 3
SECONDS = 1.5 if QUICK else 3.0  # that a round takes at most
CALLERS = (1, 2, 8, 32)
MANY = CALLERS[-1]
SMALL, LARGE = "x" * 128, "x" * 64 * 1024
HEAD = (
    "                               callers  CPU ms/call: web  worker  postgresql  calls/s   p50 ms   p95 ms   p99 ms"
    "   direct calls/s  direct p50 ms"
)

Figures = dict[str, float | None]

say = partial(print, flush=True)


class Bench:
    """Measures row by row; `rows` keeps the figures of each."""

    def __init__(self, echo_port: int) -> None:
        self._echo_port = echo_port
        self.rows: dict[str, Figures] = {}

    async def hot_rows(self, product: Product) -> None:
        """Measure calls of one connection."""
        await product.run(product.call("modern", SMALL), callers=8, calls=500)  # imports, caches and pools are warm now
        for callers in CALLERS:
            await self._row("modern, 128 B", product, product.call("modern", SMALL), SMALL, callers)
        await self._row("legacy, 128 B", product, product.call("legacy", SMALL), SMALL, MANY)
        await self._row("in a session, 128 B", product, product.call("session", SMALL), SMALL, MANY)
        for callers in CALLERS:
            await self._row("modern, 64 KB", product, product.call("modern", LARGE), LARGE, callers)
        for callers in CALLERS:
            await self._row("async and followed", product, product.call_and_follow("modern", SMALL), SMALL, callers)
        large = product.call_and_follow("modern", LARGE)
        await self._row("async and followed, 64 KB", product, large, LARGE, MANY)

    async def spread_rows(self, product: Product) -> None:
        """Measure calls of many organizations; first the very first call of each connection."""
        furnish(product.environment, "spread", str(TENANTS), str(CONNECTIONS))
        pairs = CONNECTIONS * (TENANTS // 10 if QUICK else TENANTS)
        small = product.spread(SMALL, most=pairs)
        await self._row("spread, first calls", product, small, SMALL, MANY, calls=pairs // ROUNDS, seconds=60.0)
        for callers in CALLERS:
            await self._row("spread, 128 B", product, small, SMALL, callers)
        for callers in CALLERS:
            await self._row("spread, 64 KB", product, product.spread(LARGE, most=pairs), LARGE, callers)
        for callers in CALLERS:
            followed = product.spread(SMALL, most=pairs, followed=True)
            await self._row("spread, async and followed", product, followed, SMALL, callers)

    async def on_sqlite(self, product: Product) -> None:
        """Measure the plainest call with the ledger on SQLite."""
        round_ = product.call("modern", SMALL)
        await product.run(round_, callers=8, calls=500)
        await self._row("modern, SQLite", product, round_, SMALL, MANY)

    async def _row(
        self, name: str, product: Product, round_: load.Round, text: str, callers: int, *, calls: int = CALLS,
        seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        params = {"name": "echo", "arguments": {"text": text}}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        direct = load.call(load.request("POST", HOST, "/mcp", {}, rpc))
        ours, theirs = load.Load(), load.Load()
        await product.run(round_, callers=callers, calls=2 * callers)
        for _ in range(ROUNDS):
            theirs.add(await load.run(HOST, self._echo_port, direct, callers=callers, calls=calls, seconds=0.3))
            ours.add(await product.run(round_, callers=callers, calls=calls, seconds=seconds))
        by_worker = ours.cpu_ms(1) if "async" in name else None
        by_database = ours.cpu_ms(2) if len(ours.cpu) > 2 else None
        say(
            f"{name:<29}  {callers:7}  {ours.cpu_ms():16.2f}  {_shown(by_worker):>6}  {_shown(by_database):>10}"
            f"  {ours.per_second:7.0f}"
            f"  {ours.percentile(50):7.2f}  {ours.percentile(95):7.2f}  {ours.percentile(99):7.2f}"
            f"  {theirs.per_second:15.0f}  {theirs.percentile(50):13.2f}"
        )
        self.rows[f"{name}, {callers}"] = {
            "cpu_ms_per_call": round(ours.cpu_ms(), 3),
            "worker_cpu_ms_per_call": None if by_worker is None else round(by_worker, 3),
            "postgresql_cpu_ms_per_call": None if by_database is None else round(by_database, 3),
            "calls_per_s": round(ours.per_second, 1),
            "direct_calls_per_s": round(theirs.per_second, 1),
            "p50_ms": round(ours.percentile(50), 2),
            "p95_ms": round(ours.percentile(95), 2),
            "p99_ms": round(ours.percentile(99), 2),
            "direct_p50_ms": round(theirs.percentile(50), 2),
        }


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.2f}"


def main() -> None:
    """Start everything, measure, stop everything."""
    with ExitStack() as until_end:
        redis_url = until_end.enter_context(valkey.running())
        echo = until_end.enter_context(process("tests.servers.echo", "--port", "0"))
        assert echo.stdout is not None
        echo_url = echo.stdout.readline().strip()
        bench = Bench(int(re.search(r":(\d+)", echo_url).group(1)))  # type: ignore[union-attr]
        say(HEAD)

        with (
            postgres.cluster(durable=True) as database,
            running(database.url, redis_url, echo_url, database.pid) as product,
        ):
            asyncio.run(bench.hot_rows(product))
            asyncio.run(bench.spread_rows(product))
            product.check_ledger()
        url = f"sqlite:///{until_end.enter_context(tempfile.TemporaryDirectory(prefix='duvo-bench-'))}/duvo.sqlite3"
        with running(url, redis_url, echo_url) as product:
            asyncio.run(bench.on_sqlite(product))
            product.check_ledger()
    hot, spread = bench.rows[f"modern, 128 B, {MANY}"], bench.rows[f"spread, 128 B, {MANY}"]
    followed = bench.rows[f"async and followed, {MANY}"]
    summary = {
        "cold_calls_per_s": spread["calls_per_s"],
        "cold_cpu_ms_per_call": spread["cpu_ms_per_call"],
        "followed_cpu_ms_per_call": round(
            (followed["cpu_ms_per_call"] or 0) + (followed["worker_cpu_ms_per_call"] or 0), 3
        ),
    }
    say(json.dumps(hot | summary | {"rows": bench.rows}))


if __name__ == "__main__":
    main()
