"""The sessions that this process has joined, and what it does for them besides calls.

As long as there are any it says twice a second that it is alive, writes down which were used, leaves those that have
ended, and reads the GET streams of those whose reader has died: a server that pings there and finds nobody gives a
session up within seconds. Redis says at once who has died, as its subscription ends with it; without Redis it takes two
seconds. One process at a time reads a stream; if it is only slow, the server refuses the second one (409).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseFailed
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from connections import deleting
from connections.egress.loop import close_with_the_loop
from connections.errors import SealBroken, SealKeyUnknown
from connections.threads import in_thread
from tools.calls import pubsub
from tools.calls.sessions import credentials
from tools.calls.sessions.elsewhere import CallsElsewhere
from tools.mcp_client import KeptSession, Server
from tools.mcp_client.handshake import Session
from tools.mcp_client.server_stream import ServerStream
from tools.models import McpSession, StreamReader

BEAT = 0.5  # seconds
ALIVE = timedelta(seconds=2)  # that a process counts as alive after a beat
LATE = timedelta(seconds=10)  # that its beats may be late as long as Redis sees it: a busy machine is no death
ROLL_CALL_EVERY = 0.05  # seconds; a server that pings every 3 s loses one session in 60 meanwhile
_TOUCH_EVERY = 2.0  # seconds
_TOUCHED_LATELY = 5.0  # seconds; a session whose row says that it is in use is ended by nothing that goes by use
_RENEW_EVERY = 5.0  # seconds
_NOBODY_EVERY = 2.0  # seconds between two looks whether anybody reads streams
_ADOPTED_AT_ONCE = 50
MOST_READ = 500  # streams of one organization that a process keeps open: each costs a socket

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Joined:
    """A session that calls of this process use, or whose stream it reads."""

    id: UUID
    idle: timedelta
    session: Session = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)  # the last ones that were stored
    touched: float  # when its row was last told by this process that it is in use, on the clock of the loop
    calls: set[UUID] = field(default_factory=set)  # under way here
    begun: int = 0  # calls that are not written down yet
    touching: asyncio.Task[bool] | None = None
    sent: bool = False  # whether a call was sent in it from here: then there may be something to remember
    untold: bool = True  # whether it may be in the place of an earlier one of whose end the program does not know
    generation: int = 0  # of the token with which the server is asked between calls


class Here:
    """What one event loop has joined."""

    def __init__(self) -> None:
        """Join nothing yet."""
        self.id = uuid4()
        self.joined: dict[UUID, Joined] = {}
        self.others: set[UUID] = set()  # who else reads streams
        self.roll: pubsub.RollCall | None = None
        self._stays = False  # also without a session
        self._task: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()
        self._touched = self._renewed = 0.0
        self._end: object = None
        self._read_of: Counter[str] = Counter()  # streams open here, by organization

    def join(self, row: McpSession, server: Server, session: Session | None = None) -> Joined:
        """Return the session of a row, joined with what its row keeps unless it is given; raises SealBroken."""
        if (known := self.joined.get(row.pk)) is not None:
            return known
        kept, is_new = opened_of(row), session is not None
        session = session or Session.joined(server, kept.session)
        if session.stream is not None:
            session.stream.share(CallsElsewhere(row.pk, row.tenant_id, session.replies, self._calls_of(row.pk)))
        idle = (row.idle_until - row.used_at) if row.idle_until and row.used_at else timedelta(minutes=30)
        touched = asyncio.get_running_loop().time() if is_new else -_TOUCHED_LATELY
        joined = self.joined[row.pk] = Joined(row.pk, idle, session, kept.headers, touched)
        if row.holder == self.id and session.stream is not None:
            self._hold(session.server.tenant, session.stream)
        self._start()
        return joined

    def leave(self, session_id: UUID) -> None:
        """Use a session no more; its stream is closed as soon as no call is under way."""
        joined = self.joined.pop(session_id, None)
        if joined is not None and joined.session.stream is not None:
            joined.session.stream.retire()

    async def use(self, joined: Joined) -> bool:
        """Have the row of a session say that it is in use, before a request is sent in it; False when it has ended.

        The beat says so only later: until then the session might be taken for idle, and ended in the middle of a call.
        """
        if asyncio.get_running_loop().time() - joined.touched < _TOUCHED_LATELY:
            return True
        if joined.touching is None or joined.touching.done():
            joined.touching = asyncio.get_running_loop().create_task(self._touch(joined), context=Context())
        return await asyncio.shield(joined.touching)  # others wait for it as well

    async def _touch(self, joined: Joined) -> bool:
        now = asyncio.get_running_loop().time()
        if not await in_thread(_touch, joined.id, 0, joined.idle, of=joined.session.server.tenant):
            self.leave(joined.id)
            return False
        joined.touched = now
        return True

    def _calls_of(self, session_id: UUID) -> Any:
        def calls() -> set[UUID]:
            joined = self.joined.get(session_id)
            return set(joined.calls) if joined is not None else set()

        return calls

    def stay(self) -> None:
        """Take streams over from now on even if this process has joined no session itself."""
        self._stays = True
        self._start()

    def _start(self) -> None:
        self._soon.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._beat(), context=Context())
            self._end = self._end or close_with_the_loop(self.resign)

    async def _beat(self) -> None:
        while self.joined or self._stays:  # a session may be joined while the roll call comes to its end
            calling = asyncio.get_running_loop().create_task(self._call_roll())
            try:
                await self._keep_beating()
            finally:
                calling.cancel()
                await asyncio.wait([calling])

    async def _keep_beating(self) -> None:
        while self.joined or self._stays:
            self._soon.clear()
            try:
                await (self._beat_once() if self.joined else self._look_for_others())
            except DatabaseFailed:
                logger.debug("The sessions could not be looked at; trying again.")
            except Exception:  # else their streams would be read by nobody from now on
                logger.exception("The sessions could not be looked at; trying again.")
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT if self.joined or self.others else _NOBODY_EVERY):
                    await self._soon.wait()

    async def _call_roll(self) -> None:
        """Attend, and take over the streams of others as soon as they no longer do."""
        attending = asyncio.get_running_loop().create_task(pubsub.attend(self.id))
        self.roll = roll = pubsub.RollCall(self.id)
        try:
            while True:
                if self.others and (died := await roll.died(self.others)):
                    with suppress(DatabaseFailed):
                        self._read(await in_thread(_take_over, self.id, died, self._attended))
                await asyncio.sleep(ROLL_CALL_EVERY if self.others and roll.attended else BEAT)
        finally:
            attending.cancel()
            await asyncio.wait([attending])
            await roll.close()

    @property
    def _attended(self) -> set[UUID]:
        return set(self.roll.attended) if self.roll is not None else set()

    async def _look_for_others(self) -> None:
        self.others, adopted = await in_thread(lambda: (_others(self.id), _adopt(self.id, self._attended)))
        self._read(adopted)

    async def _beat_once(self) -> None:
        loop = asyncio.get_running_loop()
        used: list[tuple[Joined, int]] = []
        if (now := loop.time()) - self._touched >= _TOUCH_EVERY:
            used = [(one, one.begun) for one in self.joined.values() if one.begun or one.calls]
        asked, told = list(self.joined), [(one.id, begun, one.idle) for one, begun in used]
        written = set[UUID]()
        try:
            live, self.others, adopted = await in_thread(_exchange, self.id, asked, told, written, self._attended)
        finally:  # what was left out is said by a later beat, and what is written is not said twice
            for one, begun in used:
                self._touched = now
                if one.id in written:
                    one.touched = now
                    one.begun -= begun
        for session_id in set(asked) - live.keys():
            self.leave(session_id)
        self._read_of = Counter(
            one.session.server.tenant
            for one in self.joined.values()
            if one.session.stream is not None and one.session.stream.is_open
        )
        for session_id, holder in live.items():
            self._read_or_not(session_id, holder)
        self._read(adopted)
        if loop.time() - self._renewed >= _RENEW_EVERY:
            self._renewed = loop.time()
            await self._renew()

    async def _renew(self) -> None:
        """Answer servers with the newest token also where no call has brought it: old ones expire."""
        read = [one for one in self.joined.values() if one.session.stream is not None and one.session.stream.held]
        signed_in = {one.id: one.generation for one in read if "@" in one.session.server.key}
        newer = await in_thread(credentials.renewed, signed_in) if signed_in else {}
        for session_id, (server, generation) in newer.items():
            if (joined := self.joined.get(session_id)) is not None:
                joined.generation = generation
                joined.session.replies.server = server

    def _read(self, adopted: Sequence[McpSession]) -> None:
        for row in adopted:
            with suppress(SealBroken, SealKeyUnknown):
                self.join(row, opened_of(row).server)
                self._read_or_not(row.pk, self.id)

    def _read_or_not(self, session_id: UUID, holder: UUID | None) -> None:
        joined = self.joined.get(session_id)
        stream = joined.session.stream if joined is not None else None
        if stream is None or stream.held == (holder == self.id):
            return
        if holder == self.id and joined is not None:
            self._hold(joined.session.server.tenant, stream)
        else:
            stream.leave()

    def _hold(self, tenant: str, stream: ServerStream) -> None:
        """Read a stream, unless its organization has as many as it may; then it is tried again with each beat."""
        if self._read_of[tenant] < MOST_READ:
            self._read_of[tenant] += 1
            stream.hold()

    async def resign(self) -> None:
        """Leave every session; another process reads their streams at once."""
        read, self._stays = bool(self.joined), False
        for session_id in list(self.joined):
            self.leave(session_id)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if not read:
            return
        with suppress(DatabaseFailed):
            await in_thread(lambda: StreamReader.objects.filter(pk=self.id).update(alive_until=timezone.now() - ALIVE))


_heres: WeakKeyDictionary[asyncio.AbstractEventLoop, Here] = WeakKeyDictionary()


def here() -> Here:
    """Return what the running event loop has joined."""
    loop = asyncio.get_running_loop()
    if loop not in _heres:
        _heres[loop] = Here()
    return _heres[loop]


def everywhere() -> dict[asyncio.AbstractEventLoop, Here]:
    """Return what each event loop of this process has joined."""
    return dict(_heres)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a row keeps, opened: the session, and the server as it was asked last."""

    session: KeptSession
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    server: Server = field(repr=False)


