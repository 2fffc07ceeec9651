"""The limits of calls over all processes: how many at a time, how many per minute, and none to a server that is down.

    acquire   a call is about to be made: it takes a slot and tokens, or is refused and takes nothing
    release   the call has ended: its slot is free, and the circuit breaker learns whether the server was reached
    renew     calls go on: the leases of their slots are renewed; those of a dead process expire
    acquire_follower  a client follows a call, by a stream of events or by waiting; `release_follower` at the end
    change    somebody changes what an organization has set up
    count     a call is queued for a worker: it takes the token of its assignment, and its slot later
    breakers  how many circuit breakers are open

limits.lua decides in Redis, by Redis' clock, so all processes together keep to one limit. While one script runs, the
next requests of an event loop are gathered, and the next script answers them all, in their order.

Limits must not cause an outage: when Redis is down or takes longer than half a second, calls go on without limits, and
Redis is asked again after 2 seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError
from uuid_utils.compat import uuid7

from connections import metrics
from tools.calls import redis_lines
from tools.errors import CallError, CircuitOpen, LimitReached, QuotaFull

FAILURES = 5  # transport failures in a row that open a breaker
FIRST_PAUSE = 15.0  # seconds; doubled each time that the one call which is let through (half-open) fails as well
LONGEST_PAUSE = 300.0
PATIENCE = 0.5  # seconds for Redis to answer
ASK_AGAIN = 2.0  # seconds after it did not
MOST_CHANGES = 300  # per minute, of one organization: each is kept in its audit log for ever
MOST_FOLLOWING = {"streams": 50, "waiters": 200}  # of one assignment, over all processes
# Of one organization, however many assignments it has: less than one web process takes of connections in all.
MOST_FOLLOWING_OF_TENANT = {"streams": 500, "waiters": 1_000}

_MOST_AT_ONCE = 256
_MOST_OWED = 1_000  # releases kept during an outage; of any further ones the leases expire
_SCRIPT = Path(__file__).with_suffix(".lua").read_bytes()
_DIGEST = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # the name that Redis gives it
_SENTENCES = {
    "organization_busy": "Your organization's limit of {} calls at a time is reached. Try again in a moment.",
    "connection_busy": "This connection's limit of {} calls at a time is reached. Try again in a moment.",
    "connection_rate": "This connection's limit of {} calls a minute is reached.",
    "changes": "Your organization's limit of {} changes a minute is reached.",
    "streams": "This assignment has {} streams of events open, the most it may have. Close one.",
    "waiters": "This assignment waits for {} calls, the most it may at a time. Ask again without waiting.",
    "organization_streams": "Your organization has {} streams of events open, the most it may have. Close one.",
    "organization_waiters": "Your organization waits for {} calls, the most it may. Ask again without waiting.",
    "open_calls": "Your organization has reached its quota of {} open calls. Try again when some have ended.",
    "stored": "Your organization has reached its quota of stored bytes. An admin can have calls kept for fewer days.",
    "assignment_rate": "This assignment's limit of {} calls a minute is reached.",
}

logger = logging.getLogger(__name__)

Command = tuple[Any, ...]
Request = tuple[Command, asyncio.Future[Any] | None]  # who releases a slot waits for no answer


class BreakerSignal(Enum):
    """What a call that ends says about its server: it answered, failed, was not reached, or none of it is known."""

    ANSWERED = "answered"
    SERVER_FAILED = "server_failed"
    TRANSPORT_FAILED = "transport_failed"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits that apply to one call; None is no limit. Rates are per minute; that many calls may come at once."""

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
    tenant_id: UUID
    id: str = field(default_factory=lambda: uuid7().hex)


class Breakers(NamedTuple):
    """How many breakers are open (refuse calls), and how many half-open (let one call try)."""

    open: int
    half_open: int


async def count(bounds: Bounds, *, size: int = 0) -> None:
    """Take a token of the assignment's rate, for a call of `size` bytes that is made later; raises LimitReached."""
    command = (
        "count", bounds.assignment_id, _bound(bounds.assignment_rate), bounds.tenant_id, _bound(bounds.tenant_open),
        _bound(bounds.tenant_room), size,
    )  # fmt: skip
    _raise_refusal(await _batcher().request(command))


async def change(tenant_id: UUID) -> None:
    """Take a token for one change, by page or API, of what an organization has set up; raises LimitReached."""
    _raise_refusal(await _batcher().request(("spend", "changes", tenant_id, MOST_CHANGES)))


