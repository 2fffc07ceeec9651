"""Callers of the API over keep-alive connections, as cheap as asyncio's streams allow."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from tests.faults.house import HOST, House

PAUSE = 0.05  # seconds between two quick calls of a caller: they are to measure, not to load
QUICK_CALLERS = 2


@dataclass
class Seen:
    """What callers saw: the latency of each call in seconds, how many succeeded, and what else was answered."""

    latencies: list[float] = field(default_factory=list)
    succeeded: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Caller:
    """One connection, one call at a time."""

    def __init__(self, port: int, token: str, seen: Seen) -> None:
        self._port, self._token, self._seen = port, token, seen

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(self, tool: str, arguments: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Make a call, note what came back and return it."""
        return await self._ask("POST", f"/v1/tools/{tool}/call", orjson.dumps({"arguments": arguments}), headers)

    async def follow(self, call_id: str, *, seconds: int) -> dict[str, Any]:
        """Wait for the end of a call, note what came back and return it."""
        return await self._ask("GET", f"/v1/calls/{call_id}", b"", {"Prefer": f"wait={seconds}"})

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        lines = [
            f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json",
            f"Authorization: Bearer {self._token}", f"Content-Length: {len(body)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", "",
        ]  # fmt: skip
        began = time.perf_counter()
        self._writer.write("\r\n".join(lines).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        answer: dict[str, Any] = orjson.loads(await self._reader.readexactly(length))
        self._seen.latencies.append(time.perf_counter() - began)
        if answer.get("state") == "succeeded":
            self._seen.succeeded += 1
        elif head[9:12] != "202":
            self._seen.refused[f"{head[9:12]} {answer.get('code') or answer.get('state')}"] += 1
        return answer


async def quick_calls(house: House, tool: str, seen: Seen, over: asyncio.Event, seconds: float | None = None) -> None:
    """Have a few callers make calls with pauses, for so many seconds or until it is over."""

    async def one() -> None:
        async with Caller(house.web.port, house.token, seen) as caller:
            while not over.is_set():
                await caller.call(tool, {"marker": "quick"})
                await asyncio.sleep(PAUSE)

    tasks = [asyncio.create_task(one()) for _ in range(QUICK_CALLERS)]
    if seconds is not None:
        await asyncio.sleep(seconds)
        over.set()
    await asyncio.gather(*tasks)
