"""Requests from a server of the handshake era on an open stream (2025-06-18 and 2025-11-25, elicitation)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, Final

from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from connections.errors import DuvoError
from tools.mcp_client import questions, wire
from tools.mcp_client.clock import Pausable
from tools.mcp_client.cookies import Cookies
from tools.mcp_client.errors import BadQuestion
from tools.mcp_client.posting import in_background, post
from tools.mcp_client.shapes import Ask, Questions, Server

COURTESY_TIMEOUT: Final = 5.0  # seconds for a message that the server may miss
MOST_REPLIES: Final = 64  # on their way at once; a server that asks faster than it takes answers gets no more
_DISMISSED: Final = {"action": "cancel"}

logger = logging.getLogger(__name__)

Reply = Callable[[Mapping[str, Any], dict[str, Any]], None]


class Replies:
    """Our answers to the requests of one session's server, posted in the background with the newest `server`."""

    __slots__ = ("_session_id", "_under_way", "_version", "cookies", "server")

    def __init__(self, server: Server, version: str, session_id: str | None, cookies: Cookies | None = None) -> None:
        self.server = server
        self.cookies = cookies
        self._version = version
        self._session_id = session_id
        self._under_way = 0

    def __call__(self, request: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Answer a request with a `result` or an `error`."""
        if self._under_way < MOST_REPLIES:
            self._under_way += 1
            in_background(self._post(wire.answer(request, outcome, self._version, self._session_id, self.cookies)))

    async def _post(self, message: wire.Request) -> None:
        try:
            await post_unreliably(self.server, message)
        finally:
            self._under_way -= 1


async def post_unreliably(server: Server, message: wire.Request) -> None:
    """Post a message that may get lost: it takes a few seconds at most, and errors are ignored."""
    deadline = asyncio.get_running_loop().time() + COURTESY_TIMEOUT
    try:
        await post(server, message, deadline=deadline)
    except DuvoError:
        return


class ServerRequests:
    """The requests of a server during one call: `ping` is answered, a question is put to a person, the rest refused.

    `reply` takes the request and the `result` or `error` of its answer, and must not block. Without `ask` there is
    nobody to ask, and questions are answered with `cancel`.
    """

    __slots__ = ("_ask", "_asked", "_closed", "_context", "_open", "_reply")

    def __init__(self, ask: Ask | None, reply: Reply) -> None:
        self._ask = ask
        self._reply = reply
        self._context = copy_context()  # a question may arrive in another asyncio task than the call's
        self._open: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._closed = False

    def handle(self, request: Mapping[str, Any], clock: Pausable | None) -> None:
        """Handle one request of the server; `clock` is stopped until a person has answered it.

        Without a clock the request belongs to no call, and nobody is asked.
        """
        method = request.get("method")
        if method == "ping":
            self._reply(request, {"result": {}})
        elif method == questions.ELICITATION:
            self._question(request, clock)
        else:
            self._reply(request, _error(METHOD_NOT_FOUND, "This client offers no such method"))

    async def close(self) -> None:
        """Withdraw the questions that are still open, and return once nobody is asked any more."""
        self._closed = True
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _question(self, request: Mapping[str, Any], clock: Pausable | None) -> None:
        self._asked += 1
        # Counted before it is parsed: parsing costs time, and a flood of questions would slow down everybody.
        if self._asked > questions.MAX_QUESTIONS:
            self._reply(request, {"result": _DISMISSED})
            return
        try:
            asked = questions.of_message(request)
        except BadQuestion as fault:
            self._reply(request, _error(INVALID_PARAMS, fault.sentence))
            return
        if self._ask is None or clock is None or clock.expired:
            self._reply(request, {"result": _DISMISSED})
            return
        clock.stop()
        putting = self._put(self._ask, request, asked, clock)
        task = asyncio.get_running_loop().create_task(putting, context=self._context)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _put(self, ask: Ask, request: Mapping[str, Any], asked: Questions, clock: Pausable) -> None:
        response = _DISMISSED
        try:
            responses = await ask(asked)
            response = responses.get(next(iter(asked.requests)), _DISMISSED)
        except asyncio.CancelledError:
            if self._closed:
                raise
        except Exception:
            logger.exception("A server's question could not be put to anybody")
        if not self._closed:
            clock.resume()
            self._reply(request, {"result": response})


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
