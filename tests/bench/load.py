"""Closed loops of callers over keep-alive connections, as cheap as Python allows, so that they measure the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

PATIENCE = 60.0  # seconds for one answer


@dataclass
class Load:
    """What a run measured, in seconds: in all, of each call, and the CPU time of each process that was watched."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, part: Load) -> None:
        """Take in another run of the same kind."""
        self.seconds += part.seconds
        self.latencies += part.latencies
        self.cpu = [mine + more for mine, more in zip(self.cpu or [0.0] * len(part.cpu), part.cpu, strict=True)]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def cpu_ms(self, watched: int = 0) -> float:
        """Return the CPU time that a watched process spent on each call, in milliseconds."""
        return 1000 * self.cpu[watched] / len(self.latencies)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Caller(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing: int | None = None  # bytes of a body whose length is known
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a whole request; its answer will be the status and the body, chunked or not."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing is None:
            head, separator, body = b"".join(self._parts).partition(b"\r\n\r\n")
            if not separator:
                return
            _, named, length = head.lower().partition(b"content-length:")
            self._missing = int(length.partition(b"\r\n")[0]) - len(body) if named else -1
        elif self._missing > 0:
            self._missing -= len(data)
        if self._missing == 0 or (self._missing < 0 and b"".join(self._parts[-2:]).endswith(b"\r\n0\r\n\r\n")):
            whole, self._parts, self._missing = b"".join(self._parts), [], None
            assert self._answer is not None
            self._answer.set_result(whole[9:12] + whole.partition(b"\r\n\r\n")[2])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))


Round = Callable[[Caller], Awaitable[None]]


def call(request: bytes) -> Round:
    """Return a round that makes one call, whose answer must be a 200 result."""

    async def round_(caller: Caller) -> None:
        answer = await caller.ask(request)
        if not answer.startswith(b"200"):
            raise AssertionError(answer[:500])

    return round_


def call_and_follow(request: bytes, events: Callable[[str], bytes]) -> Round:
    """Return a round that makes one call without waiting, and follows its events to a success."""

    async def round_(caller: Caller) -> None:
        answer = await caller.ask(request)
        if not answer.startswith(b"202"):
            raise AssertionError(answer[:500])
        heard = await asyncio.wait_for(caller.ask(events(orjson.loads(answer[3:])["id"])), PATIENCE)  # noqa: TID251 - nobody cancels this
        if b'"state":"succeeded"' not in heard:
            raise AssertionError(heard[-500:])

    return round_


async def run(host: str, port: int, round_: Round, *, callers: int, calls: int, seconds: float = PATIENCE) -> Load:
    """Make so many rounds with so many callers, each with one at a time; begin no more once the seconds are over."""
    loop = asyncio.get_running_loop()
    load, left = Load(), calls

    async def one() -> None:
        nonlocal left
        transport, caller = await loop.create_connection(Caller, host, port)
        while left > 0 and time.perf_counter() < started + seconds:
            left -= 1
            asked = time.perf_counter()
            await round_(caller)
            load.latencies.append(time.perf_counter() - asked)
        transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(callers)))
    load.seconds = time.perf_counter() - started
    return load


def request(method: str, host: str, path: str, headers: dict[str, str], body: object = None) -> bytes:
    """Return a whole HTTP request, with a JSON body if there is one."""
    payload = b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if payload:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return "\r\n".join([*lines, "", ""]).encode() + payload
