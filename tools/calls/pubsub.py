"""Publishes transitions of calls to other processes through Redis, so that those who wait for one hear of it at once.

A message has a line for each call: its id, and the state in which it has ended, if it has. A second channel wakes the
workers when calls are queued. And as subscriptions end with a process, they say which of those that read streams have
died.

It only makes waits shorter: what is not received is found by the next query for the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context
from functools import cache
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from redis import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import RedisError

from connections.egress.loop import close_with_the_loop
from tools.calls import redis_lines
from tools.models.call_states import FINAL_STATES, CallState

CHANNEL: Final = "duvo:calls"
QUEUED: Final = "duvo:calls:queued"
READER: Final = "duvo:reader:"
_PATIENCE: Final = 0.5  # seconds that Redis may take
_AGAIN: Final = 2.0  # seconds after which Redis is tried again
# Redis is away (TimeoutError is an OSError), or what it said is none of its answers.
_AWAY: Final = (RedisError, OSError, ValueError, TypeError, AttributeError, RecursionError)
_MOST_AT_ONCE: Final = 1_000  # lines of a message; what is beyond is found by queries


def publish(call_id: UUID) -> None:
    """Notify all processes, from synchronous code, that a call has changed and its row is to be read."""
    with suppress(*_AWAY):
        _client(settings.REDIS_URL).publish(CHANNEL, str(call_id))


def notify_workers() -> None:
    """Notify the workers, from synchronous code, that there is a queued call to be made."""
    with suppress(*_AWAY):
        _client(settings.REDIS_URL).publish(QUEUED, "")


def publish_soon(call_id: UUID, state: CallState | None = None) -> None:
    """Do what `publish` does, in the background of the running loop, for a call that is in this state by now.

    Of a state that is final everybody knows enough with that: it does not change any more.
    """
    final = state is not None and state in FINAL_STATES
    _messenger().add(CHANNEL, f"{call_id} {state}" if final else str(call_id))


def notify_workers_soon() -> None:
    """Do what `notify_workers` does, in the background of the running loop."""
    _messenger().add(QUEUED, "")


async def listen(callback: Callable[[UUID, CallState | None], None]) -> None:
    """Call `callback` with the id of each call that some process publishes, and its final state if that is known.

    Until this is cancelled.
    """

    def received(data: bytes) -> None:
        for line in data.decode(errors="replace").split("\n"):
            call_id, _, state = line.partition(" ")
            with suppress(ValueError):  # a message of another program
                callback(UUID(call_id), CallState(state) if state else None)

    await _listen(CHANNEL, received)


async def listen_for_queued(callback: Callable[[], None]) -> None:
    """Call `callback` each time that calls have been queued, until this is cancelled."""
    await _listen(QUEUED, lambda _: callback())


async def attend(reader: UUID) -> None:
    """Have others see that this reader is alive, until this is cancelled or the process dies."""
    await _listen(f"{READER}{reader}", lambda _: None)


class RollCall:
    """Sees at once which readers have died, for one that is alive and attends itself."""

    def __init__(self, me: UUID) -> None:
        """Ask nothing yet."""
        self._me = me
        self.attended: set[UUID] = set()
        self._connection: AbstractConnection | None = None

    async def died(self, others: Collection[UUID]) -> set[UUID]:
        """Return those of the others that attended before and no longer do; nobody as long as Redis does not answer."""
        asked = [self._me, *others]
        try:
            async with asyncio.timeout(_PATIENCE):
                counts = await self._subscribers([f"{READER}{one}" for one in asked])
            present = {one for one, subscribers in zip(asked, counts, strict=True) if subscribers}
        except _AWAY:
            await self.close()
            present = set()
        if self._me not in present:  # Redis was started anew, or away: it knows of nobody
            self.attended.clear()
            return set()
        died = self.attended.intersection(others) - present
        self.attended = present
        return died

    async def _subscribers(self, channels: list[str]) -> list[int]:
        if self._connection is None:
            self._connection = redis_lines.new()
        await self._connection.send_command("PUBSUB", "NUMSUB", *channels)
        return list((await self._connection.read_response())[1::2])  # each channel's name, and its number

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _listen(channel: str, callback: Callable[[bytes], None]) -> None:
    while True:
        connection = redis_lines.new()
        try:
            async with asyncio.timeout(_PATIENCE):  # afterwards there may be nothing to hear for long
                await connection.send_command("SUBSCRIBE", channel)
                _, _, _ = await connection.read_response()
            while True:  # redis-py's own subscription costs several times as much for each message
                kind, _, data = await connection.read_response()
                if kind == b"message":
                    callback(data)
        except _AWAY:
            await asyncio.sleep(_AGAIN)
        finally:
            await connection.disconnect(nowait=True)


class _Messenger:
    """Publishes for one event loop; while one message is on its way, the next ones gather into one."""

    def __init__(self) -> None:
        self._gathered: dict[str, dict[str, None]] = {}  # lines by channel, each once
        self._sending: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self._connection: AbstractConnection | None = None
        self._lifetime = close_with_the_loop(self._hang_up)

    def add(self, channel: str, line: str) -> None:
        """Publish a line soon; while Redis is away it is dropped."""
        loop = asyncio.get_running_loop()
        lines = self._gathered.setdefault(channel, {})
        if loop.time() >= self._silent_until and len(lines) < _MOST_AT_ONCE:
            lines[line] = None
            if self._sending is None:
                self._sending = loop.create_task(self._send(), context=Context())

    async def _send(self) -> None:
        try:
            while self._gathered:
                messages, self._gathered = self._gathered, {}
                async with asyncio.timeout(_PATIENCE):
                    await self._publish({channel: "\n".join(lines) for channel, lines in messages.items() if lines})
        except _AWAY:
            self._gathered.clear()
            self._silent_until = asyncio.get_running_loop().time() + _AGAIN
            await self._hang_up()
        finally:
            self._sending = None

    async def _publish(self, messages: dict[str, str]) -> None:
        if self._connection is not None:
            with suppress(ConnectionBroken):  # Redis was restarted while nobody published, say
                await _exchange(self._connection, messages)
                return
        await self._hang_up()
        self._connection = redis_lines.new()
        await _exchange(self._connection, messages)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _exchange(connection: AbstractConnection, messages: dict[str, str]) -> None:
    for channel, message in messages.items():
        await connection.send_command("PUBLISH", channel, message)
    for _ in messages:
        await connection.read_response()


_messengers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Messenger] = WeakKeyDictionary()


def _messenger() -> _Messenger:
    loop = asyncio.get_running_loop()
    messenger = _messengers.get(loop)
    if messenger is None:
        messenger = _messengers[loop] = _Messenger()
    return messenger


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
