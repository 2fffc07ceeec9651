"""One who sends HTTP requests from an address of its own, one at a time, and reads or drops what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import orjson

HOST = "127.0.0.1"
ELSEWHERE = "127.0.0.66"  # where attackers come from: whoever counts by address shall tell them from acme
PATIENCE = 60.0  # seconds for one answer
KEPT = 4 * 1024 * 1024  # bytes of an answer; the rest is dropped as it comes
CHUNK = 64 * 1024
NO_ANSWER = 0


@dataclass(frozen=True)
class Answer:
    """The status, the head, and the beginning of the body; status 0 when nothing came."""

    status: int
    head: str = ""
    body: bytes = b""

    def json(self) -> Any:
        """Return what the body says, or an empty object where it is no JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}


class Visitor:
    """A keep-alive connection that is opened when it is needed, and again when the other side hung up."""

    def __init__(self, port: int, token: str, seen: Callable[[int], None], source: str = ELSEWHERE) -> None:
        self._port, self._token, self._seen, self._source = port, token, seen, source
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str
    ) -> Answer:
        """Send a request and return its answer; `content_type` and the like become headers."""
        more = {"Content-Type": kind, "Content-Length": str(len(body))} if body else {}
        return await self.send(self.head(method, path, **more, **headers) + body)

    async def call(self, tool: str, arguments: dict[str, Any] | bytes, **headers: str) -> Answer:
        """Call a tool; arguments that are bytes are JSON already."""
        written = arguments if isinstance(arguments, bytes) else orjson.dumps(arguments)
        return await self.ask("POST", f"/v1/tools/{tool}/call", b'{"arguments":' + written + b"}", **headers)

    def head(self, method: str, path: str, **headers: str) -> bytes:
        """Return the head of a request."""
        named = {"Host": HOST} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
        return "\r\n".join(lines).encode()

    async def send(self, request: bytes) -> Answer:
        """Send a whole request as it is; return its answer, and tell who counts."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self.open()
                writer.write(request)
                answer = await read(reader)
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError):  # TimeoutError is an OSError
            answer = Answer(NO_ANSWER)
        if answer.status == NO_ANSWER or "connection: close" in answer.head.lower() or not _length(answer.head):
            self.hang_up()
        self._seen(answer.status)
        return answer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the connection."""
        if self._writer is not None and self._reader.at_eof():  # the other side does not keep idle connections
            self.hang_up()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port, local_addr=(self._source, 0))
        return self._reader, self._writer


async def read(reader: asyncio.StreamReader) -> Answer:
    """Read an answer to its end: what it announces, or until the other side hangs up."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    announced = _length(head)
    left = int(announced) if announced else -1
    body = b""
    while left and (chunk := await reader.read(CHUNK if left < 0 else min(CHUNK, left))):
        left -= len(chunk) if left > 0 else 0
        body = body if len(body) > KEPT else body + chunk
    return Answer(int(head[9:12]), head, body)


def _length(head: str) -> str:
    return head.lower().partition("\r\ncontent-length:")[2].partition("\r\n")[0].strip()
