"""Callers of the API over keep-alive connections, as cheap as asyncio's streams allow."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from tests.faults.house import HOST


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
        body = orjson.dumps({"arguments": arguments})
        lines = [
            f"POST /v1/tools/{tool}/call HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json",
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
            self._seen.refused[f"{head[9:12]} {answer.get('code')}"] += 1
        return answer