def opened_of(row: McpSession) -> Opened:
    """Return what a row keeps; raises SealBroken and SealKeyUnknown."""
    known = row.opened()
    cookies = {name.encode("latin-1"): value.encode("latin-1") for name, value in known["cookies"].items()}
    headers = tuple((name, value) for name, value in known["headers"])
    server = Server(
        key=row.server_key, url=known["url"], headers=headers, era="legacy",
        protocol_version=known["version"], tenant=str(row.tenant_id), owner=str(row.assignment_id or ""),
    )  # fmt: skip
    return Opened(KeptSession(known["id"], known["version"], cookies), known["url"], headers, server)


def to_keep(server: Server, session: KeptSession) -> dict[str, Any]:
    """Return what a row keeps of a session, to be sealed: all that it takes to go on with it, or to end it."""
    return {
        "id": session.id,
        "version": session.protocol_version,
        "cookies": {name.decode("latin-1"): value.decode("latin-1") for name, value in session.cookies.items()},
        "url": server.url,
        "headers": [list(pair) for pair in server.headers],
    }


def _exchange(
    reader: UUID,
    joined: Sequence[UUID],
    used: Sequence[tuple[UUID, int, timedelta]],
    written: set[UUID],
    attended: Collection[UUID],
) -> tuple[dict[UUID, UUID | None], set[UUID], list[McpSession]]:
    """Write what this process has to say, and add to `written` the used sessions whose rows say so now.

    Return who reads which joined session, who else reads streams, and the sessions that this one reads from now on.
    """
    now = timezone.now()
    say_alive(reader, now)
    for session_id, begun, idle in used:
        with transaction.atomic():  # sessions of all organizations: nobody waits for one that is being deleted
            told = _touch(session_id, begun, idle, patient=False)
        if told:
            written.add(session_id)
    live = dict(McpSession.objects.live().valid().filter(pk__in=joined).values_list("pk", "holder")) if joined else {}
    return live, _others(reader), _adopt(reader, attended)


