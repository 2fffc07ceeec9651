"""One message, one POST: sent through the egress, its response read within timeouts and a size limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from connections import egress
from connections.errors import Refused, Unreachable
from tools.mcp_client import wire
from tools.mcp_client.clock import Clock
from tools.mcp_client.errors import ConnectionLost, McpError, TimedOut, Unsendable
from tools.mcp_client.responses import NO_LISTENER, Listener, Reply, ResponseReader
from tools.mcp_client.shapes import Server

_background: set[asyncio.Task[None]] = set()


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
    posted = egress.Request(b"POST", route.url, [*route.headers, *request.headers], request.payload, route.extensions)
    clock = clock or Clock(server, deadline)
    reading = ResponseReader(server, request, listener, clock)
    try:
        async with clock.timer:
            response = await egress.pool().handle_async_request(posted)
            if request.cookies is not None:
                request.cookies.take(response.headers)
            return await reading.read(response)
    except McpError as error:
        error.sent = _is_call(request, posted)
        raise
    except (Refused, Unreachable) as error:
        if posted.sent:
            raise ConnectionLost(sent=_is_call(request, posted)) from error
        if error.code == egress.UNSENDABLE:
            raise Unsendable from error
        raise
    except OSError as error:  # TimeoutError is one
        sent = _is_call(request, posted)
        if isinstance(error, TimeoutError) and clock.timer.expired():
            raise TimedOut(clock.which, sent=sent) from error
        raise ConnectionLost(sent=sent) from error
    finally:
        if reading.unfinished is not None:
            in_background(reading.unfinished)


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine for which nobody waits, and hold a reference to it until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def _is_call(request: wire.Request, posted: egress.Request) -> bool:
    return posted.sent and request.method == "tools/call"
