"""One connection pool per event loop; whoever sends through it passes the guard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import httpcore2

from connections.egress.network import PinnedBackend, Resolver, system_resolver, tls_context
from connections.errors import Unreachable

LANES = 32  # of one server in one event loop
LANE = 48  # connections of a lane; 1,536 in all, as a slow server holds one per call
IDLE_SECONDS = 50.0  # below the 60 s after which common load balancers hang up
SWEEP_SECONDS = 10.0

Origin = tuple[bytes, bytes, int | None]


class GuardedPool(httpcore2.AsyncConnectionPool):
    """The lanes to all servers, each a pool made by PinnedBackend; no proxies, no HTTP/2, no retries.

    A pool looks at all its connections several times per request: among 1,000 waiting calls a request would cost
    4 ms. So there is a lane of a few connections, and another one where the lanes before it are full.
    """

    def __init__(self, *, resolver: Resolver = system_resolver) -> None:
        """Take who resolves names."""
        super().__init__(ssl_context=tls_context())
        self._resolver = resolver
        self._servers: dict[Origin, list[_Lane]] = {}
        self._swept = time.monotonic()

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send the request on a connection to its server; raises Refused, Unreachable and httpcore2's errors."""
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            await self._sweep()
        origin = (request.url.scheme, request.url.host, request.url.port)
        lanes = self._servers.get(origin)
        if lanes is None:
            lanes = self._servers[origin] = []
        for lane in lanes:
            if lane.busy < LANE:
                return await lane.send(request)
        if len(lanes) < LANES:
            lanes.append(_Lane(PinnedBackend(https=origin[0] == b"https", resolver=self._resolver)))
            return await lanes[-1].send(request)
        return await min(lanes, key=lambda lane: lane.busy).send(request)

    @property
    def connections(self) -> list[httpcore2.AsyncConnectionInterface]:
        """Return the connections to all servers."""
        return [connection for lanes in self._servers.values() for lane in lanes for connection in lane.connections]

    async def aclose(self) -> None:
        """Close every connection."""
        servers, self._servers = self._servers, {}
        for lanes in servers.values():
            for lane in lanes:
                await lane.aclose()

    async def _sweep(self) -> None:
        """Forget the lanes that nobody has used for a while: they look only when they are used."""
        self._swept = time.monotonic()
        for origin, lanes in list(self._servers.items()):
            unused = [lane for lane in lanes if lane.unused]
            lanes[:] = [lane for lane in lanes if lane not in unused]
            if not lanes:
                del self._servers[origin]
            for lane in unused:
                await lane.aclose()


class _Lane(httpcore2.AsyncConnectionPool):
    """A few connections to one server; `busy` is how many answers are awaited or being read."""

    def __init__(self, backend: PinnedBackend) -> None:
        super().__init__(
            ssl_context=tls_context(), max_connections=LANE, keepalive_expiry=IDLE_SECONDS, network_backend=backend
        )
        self.busy = 0

    @property
    def unused(self) -> bool:
        return not self.busy and all(one.is_closed() or one.has_expired() for one in self.connections)

    async def send(self, request: httpcore2.Request) -> httpcore2.Response:
        self.busy += 1
        try:
            response = await self.handle_async_request(request)
        except BaseException:
            self.busy -= 1
            raise
        response.stream = _Answer(response.stream, self)
        return response


class _Answer:
    """The body of an answer; when it is closed, its lane has a place again."""

    def __init__(self, stream: Any, lane: _Lane) -> None:
        self._stream = stream
        self._lane: _Lane | None = lane

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.busy -= 1
            await self._stream.aclose()


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
