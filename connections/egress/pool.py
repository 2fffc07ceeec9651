"""One connection pool per event loop; every connection of it is checked by PinnedBackend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Self

import h11
import httpcore2

from connections.egress.loop import close_with_the_loop
from connections.egress.names import system_resolver
from connections.egress.network import PinnedBackend, Resolver, tls_context
from connections.egress.sealed import addressed
from connections.errors import Unreachable

MOST_CONNECTIONS = 1_536  # to one server from one event loop: a slow server holds one per call
IDLE_SECONDS = 50.0  # below the 60 s after which common load balancers disconnect
SWEEP_SECONDS = 10.0
STREAM = "stream"  # extension of a request whose answer is read for as long as it lasts, and is no call

Origin = tuple[bytes, bytes, int | None]


class GuardedPool:
    """Connections to all servers, each made by PinnedBackend; no proxies, no HTTP/2, no retries.

    httpcore2's own pool goes through all of its connections several times per request: among 1,000 waiting calls a
    request would cost 4 ms. Here the idle connections are on a stack, and the others are not touched.
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

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send the request on a connection to its server and return the answer, which has to be closed.

        What is sealed in its address is filled in here, and is in nothing that the caller holds. Connections of a
        `STREAM` are not counted with those of calls: whoever keeps many open takes none from the calls of others.
        Raises Refused, Unreachable and httpcore2's errors.
        """
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            await self._sweep()
        request = addressed(request)
        url = request.url
        origin = (url.scheme, url.host, url.port)
        server = self._servers.get(origin)
        if server is None:
            server = self._servers[origin] = _Server()
        while True:
            connection = await server.take() or self._connect(url.origin)
            in_use = server.streams if request.extensions.get(STREAM) else server.busy
            in_use.add(connection)
            try:
                response = await connection.handle_async_request(request)
            except httpcore2.ConnectionNotAvailable:  # the server has just closed it, and nothing was sent
                in_use.remove(connection)
                await connection.aclose()
            except BaseException:
                in_use.remove(connection)
                raise
            else:
                response.stream = _Answer(response.stream, server, in_use, connection)
                return response

    @property
    def connections(self) -> list[httpcore2.AsyncHTTPConnection]:
        """Return the connections to all servers."""
        return [one for server in self._servers.values() for one in (*server.idle, *server.busy, *server.streams)]

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            await connection.aclose()
        self._servers.clear()

    def _connect(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        return httpcore2.AsyncHTTPConnection(
            origin,
            ssl_context=tls_context(),
            keepalive_expiry=IDLE_SECONDS,
            network_backend=PinnedBackend(https=origin.scheme == b"https", resolver=self._resolver),
        )

    async def _sweep(self) -> None:
        """Close what nobody has used for a while, and forget the servers that nobody is connected to."""
        self._swept = time.monotonic()
        for origin, server in list(self._servers.items()):
            await server.close_expired()
            if not server.idle and not server.busy and not server.streams:
                del self._servers[origin]


class _Server:
    """The connections to one server: those in use by a request or a stream, and the idle ones, the last used last."""

    def __init__(self) -> None:
        self.busy: set[httpcore2.AsyncHTTPConnection] = set()
        self.streams: set[httpcore2.AsyncHTTPConnection] = set()
        self.idle: list[httpcore2.AsyncHTTPConnection] = []

    async def take(self) -> httpcore2.AsyncHTTPConnection | None:
        """Return an idle connection, or None when a new one is needed; raises Unreachable when there are too many."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        if len(self.busy) >= MOST_CONNECTIONS:
            raise Unreachable("Too many calls wait for this server. Try again in a moment.", code="pool_full")
        return None

    async def close_expired(self) -> None:
        expired = [connection for connection in self.idle if connection.has_expired()]
        self.idle = [connection for connection in self.idle if connection not in expired]
        for connection in expired:
            await connection.aclose()


class _Answer:
    """The body of an answer; when it is closed after its end, another request may have the connection."""

    def __init__(
        self, stream: Any, server: _Server, in_use: set[httpcore2.AsyncHTTPConnection],
        connection: httpcore2.AsyncHTTPConnection,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._server: _Server | None = server
        self._in_use = in_use
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        self._in_use.remove(self._connection)
        await self._stream.aclose()  # disconnects if the answer was not read to its end
        if not self._connection.is_idle():
            return
        if _has_trailing_data(self._connection):
            await self._connection.aclose()
        else:
            server.idle.append(self._connection)


def _has_trailing_data(connection: httpcore2.AsyncHTTPConnection) -> bool:
    """Whether bytes came behind the answer: they would be taken for the answer to the next request."""
    inner: Any = connection._connection  # noqa: SLF001 - httpcore2 does not expose it
    return bool(inner._h11_state.trailing_data[0])  # noqa: SLF001


_pools: dict[asyncio.AbstractEventLoop, tuple[GuardedPool, AsyncGenerator[None]]] = {}


def pool() -> GuardedPool:
    """Return the running loop's pool. Its own errors are Refused and Unreachable; wrap its use in `explained()`."""
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


@contextmanager
def explained() -> Iterator[None]:
    """Turn httpcore2's errors about a request or its answer into Unreachable; `sent` is False only if that is sure."""
    try:
        yield
    except httpcore2.RemoteProtocolError as error:
        if isinstance(error.args and error.args[0], h11.RemoteProtocolError) and "without sending complete" not in str(
            error
        ):
            raise Unreachable("The server's answer is not valid HTTP.", code="not_http", sent=True) from error
        raise Unreachable(
            "The server hung up before its answer was complete.", code="connection_lost", sent=True
        ) from error
    except httpcore2.NetworkError as error:
        raise Unreachable("The connection broke.", code="connection_lost", sent=True) from error
    except httpcore2.LocalProtocolError as error:
        raise Unreachable("The request cannot be expressed in HTTP.", code="bad_request") from error