async def acquire_follower(slot: FollowerSlot, *, lease: float) -> FollowerSlot:
    """Take a slot for `lease` seconds, or renew it.

    Raises LimitReached when the assignment, or the organization, has as many as it may.
    """
    try:
        command = (
            "acquire_follower", slot.id, lease, slot.kind, slot.assignment_id, MOST_FOLLOWING[slot.kind],
            slot.tenant_id, MOST_FOLLOWING_OF_TENANT[slot.kind],
        )  # fmt: skip
        _raise_refusal(await _batcher().request(command))
    except asyncio.CancelledError:
        release_follower(slot)
        raise
    return slot


def release_follower(slot: FollowerSlot) -> None:
    """Give a slot back, in the background of the running loop."""
    _batcher().notify(
        ("release_follower", slot.id, slot.kind, slot.assignment_id, slot.tenant_id, BreakerSignal.NEITHER)
    )


def add_stored(tenant_id: UUID, size: int) -> None:
    """Add the bytes of a call to what its organization stores."""
    _batcher().notify(("store", tenant_id, size, BreakerSignal.NEITHER))


async def acquire(bounds: Bounds, *, lease: float, counted: bool = False, size: int = 0) -> Slot:
    """Take a slot for `lease` seconds and a token of each rate, of the assignment's only if it was not `counted`.

    `size` is how many bytes the call adds to what is stored; a call that was `counted` has added them before, and what
    refuses it is no refusal of a caller: a worker tries again until there is a slot.

    Raises LimitReached or CircuitOpen; then nothing was taken.
    """
    slot = Slot(uuid7().hex, bounds)
    rate = None if counted else bounds.assignment_rate
    command = (
        "acquire", slot.id, lease, bounds.tenant_id, _bound(bounds.tenant_concurrency),
        bounds.connection_id, _bound(bounds.connection_concurrency), _bound(bounds.connection_rate),
        bounds.assignment_id, _bound(rate), -1 if counted else _bound(bounds.tenant_room), size,
    )  # fmt: skip
    try:
        refusal = await _batcher().request(command)
    except asyncio.CancelledError:
        release(slot, BreakerSignal.NEITHER)  # sent after the request, which may be on its way
        raise
    _raise_refusal(refusal, told=not counted)
    return slot


def release(slot: Slot, signal: BreakerSignal) -> None:
    """Give a slot back, in the background of the running loop."""
    _batcher().notify(("release", slot.id, slot.bounds.tenant_id, slot.bounds.connection_id, signal))


async def renew(slots: Iterable[Slot], *, lease: float) -> None:
    """Renew the leases of slots to `lease` seconds from now; slots that Redis has lost are taken again."""
    batcher, asked = _batcher(), []
    for slot in slots:
        bounds = slot.bounds
        command = (
            "renew", slot.id, lease, bounds.tenant_id, _bound(bounds.tenant_concurrency),
            bounds.connection_id, _bound(bounds.connection_concurrency),
        )  # fmt: skip
        asked.append(batcher.request(command))
    for answer in asked:
        await answer


async def breakers() -> Breakers | None:
    """Return how many breakers are open in all processes; None when Redis cannot be asked."""
    numbers = await _batcher().request(("breakers",))
    return None if numbers is None else Breakers(*numbers)


def _bound(limit: int | None) -> int:
    return -1 if limit is None else limit


def _raise_refusal(refusal: Any, *, told: bool = True) -> None:
    """Raise what a refusal says; it is counted if a caller is told so."""
    if not refusal:  # 0, or None when Redis did not answer
        return
    code, seconds, number, next_try, *reached = refusal
    if told:
        metrics.count("limit_refusals", limit=code)
    raise _refused(code, seconds, number, next_try, *reached)


def _refused(code: str, seconds: float, number: int, next_try: float, reached: int = 0) -> CallError:
    if code in ("open_calls", "stored"):
        return QuotaFull(_SENTENCES[code].format(number), retry_after=seconds)
    if code != CircuitOpen.code:
        return LimitReached(_SENTENCES[code].format(number), code=code, retry_after=seconds)
    sentence = f"{_what_failed(number, reached)} {number} times in a row. "
    if next_try:
        sentence += f"The next call goes out at {datetime.fromtimestamp(next_try, UTC):%H:%M:%S} UTC."
    else:
        sentence += "One call is trying it now; others go out once it is answered."
    return CircuitOpen(sentence, retry_after=seconds)


def _may_answer(request: Command, answer: Any) -> bool:
    """Tell whether this is what limits.lua answers: two numbers about breakers, else 0 or a refusal."""
    if request[0] == "breakers":
        return isinstance(answer, list) and [type(number) for number in answer] == [int, int]
    match answer:
        case [str(CircuitOpen.code), *numbers] if len(numbers) == 4:  # noqa: PLR2004 - see `_refused`
            return all(isinstance(number, int | float) for number in numbers)
        case [str(code), *numbers] if len(numbers) == 3:  # noqa: PLR2004 - see `_refused`
            return code in _SENTENCES and all(isinstance(number, int | float) for number in numbers)
    return bool(answer == 0)


