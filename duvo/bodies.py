"""Reading the body of a request: one limit of size and one of time, for every URL.

Without them Django writes bodies of any size to /tmp, and waits for slow ones for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings

from connections.clients import past_proxies, share_of
from tools.api import problems

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Headers = Mapping[bytes, bytes]

SECONDS = 60.0  # how long a body may take to arrive
MOST_BYTES = 256 * 1024 * 1024  # of all bodies that are arriving in this process
MOST_BYTES_OF_ONE = 64 * 1024 * 1024  # of those from one address
LINGER_SECONDS = 3.0  # how long a refused body is still read, so that the client gets the answer

_arriving: Counter[str] = Counter()


class ClientGone(Exception):
    """The client disconnected before its request was complete."""


async def read(scope: Mapping[str, Any], headers: Headers, receive: Receive) -> bytes:
    """Return the body; raises TooLarge, TooSlow, TooManyBodies, and ClientGone for one that breaks off.

    A body whose Content-Length is too large is refused before a byte of it is read.
    """
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > most):  # noqa: PLR2004 - more digits than any size has
        raise problems.TooLarge
    try:
        async with asyncio.timeout(SECONDS):
            chunk, more = await _next(receive)
            if len(chunk) > most:
                raise problems.TooLarge
            return await _all(chunk, most, scope, receive) if more else chunk
    except TimeoutError as error:
        raise problems.TooSlow from error


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _all(chunk: bytes, most: int, scope: Mapping[str, Any], receive: Receive) -> bytes:
    """Return a body that comes in several parts, of which this is the first; they count until the last has come."""
    chunks, size, more = [chunk], len(chunk), True
    with _counted(scope) as count:
        count(len(chunk))
        while more:
            chunk, more = await _next(receive)
            size += len(chunk)
            if size > most:
                raise problems.TooLarge
            count(len(chunk))
            chunks.append(chunk)
    return b"".join(chunks)


def again(body: bytes, receive: Receive) -> Receive:
    """Return an ASGI `receive` that gives a body that was read already, and then what follows it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Mapping[str, Any]:
        return messages.pop() if messages else await receive()

    return next_message


async def drain(receive: Receive) -> None:
    """Read and drop what still arrives, for a moment: a connection that is closed before loses the answer."""
    most = size = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while size <= 2 * most:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))


@contextmanager
def _counted(scope: Mapping[str, Any]) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts bytes held for a client and raises TooManyBodies; they are uncounted at the end."""
    held, share = 0, ""

    def count(amount: int) -> None:
        nonlocal held, share
        share = share or whose(scope)
        if _arriving[share] + amount > MOST_BYTES_OF_ONE or _arriving.total() + amount > MOST_BYTES:
            raise problems.TooManyBodies
        held += amount
        _arriving[share] += amount

    try:
        yield count
    finally:
        if held:
            _arriving[share] -= held
            if not _arriving[share]:
                del _arriving[share]


def whose(scope: Mapping[str, Any]) -> str:
    """Return what shares the bounds of strangers with a request's client."""
    return share_of(_address(scope)) or "unknown"


def _address(scope: Mapping[str, Any]) -> str:
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    client = scope.get("client") or ("",)
    return past_proxies(client[0], b",".join(forwarded).decode("latin-1"))
