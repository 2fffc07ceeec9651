"""What a server of the handshake era asks while a call's stream is open (2025-06-18 and 2025-11-25, elicitation)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from tools.mcp_client import questions
from tools.mcp_client.errors import BadQuestion
from tools.mcp_client.reading import Clock
from tools.mcp_client.shapes import Ask, Questions

logger = logging.getLogger(__name__)

_DISMISSED: Final = {"action": "cancel"}

Reply = Callable[[Mapping[str, Any], dict[str, Any]], None]


class Asking:
    """The requests of a server during one call: `ping` is answered, a question is put to a person, the rest refused.

    `reply` takes the request and the `result` or `error` of its answer, and must not block. Without `ask` there is
    nobody, and the server hears that no choice was made.
    """

    __slots__ = ("_ask", "_closed", "_heard", "_open", "_reply")

    def __init__(self, ask: Ask | None, reply: Reply) -> None:
        self._ask = ask
        self._reply = reply
        self._open: set[asyncio.Task[None]] = set()
        self._heard = 0
        self._closed = False

    def hear(self, request: Mapping[str, Any], clock: Clock) -> None:
        """Take one request of the server; while a person thinks about it, `clock` stands still."""
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

    def _question(self, request: Mapping[str, Any], clock: Clock) -> None:
        self._heard += 1
        try:
            asked = questions.of_message(request)
        except BadQuestion as fault:
            self._reply(request, _error(INVALID_PARAMS, fault.sentence))
            return
        if self._ask is None or self._heard > questions.MAX_QUESTIONS:
            self._reply(request, {"result": _DISMISSED})
            return
        clock.stop()
        task = asyncio.get_running_loop().create_task(self._put(self._ask, request, asked, clock))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _put(self, ask: Ask, request: Mapping[str, Any], asked: Questions, clock: Clock) -> None:
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
            clock.go_on()
            self._reply(request, {"result": response})


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