def _touch(session_id: UUID, begun: int, idle: timedelta, *, patient: bool = True) -> int:
    """Write down that a session is in use, and how many calls have begun; return 0 when it has ended.

    Who is not `patient` leaves out a row that somebody has locked at this moment; in a transaction only.
    """
    now = timezone.now()
    row = McpSession.objects.live().filter(pk=session_id)
    return (row if patient else deleting.unlocked(row)).update(
        used_at=now, idle_until=now + idle, calls=F("calls") + begun
    )


def say_alive(reader: UUID, now: datetime) -> None:
    """Write down that a reader is alive; who holds a stream without having said so has no successor."""
    me = StreamReader(id=reader, alive_until=now + ALIVE)
    StreamReader.objects.bulk_create([me], update_conflicts=True, unique_fields=["id"], update_fields=["alive_until"])


def _others(reader: UUID) -> set[UUID]:
    """Return who else reads streams."""
    alive = StreamReader.objects.filter(alive_until__gte=timezone.now() - LATE).exclude(pk=reader)
    return set(alive.values_list("pk", flat=True))


def _take_over(reader: UUID, died: Collection[UUID], attended: Collection[UUID]) -> list[McpSession]:
    """Take over streams of readers that have died a moment ago."""
    StreamReader.objects.filter(pk__in=died).update(alive_until=timezone.now() - ALIVE)
    return _adopt(reader, attended)


def _adopt(reader: UUID, attended: Collection[UUID]) -> list[McpSession]:
    """Take over streams whose reader has died: its beats are over, and Redis does not see it."""
    now = timezone.now()
    over = StreamReader.objects.filter(alive_until__lt=now)
    dead = list(over.exclude(pk__in=attended, alive_until__gte=now - LATE).values_list("pk", flat=True))
    if not dead:
        return []
    orphans = McpSession.objects.live().valid().filter(holder__in=dead, opened_at__isnull=False)
    with transaction.atomic():
        # What another process takes at this moment is passed over: all of them are here at once.
        adopted = list(orphans.select_for_update(skip_locked=True, of=("self",), no_key=True)[:_ADOPTED_AT_ONCE])
        if adopted:
            say_alive(reader, timezone.now())
            McpSession.objects.filter(pk__in=[row.pk for row in adopted]).update(holder=reader)
    for row in adopted:
        row.holder = reader
    if not adopted and not McpSession.objects.live().filter(holder__in=dead).exists():
        StreamReader.objects.filter(pk__in=dead, alive_until__lt=timezone.now() - ALIVE).delete()
    return adopted
