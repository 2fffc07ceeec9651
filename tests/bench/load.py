"""A closed loop of callers over keep-alive connections, as cheap as Python allows, so that it measures the server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import orjson


@dataclass
class Load:
    """What a run measured: seconds in all, and the latency of each call in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class _Caller(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""
        self.answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self.buffer = body[length:]
            assert self.answer is not None
            self.answer.set_result(head[9:12] + body[:length])

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("the server hung up"))


async def run(host: str, port: int, request: bytes, *, callers: int, calls: int) -> Load:
    """Make so many calls with so many callers, each with one call at a time; every answer must be a 200 result."""
    loop = asyncio.get_running_loop()
    load, left = Load(), calls

    async def caller() -> None:
        nonlocal left
        transport, protocol = await loop.create_connection(_Caller, host, port)
        while left > 0:
            left -= 1
            started = time.perf_counter()
            protocol.answer = loop.create_future()
            transport.write(request)
            answer = await protocol.answer
            load.latencies.append(time.perf_counter() - started)
            if not answer.startswith(b"200"):
                raise AssertionError(answer)
        transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    load.seconds = time.perf_counter() - started
    return load


def post(host: str, path: str, body: object, headers: dict[str, str]) -> bytes:
    """Return a whole HTTP request."""
    payload = orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(payload)}", "", ""]
    return "\r\n".join(lines).encode() + payload
