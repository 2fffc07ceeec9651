"""The limits of calls over all processes: how many at a time, how many per minute, and none to a server that is down.

    acquire   a call is about to be made: it takes a slot and tokens, or is refused and takes nothing
    release   the call has ended: its slot is free, and the circuit breaker learns whether the server was reached
    renew     calls go on: their slots live longer; those of a dead process fall free
    join      a client follows a call, by a stream of events or by waiting; `part` when it no longer does
    change    somebody changes what an organization has set up
    count     a call is queued for a worker: it takes the token of its assignment, and its slot later
    breakers  how many circuit breakers are open

limits.lua decides in Redis, by Redis' clock, so all processes together keep to one limit. While one script is on its
way the next requests of an event loop gather, and one script answers them all, in their order.

A limit protects; it is not worth an outage. When Redis is down or takes longer than half a second, calls go on without
limits, and Redis is asked again after 2 seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

import orjson
from django.conf import settings
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError

from connections import metrics
from tools.errors import CallError, CircuitOpen, LimitReached, QuotaFull

FAILURES = 5  # transport failures in a row that open a breaker
FIRST_PAUSE = 15.0  # seconds; doubled each time that the one call which is let through fails as well
LONGEST_PAUSE = 300.0
PATIENCE = 0.5  # seconds for Redis to answer
ASK_AGAIN = 2.0  # seconds after it did not
MOST_CHANGES = 300  # per minute, of one organization: each is kept in its audit log for ever
MOST_FOLLOWING = {"streams": 50, "waiters": 200}  # of one assignment, over all processes

_MOST_AT_ONCE = 256
_MOST_OWED = 1_000  # departures that are told late; more than that and the leases have to do
_SCRIPT = Path(__file__).with_suffix(".lua").read_bytes()
_DIGEST = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # the name that Redis gives it
_SENTENCES = {
    "organization_busy": "Your organization's limit of {} calls at a time is reached. Try again in a moment.",
    "connection_busy": "This connection's limit of {} calls at a time is reached. Try again in a moment.",
    "connection_rate": "This connection's limit of {} calls a minute is reached.",
    "changes": "Your organization's limit of {} changes a minute is reached.",
    "streams": "This assignment has {} streams of events open, the most it may have. Close one.",
    "waiters": "This assignment waits for {} calls, the most it may at a time. Ask again without waiting.",
    "open_calls": "Your organization has reached its quota of {} open calls. Try again when some have ended.",
    "stored": "Your organization has reached its quota of stored bytes. An admin can have calls kept for fewer days.",
    "assignment_rate": "This assignment's limit of {} calls a minute is reached.",
}

logger = logging.getLogger(__name__)

Words = tuple[Any, ...]
Request = tuple[Words, asyncio.Future[Any] | None]  # who releases a slot waits for no answer


class BreakerSignal(Enum):
    """What a call that ends tells of its server: it answered, its transport failed, or nothing was learnt."""

    ANSWERED = "answered"
    TRANSPORT_FAILED = "transport_failed"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for one call; None is no limit. Rates are calls per minute, and that many may come at once."""

    tenant_id: UUID
    connection_id: UUID
    assignment_id: UUID
    tenant_concurrency: int | None
    connection_concurrency: int | None
    connection_rate: int | None
    assignment_rate: int | None
    tenant_open: int | None = None  # open calls
    tenant_room: int | None = None  # bytes that the organization might still store when that was last measured


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot that one run of a call has taken."""

    id: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class FollowerSlot:
    """The slot of one client of an assignment that follows a call."""

    kind: Literal["streams", "waiters"]
    assignment_id: UUID
    id: str = field(default_factory=lambda: uuid4().hex)


class Breakers(NamedTuple):
    """How many breakers keep calls back, and how many wait for one call to try."""

    open: int
    half_open: int


async def count(bounds: Bounds, *, size: int = 0) -> None:
    """Take a token of the assignment's rate, for a call that is made later with so many bytes; raises LimitReached."""
    words = (
        "count", bounds.assignment_id, _bound(bounds.assignment_rate), bounds.tenant_id, _bound(bounds.tenant_open),
        _bound(bounds.tenant_room), size,
    )  # fmt: skip
    _raise_refusal(await _batcher().ask(words))


