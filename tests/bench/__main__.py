"""Measure the call path: `make bench`. The last line is one JSON object.

One web process, one worker, one raw echo server, the ledger on PostgreSQL that waits for the disk and once on SQLite.
Every limit is set, and far away. Calls through the product and direct calls to the echo server are made in turn, in
one run, so that a busy machine disturbs both alike.
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
from tests.bench.product import HOST, Product, process, running
from tests.servers import postgres, valkey

CALLS = int(os.environ.get("BENCH_CALLS", "6000"))
ROUNDS = 3
SECONDS = 5.0  # that a round may take on a machine that is too busy for so many calls
CALLERS = (1, 8, 32)
MANY = CALLERS[-1]
SMALL, LARGE = "x" * 128, "x" * 64 * 1024
HEAD = (
    "                    callers  CPU ms/call: web  worker  calls/s   p50 ms   p95 ms   p99 ms"
    "   direct calls/s  direct p50 ms"
)

Figures = dict[str, float | None]

say = partial(print, flush=True)


class Bench:
    """Measures row by row; `rows` keeps the figures of each."""

    def __init__(self, echo_port: int) -> None:
        self._echo_port = echo_port
        self.rows: dict[str, Figures] = {}

    async def first_rows(self, product: Product) -> None:
        """Measure the plainest call at each number of callers."""
        await product.run(product.call("modern", SMALL), callers=8, calls=500)  # imports, caches and pools are warm now
        for callers in CALLERS:
            calls = CALLS // ROUNDS if callers > 1 else CALLS // ROUNDS // 3
            await self._row("modern, 128 B", product, product.call("modern", SMALL), SMALL, callers, calls)

    async def further_rows(self, product: Product) -> None:
        """Measure what differs from the plainest call, with many callers."""
        rows: list[tuple[str, load.Round, str, int, int]] = [
            ("legacy, 128 B", product.call("legacy", SMALL), SMALL, MANY, CALLS // 12),
            ("in a session, 128 B", product.call("session", SMALL), SMALL, MANY, CALLS // 12),
            ("modern, 64 KB", product.call("modern", LARGE), LARGE, MANY, CALLS // 12),
            ("async and followed", product.call_and_follow("modern", SMALL), SMALL, 1, CALLS // 300),
            ("async and followed", product.call_and_follow("modern", SMALL), SMALL, MANY, CALLS // 30),
        ]
        for name, round_, text, callers, calls in rows:
            await product.run(round_, callers=callers, calls=2 * callers)
            await self._row(name, product, round_, text, callers, calls)

    async def on_sqlite(self, product: Product) -> None:
        """Measure the plainest call with the ledger on SQLite."""
        round_ = product.call("modern", SMALL)
        await product.run(round_, callers=8, calls=500)
        await self._row("modern, SQLite", product, round_, SMALL, MANY, CALLS // 8)

    async def _row(self, name: str, product: Product, round_: load.Round, text: str, callers: int, calls: int) -> None:
        params = {"name": "echo", "arguments": {"text": text}}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        direct = load.call(load.request("POST", HOST, "/mcp", {}, rpc))
        ours, theirs = load.Load(), load.Load()
        for _ in range(ROUNDS):
            theirs.add(await load.run(HOST, self._echo_port, direct, callers=callers, calls=calls))
            ours.add(await product.run(round_, callers=callers, calls=calls, seconds=SECONDS))
        by_worker = ours.cpu_ms(1) if "async" in name else None
        shown = "-" if by_worker is None else f"{by_worker:.2f}"
        say(
            f"{name:<18}  {callers:7}  {ours.cpu_ms():16.2f}  {shown:>6}  {ours.per_second:7.0f}"
            f"  {ours.percentile(50):7.2f}  {ours.percentile(95):7.2f}  {ours.percentile(99):7.2f}"
            f"  {theirs.per_second:15.0f}  {theirs.percentile(50):13.2f}"
        )
        self.rows[f"{name}, {callers}"] = {
            "cpu_ms_per_call": round(ours.cpu_ms(), 3),
            "worker_cpu_ms_per_call": None if by_worker is None else round(by_worker, 3),
            "calls_per_s": round(ours.per_second, 1),
            "direct_calls_per_s": round(theirs.per_second, 1),
            "p50_ms": round(ours.percentile(50), 2),
            "p95_ms": round(ours.percentile(95), 2),
            "p99_ms": round(ours.percentile(99), 2),
            "direct_p50_ms": round(theirs.percentile(50), 2),
        }


def main() -> None:
    """Start everything, measure, stop everything."""
    with ExitStack() as until_end:
        redis_url = until_end.enter_context(valkey.running())
        echo = until_end.enter_context(process("tests.servers.echo", "--port", "0"))
        assert echo.stdout is not None
        echo_url = echo.stdout.readline().strip()
        bench = Bench(int(re.search(r":(\d+)", echo_url).group(1)))  # type: ignore[union-attr]
        say(HEAD)

        with postgres.running(durable=True) as url, running(url, redis_url, echo_url) as product:
            asyncio.run(bench.first_rows(product))
            asyncio.run(bench.further_rows(product))
            product.check_ledger()
        url = f"sqlite:///{until_end.enter_context(tempfile.TemporaryDirectory(prefix='duvo-bench-'))}/duvo.sqlite3"
        with running(url, redis_url, echo_url) as product:
            asyncio.run(bench.on_sqlite(product))
            product.check_ledger()
    say(json.dumps(bench.rows[f"modern, 128 B, {MANY}"] | {"rows": bench.rows}))


if __name__ == "__main__":
    main()
