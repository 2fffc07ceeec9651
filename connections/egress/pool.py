"""One connection pool per event loop; every connection of it is checked by PinnedBackend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Self

from httpcore2 import URL

from connections.egress import urls
from connections.egress.connection import Connection, Response
from connections.egress.loop import close_with_the_loop
from connections.egress.names import system_resolver
from connections.egress.network import PinnedBackend, Resolver
from connections.egress.request import STREAM, Request
from connections.errors import Unreachable

MOST_CONNECTIONS = 1_536  # to one server from one event loop: a slow server holds one per call
IDLE_SECONDS = 50.0  # below the 60 s after which common load balancers disconnect
SWEEP_SECONDS = 10.0

Origin = tuple[bytes, bytes, int | None]


class GuardedPool:
    """Connections to all servers, each made by PinnedBackend; no proxies, no HTTP/2, no retries.

    The idle connections to a server are on a stack, and the others are not touched: a request costs the same among
    1,000 that wait.
    """

    def __init__(self, *, resolver: Resolver = system_resolver) -> None:
        """Take who resolves names."""
        self._resolver = resolver
        self._servers: dict[Origin, _Server] = {}
        self._swept = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request on a connection to its server and return the answer, which has to be closed.

        What is sealed in its address is filled in here, and is in nothing that the caller holds. Connections of a
        `STREAM` are not counted with those of calls: whoever keeps many open takes none from the calls of others.
        Raises Refused and Unreachable.
        """
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._sweep()
        head = request.head()
        url = request.url
        origin = (url.scheme, url.host, url.port)
        server = self._servers.get(origin)
        if server is None:
            server = self._servers[origin] = _Server()
        connection = server.take() or self._connect(url)
        in_use = server.streams if request.extensions.get(STREAM) else server.busy
        in_use.add(connection)
        try:
            return await connection.send(request, head, lambda reusable: server.put(connection, in_use, reusable))
        except BaseException:
            server.put(connection, in_use, reusable=False)
            raise

    @property
    def connections(self) -> list[Connection]:
        """Return the connections to all servers."""
        return [one for server in self._servers.values() for one in (*server.idle, *server.busy, *server.streams)]

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            connection.close()
        self._servers.clear()

    def _connect(self, url: URL) -> Connection:
        if url.scheme not in (b"https", b"http"):
            raise urls.refused("scheme_forbidden")
        origin = url.origin
        backend = PinnedBackend(https=origin.scheme == b"https", resolver=self._resolver)
        return Connection(origin.host.decode("ascii"), origin.port, backend)

    def _sweep(self) -> None:
        """Close what nobody has used for a while, and forget the servers that nobody is connected to."""
        self._swept = time.monotonic()
        for origin, server in list(self._servers.items()):
            server.close_expired()
            if not server.idle and not server.busy and not server.streams:
                del self._servers[origin]


class _Server:
    """The connections to one server: those in use by a request or a stream, and the idle ones, the last used last."""

    def __init__(self) -> None:
        self.busy: set[Connection] = set()
        self.streams: set[Connection] = set()
        self.idle: list[Connection] = []

    def take(self) -> Connection | None:
        """Return an idle connection, or None when a new one is needed; raises Unreachable when there are too many."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        if len(self.busy) >= MOST_CONNECTIONS:
            raise Unreachable("Too many calls wait for this server. Try again in a moment.", code="pool_full")
        return None

    def put(self, connection: Connection, in_use: set[Connection], reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        in_use.remove(connection)
        if reusable:
            connection.rest(IDLE_SECONDS)
            self.idle.append(connection)
        else:
            connection.close()

    def close_expired(self) -> None:
        """Close the idle connections that are of no use any more."""
        expired = [connection for connection in self.idle if connection.has_expired()]
        self.idle = [connection for connection in self.idle if connection not in expired]
        for connection in expired:
            connection.close()


_pools: dict[asyncio.AbstractEventLoop, tuple[GuardedPool, AsyncGenerator[None]]] = {}


def pool() -> GuardedPool:
    """Return the running loop's pool. Its own errors are Refused and Unreachable."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        for finished in [known for known in _pools if known.is_closed()]:
            del _pools[finished]
        made = GuardedPool()
        _pools[loop] = made, close_with_the_loop(made.aclose)
    return _pools[loop][0]


async def aclose() -> None:
    """Close the running loop's connections; the next use opens new ones."""
    made = _pools.pop(asyncio.get_running_loop(), None)
    if made is not None:
        await made[1].aclose()