async def change(tenant_id: UUID) -> None:
    """Take a token for one change, by page or API, of what an organization has set up; raises LimitReached."""
    _raise_refusal(await _batcher().ask(("spend", "changes", tenant_id, MOST_CHANGES)))


async def acquire_follower(slot: FollowerSlot, *, lease: float) -> FollowerSlot:
    """Take a slot for `lease` seconds, or again; raises LimitReached when the assignment has as many as it may."""
    try:
        words = ("acquire_follower", slot.id, lease, slot.kind, slot.assignment_id, MOST_FOLLOWING[slot.kind])
        _raise_refusal(await _batcher().ask(words))
    except asyncio.CancelledError:
        release_follower(slot)
        raise
    return slot


def release_follower(slot: FollowerSlot) -> None:
    """Give a slot back, in the background of the running loop."""
    _batcher().tell(("release_follower", slot.id, slot.kind, slot.assignment_id, BreakerSignal.NEITHER))


def stored(tenant_id: UUID, size: int) -> None:
    """Tell how many bytes a call has added to what its organization stores."""
    _batcher().tell(("store", tenant_id, size, BreakerSignal.NEITHER))


async def acquire(bounds: Bounds, *, lease: float, counted: bool = False, size: int = 0) -> Slot:
    """Take a slot for `lease` seconds and a token of each rate, of the assignment's only if it was not `counted`.

    `size` is how many bytes the call adds to what is stored; who was counted has added them.

    Raises LimitReached or CircuitOpen, then nothing was taken.
    """
    slot = Slot(uuid4().hex, bounds)
    rate = None if counted else bounds.assignment_rate
    words = (
        "acquire", slot.id, lease, bounds.tenant_id, _bound(bounds.tenant_concurrency),
        bounds.connection_id, _bound(bounds.connection_concurrency), _bound(bounds.connection_rate),
        bounds.assignment_id, _bound(rate), -1 if counted else _bound(bounds.tenant_room), size,
    )  # fmt: skip
    try:
        refusal = await _batcher().ask(words)
    except asyncio.CancelledError:
        release(slot, BreakerSignal.NEITHER)  # told after the request, which may be on its way
        raise
    _raise_refusal(refusal)
    return slot


def release(slot: Slot, signal: BreakerSignal) -> None:
    """Give a slot back, in the background of the running loop."""
    _batcher().tell(("release", slot.id, slot.bounds.tenant_id, slot.bounds.connection_id, signal))


async def renew(slots: Iterable[Slot], *, lease: float) -> None:
    """Let slots live for `lease` seconds from now; those that Redis has forgotten are taken again."""
    batcher, asked = _batcher(), []
    for slot in slots:
        bounds = slot.bounds
        words = (
            "renew", slot.id, lease, bounds.tenant_id, _bound(bounds.tenant_concurrency),
            bounds.connection_id, _bound(bounds.connection_concurrency),
        )  # fmt: skip
        asked.append(batcher.ask(words))
    for answer in asked:
        await answer


async def breakers() -> Breakers | None:
    """Return how many breakers are open in all processes; None when Redis cannot be asked."""
    numbers = await _batcher().ask(("breakers",))
    return None if numbers is None else Breakers(*numbers)


def _bound(limit: int | None) -> int:
    return -1 if limit is None else limit


def _raise_refusal(refusal: Any) -> None:
    if not refusal:  # 0, or None when Redis did not answer
        return
    code, seconds, number, next_try = refusal
    metrics.count("limit_refusals", limit=code)
    raise _refused(code, seconds, number, next_try)


def _refused(code: str, seconds: float, number: int, next_try: float) -> CallError:
    if code in ("open_calls", "stored"):
        return QuotaFull(_SENTENCES[code].format(number), retry_after=seconds)
    if code != CircuitOpen.code:
        return LimitReached(_SENTENCES[code].format(number), code=code, retry_after=seconds)
    sentence = f"The server could not be reached {number} times in a row. "
    if next_try:
        sentence += f"The next call goes out at {datetime.fromtimestamp(next_try, UTC):%H:%M:%S} UTC."
    else:
        sentence += "One call is trying it now; others go out once it is answered."
    return CircuitOpen(sentence, retry_after=seconds)


