"""Parsing the messages of a server: small ones on the event loop, large ones in a thread or a separate process."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from connections import offload
from tools.mcp_client import wire
from tools.mcp_client.errors import AnswerUnread, BadAnswer
from tools.mcp_client.shapes import Server
from tools.payloads import dividing, exact
from tools.payloads.raw_json import is_small

# Whose answers may be large, and have numbers of a tool.
WITH_CONTENT: Final = frozenset({"tools/call", "tasks/get", "tasks/result"})
LISTING: Final = "tools/list"
_READ_SECONDS: Final = 10.0  # of CPU time, for the largest answer


class Message(NamedTuple):
    """A parsed message, and whether it had numbers that JSON cannot hold (NaN).

    `large` is the result of a call as JSON (see `ToolResult`), where `value` is without its content.
    """

    value: Any
    not_finite: bool = False
    large: bytes = b""


class Stoppable(Protocol):
    """The clock of a request, whose idle timeout is stopped while we are the ones who take time."""

    def stop_idle(self) -> AbstractContextManager[None]:
        """Stop it inside."""


async def parse(body: bytes, method: str, server: Server, clock: Stoppable) -> Message:
    """Return the message that answers such a request; raises `BadAnswer` and `AnswerUnread`."""
    if is_small(body):
        return _parse_here(body, method)
    if method == LISTING:
        return Message(await asyncio.to_thread(wire.read_json, body))
    if method not in WITH_CONTENT:
        return Message(wire.read_json(body))
    try:
        with clock.stop_idle():
            divided = await offload.run(
                "tools.offload_jobs:answer", body, method.encode(), tenant=server.tenant, seconds=_READ_SECONDS,
                patient=True,  # an answer that has arrived is not dropped because others wait
            )  # fmt: skip
    except (offload.TooMuchWork, offload.Crowded, offload.Broken) as error:
        raise AnswerUnread from error
    return _divided(*divided)


def _parse_here(body: bytes, method: str) -> Message:
    """Parse a small message; of a call with numbers that parsing would change, the content is kept as bytes."""
    exactly = method in WITH_CONTENT
    try:
        message = Message(*wire.read_noting(body))
    except BadAnswer:
        if not exactly or not exact.needed(body):  # a number that is larger than any float can be kept
            raise
    else:
        if not exactly or not exact.may_have_floats(message.value) or not exact.needed(body):
            return message
    return _divided(*dividing.divide(body, method.encode()))


def _divided(beside: bytes, large: bytes) -> Message:
    if not beside:
        raise BadAnswer("The server's answer is no JSON that can be read, or too large beside its content.")
    return Message(wire.read_json(beside), large=large)
