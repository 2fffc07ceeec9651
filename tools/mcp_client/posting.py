"""One message, one POST: sent through the egress, its response read within timeouts and a size limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpcore2

from connections import egress
from connections.errors import Unreachable
from tools.mcp_client import wire
from tools.mcp_client.errors import ConnectionLost, McpError, TimedOut, Unsendable
from tools.mcp_client.responses import NO_LISTENER, Clock, Listener, Reply, ResponseReader
from tools.mcp_client.shapes import Server

_background: set[asyncio.Task[None]] = set()


class _Body:
    """A request body that knows whether it was read, that is, whether the request may have been sent."""

    __slots__ = ("_content", "sent")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.sent = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.sent = True
        yield self._content


async def post(
    server: Server,
    request: wire.Request,
    *,
    listener: Listener = NO_LISTENER,
    deadline: float | None = None,
    clock: Clock | None = None,
) -> Reply:
    """Post one message and return the reply to it; `deadline` is a time of the running loop's clock.

    `clock` is passed if others stop it too; it was made for this request, with this deadline.

    Raises an `McpError` for 3xx, 401, 403, 429 and 5xx, for a protocol error, a response that is too large and a
    timeout; other 4xx are returned. `Refused` and `Unreachable` of the egress pass through: nothing was sent.
    """
    route = wire.route_to(server)
    body = _Body(request.payload)
    http_request = httpcore2.Request(
        b"POST",
        route.url,
        headers=[*route.headers, (b"Content-Length", b"%d" % len(request.payload)), *request.headers],
        content=body,
        extensions=route.extensions,
    )
    clock = clock or Clock(server, deadline)
    reading = ResponseReader(server, request, listener, clock)
    try:
        async with clock.timer:
            response = await egress.pool().handle_async_request(http_request)
            if request.cookies is not None:
                request.cookies.take(response.headers)
            return await reading.read(response)
    except McpError as error:
        error.sent = _is_call(request, body)
        raise
    except Unreachable as error:
        if not error.sent:
            raise
        raise ConnectionLost(sent=_is_call(request, body)) from error
    except (OSError, httpcore2.ProtocolError, httpcore2.NetworkError, httpcore2.TimeoutException) as error:
        raise _as_mcp_error(error, clock, sent=_is_call(request, body)) from error
    finally:
        if reading.unfinished is not None:
            in_background(reading.unfinished)


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine for which nobody waits, and hold a reference to it until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def _is_call(request: wire.Request, body: _Body) -> bool:
    return body.sent and request.method == "tools/call"


def _as_mcp_error(error: Exception, clock: Clock, *, sent: bool) -> McpError:
    if isinstance(error, TimeoutError) and clock.timer.expired():
        return TimedOut(clock.which, sent=sent)
    if isinstance(error, httpcore2.TimeoutException):
        return TimedOut("connect", sent=sent)
    if isinstance(error, httpcore2.LocalProtocolError):
        return Unsendable(sent=sent)
    return ConnectionLost(sent=sent)
