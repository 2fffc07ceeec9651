"""One connection pool per event loop; whoever sends through it passes the guard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress

import h11
import httpcore2

from connections.egress.network import PinnedBackend, Resolver, system_resolver, tls_context
from connections.errors import Unreachable

CONNECTIONS = 1500  # open to one server in one event loop; a slow upstream holds one per call
IDLE_SECONDS = 50.0  # below the 60 s after which common load balancers hang up
SWEEP_SECONDS = 10.0

Origin = tuple[bytes, bytes, int | None]


class GuardedPool(httpcore2.AsyncConnectionPool):
    """The pools of all servers, each made by PinnedBackend; no proxies, no HTTP/2, no retries.

    One pool per server, because a pool looks at all its connections twice per request: 1,000 waiting calls of one
    tenant would make a quick call of another eight times as dear.
    """

    def __init__(self, *, resolver: Resolver = system_resolver) -> None:
        """Take who resolves names."""
        super().__init__(ssl_context=tls_context())
        self._resolver = resolver
        self._servers: dict[Origin, httpcore2.AsyncConnectionPool] = {}
        self._swept = time.monotonic()

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send the request on a connection to its server; raises Refused, Unreachable and httpcore2's errors."""
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            await self._sweep()
        origin = (request.url.scheme, request.url.host, request.url.port)
        server = self._servers.get(origin)
        if server is None:
            server = self._servers[origin] = httpcore2.AsyncConnectionPool(
                ssl_context=tls_context(),
                max_connections=CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=PinnedBackend(https=origin[0] == b"https", resolver=self._resolver),
            )
        return await server.handle_async_request(request)

    @property
    def connections(self) -> list[httpcore2.AsyncConnectionInterface]:
        """Return the connections to all servers."""
        return [connection for server in self._servers.values() for connection in server.connections]

    async def aclose(self) -> None:
        """Close every connection."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            await server.aclose()

    async def _sweep(self) -> None:
        """Forget the servers that nobody has used for a while: their own pools look only when they are used."""
        self._swept = time.monotonic()
        for origin, server in list(self._servers.items()):
            if all(connection.is_closed() or connection.has_expired() for connection in server.connections):
                del self._servers[origin]
                await server.aclose()


_pools: dict[asyncio.AbstractEventLoop, tuple[GuardedPool, AsyncGenerator[None]]] = {}


def pool() -> GuardedPool:
    """Return the running loop's pool. Its own errors are Refused and Unreachable; wrap its use in `explained()`."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        for finished in [known for known in _pools if known.is_closed()]:
            del _pools[finished]
        made = GuardedPool()
        _pools[loop] = made, _close_with_the_loop(made)
    return _pools[loop][0]


def _close_with_the_loop(made: GuardedPool) -> AsyncGenerator[None]:
    """Have the loop close the pool at its end: a loop finishes the asynchronous generators that were begun in it."""

    async def lifetime() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await made.aclose()
            await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    begun = lifetime()
    with suppress(StopIteration):
        begun.asend(None).send(None)
    return begun


async def aclose() -> None:
    """Close the running loop's connections; the next use opens new ones."""
    made = _pools.pop(asyncio.get_running_loop(), None)
    if made is not None:
        await made[1].aclose()


@contextmanager
def explained() -> Iterator[None]:
    """Turn what httpcore2 raises about a request or its answer into Unreachable, with `sent` told truthfully."""
    try:
        yield
    except httpcore2.PoolTimeout as error:
        raise Unreachable("Too many connections are open. Try again.", code="pool_full") from error
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