class _Batcher:
    """What one event loop asks Redis: one script at a time on one connection, and the next requests gather."""

    def __init__(self) -> None:
        self._gathered: list[Request] = []
        self._sending: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self._out = False
        self._connection: AbstractConnection | None = None
        self._lifetime: AsyncGenerator[None] | None = None

    def ask(self, words: Words) -> asyncio.Future[Any]:
        """Have a request sent, and return the script's answer to come; None when Redis gives none."""
        answer = asyncio.get_running_loop().create_future()
        if self._silent:
            answer.set_result(None)
        else:
            self._add((words, answer))
        return answer

    def tell(self, words: Words) -> None:
        """Have a request sent to which nobody wants an answer; in an outage it waits for its end."""
        self._add((words, None))

    def _add(self, request: Request) -> None:
        self._gathered.append(request)
        if self._sending is None and not self._silent:
            self._sending = asyncio.create_task(self._send())

    @property
    def _silent(self) -> bool:
        return self._out and asyncio.get_running_loop().time() < self._silent_until

    async def _send(self) -> None:
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:_MOST_AT_ONCE], self._gathered[_MOST_AT_ONCE:]
                try:
                    async with _patience():
                        answers = await self._exchange([words for words, _ in batch])
                except Exception as error:  # noqa: BLE001 - whatever it was, a limit must not hold up the waiting calls
                    await self._go_on_without(batch, error)
                    return
                self._out = False
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future is not None and not future.done():
                        future.set_result(answer)
        finally:
            self._sending = None

    async def _exchange(self, requests: list[Words]) -> list[Any]:
        message = orjson.dumps(((FAILURES, FIRST_PAUSE, LONGEST_PAUSE), requests))
        if self._connection is not None:
            with suppress(ConnectionBroken):  # Redis was restarted while nobody asked, say
                return await self._run(self._connection, message)
        await self._hang_up()
        self._connection = _new_connection()
        if self._lifetime is None:
            self._lifetime = self._until_the_loop_ends()
            await anext(self._lifetime)
        return await self._run(self._connection, message)

    async def _run(self, connection: AbstractConnection, message: bytes) -> list[Any]:
        # A client of redis-py costs twice as much: its pool, retries and spans are of no use to one connection.
        try:
            await connection.send_command("EVALSHA", _DIGEST, 0, message)
            answers = await connection.read_response()
        except NoScriptError:
            await connection.send_command("EVAL", _SCRIPT, 0, message)
            answers = await connection.read_response()
        decoded: list[Any] = orjson.loads(answers)
        return decoded

    async def _go_on_without(self, batch: list[Request], error: Exception) -> None:
        """Let everybody go on; what they gave back is told later, without the signal, which may have been heard."""
        if not self._out:
            logger.warning("Calls go on without limits, as Redis does not answer: %r", error)
        self._out, self._silent_until = True, asyncio.get_running_loop().time() + ASK_AGAIN
        waiting, self._gathered = batch + self._gathered, []
        for words, future in waiting:
            if future is None:
                self._gathered.append(((*words[:-1], BreakerSignal.NEITHER), None))
            elif not future.done():
                future.set_result(None)
        del self._gathered[:-_MOST_OWED]
        await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        # A loop that ends finishes the asynchronous generators that were begun in it.
        try:
            yield
        finally:
            await self._hang_up()
            await asyncio.sleep(0)  # the socket is closed in the loop's next turn


@asynccontextmanager
async def _patience() -> AsyncGenerator[None]:
    """Raise TimeoutError when what is inside takes longer than PATIENCE."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as whole:
        # In two halves: a loop that was held up sees the answer before the second one has passed.
        half = loop.call_later(PATIENCE / 2, lambda: whole.reschedule(loop.time() + PATIENCE / 2))
        try:
            yield
        finally:
            half.cancel()


_batchers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batcher] = WeakKeyDictionary()


def _batcher() -> _Batcher:
    loop = asyncio.get_running_loop()
    batcher = _batchers.get(loop)
    if batcher is None:
        batcher = _batchers[loop] = _Batcher()
    return batcher


def _new_connection() -> AbstractConnection:
    # RESP2 saves the greeting, and no time-out of its own: one clock runs for the whole exchange.
    address = ConnectionPool.from_url(
        settings.REDIS_URL, protocol=2, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
    )
    made: AbstractConnection = address.connection_class(**address.connection_kwargs)
    return made