def _what_failed(number: int, reached: int) -> str:
    """Return what happened so many times in a row; in `reached` of them the server answered with a failure."""
    if not reached:
        return "The server could not be reached"
    if reached < number:
        return "The server could not be reached or failed with an error of its own (HTTP 502 or above)"
    return "The server was reached but failed with an error of its own (HTTP 502 or above)"


class _Batcher:
    """Batches what one event loop asks Redis: one script at a time on one connection; the next ones are gathered."""

    def __init__(self) -> None:
        self._gathered: list[Request] = []
        self._sending: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self._out = False
        self._connection: AbstractConnection | None = None
        self._lifetime: AsyncGenerator[None] | None = None

    def request(self, command: Command) -> asyncio.Future[Any]:
        """Send a request in the next batch and return a future of the script's answer; None when Redis gives none."""
        answer = asyncio.get_running_loop().create_future()
        if self._silent:
            answer.set_result(None)
        else:
            self._add((command, answer))
        return answer

    def notify(self, command: Command) -> None:
        """Send a request without waiting for its answer; during an outage it is kept until Redis answers again."""
        self._add((command, None))

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
                    answers = await self._exchange_in_time([command for command, _ in batch])
                except Exception as error:  # noqa: BLE001 - whatever it was, a limit must not hold up the waiting calls
                    await self._go_on_without(batch, error)
                    return
                self._out = False
                for (_, future), answer in zip(batch, answers, strict=True):  # as many, by `_run`
                    if future is not None and not future.done():
                        future.set_result(answer)
        finally:
            self._sending = None

    async def _exchange_in_time(self, requests: list[Command]) -> list[Any]:
        """Do what `_exchange` does; raises TimeoutError when it takes longer than PATIENCE."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as whole:
            # In two halves: a loop that was held up sees the answer before the second one has passed.
            half = loop.call_later(PATIENCE / 2, lambda: whole.reschedule(loop.time() + PATIENCE / 2))
            try:
                return await self._exchange(requests)
            finally:
                half.cancel()

    async def _exchange(self, requests: list[Command]) -> list[Any]:
        message = orjson.dumps(((FAILURES, FIRST_PAUSE, LONGEST_PAUSE), requests))
        if self._connection is not None:
            with suppress(ConnectionBroken):  # Redis was restarted while nobody asked, say
                return await self._run(self._connection, message, requests)
        await self._hang_up()
        self._connection = redis_lines.new()
        if self._lifetime is None:
            self._lifetime = self._until_the_loop_ends()
            await anext(self._lifetime)
        return await self._run(self._connection, message, requests)

    async def _run(self, connection: AbstractConnection, message: bytes, requests: list[Command]) -> list[Any]:
        """Return an answer for each request; raises ValueError for anything else."""
        # A client of redis-py costs twice as much: its pool, retries and spans are of no use to one connection.
        try:
            await connection.send_command("EVALSHA", _DIGEST, 0, message)
            answers = await connection.read_response()
        except NoScriptError:
            await connection.send_command("EVAL", _SCRIPT, 0, message)
            answers = await connection.read_response()
        decoded: list[Any] = orjson.loads(answers)
        if (
            not isinstance(decoded, list)
            or len(decoded) != len(requests)
            or not all(map(_may_answer, requests, decoded))
        ):
            raise ValueError("Redis gave other answers than it was asked for.")
        return decoded

    async def _go_on_without(self, batch: list[Request], error: Exception) -> None:
        """Let all calls go on; releases are sent again later, without the signal, which may have been counted."""
        if not self._out:
            logger.warning("Calls go on without limits, as Redis does not answer: %r", error)
        self._out, self._silent_until = True, asyncio.get_running_loop().time() + ASK_AGAIN
        waiting, self._gathered = batch + self._gathered, []
        for command, future in waiting:
            if future is None:
                self._gathered.append(((*command[:-1], BreakerSignal.NEITHER), None))
            elif not future.done():
                future.set_result(None)
        del self._gathered[:-_MOST_OWED]
        await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        # A loop that ends closes the asynchronous generators that were started in it.
        try:
            yield
        finally:
            await self._hang_up()
            await asyncio.sleep(0)  # the socket is closed in the loop's next turn


_batchers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batcher] = WeakKeyDictionary()


def _batcher() -> _Batcher:
    loop = asyncio.get_running_loop()
    batcher = _batchers.get(loop)
    if batcher is None:
        batcher = _batchers[loop] = _Batcher()
    return batcher
