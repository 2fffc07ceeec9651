"""A session opened once over all processes, and found by each of them before each call."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import IntegrityError, transaction
from django.utils import timezone

from connections.models import Tenant
from connections.threads import in_thread
from tools.calls.sessions import keeping
from tools.calls.sessions.keeping import Joined, to_keep
from tools.errors import TooManySessions
from tools.gathering import Gatherer
from tools.mcp_client import Server, end_session
from tools.mcp_client import sessions as in_process
from tools.mcp_client.handshake import Session, open_session
from tools.mcp_client.posting import in_background
from tools.models import McpSession
from tools.models.sessions import SessionEnd

MOST: Final = 50  # live sessions of one assignment at one connection
_OPENS_WITHIN: Final = timedelta(seconds=15)  # after which whoever opens a session counts as dead
_LOOK_EVERY: Final = 0.15  # seconds; one look of a process for all that wait
_UNUSED: Final = timedelta(seconds=10)  # without a touch: no call is under way

_OWNER: Final = ("tenant_id", "assignment_id", "connection_id", "name", "server_key")  # as in `Owner`

Opened = tuple[Joined | Session, bool]  # is it new


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a session is, and at which server."""

    tenant_id: UUID
    assignment_id: UUID
    connection_id: UUID
    name: str
    server_key: str

    @property
    def revision(self) -> int:
        """The connection's revision that the session is for."""
        return int(self.server_key.partition("/")[2].partition("@")[0])

    @property
    def sign_in(self) -> UUID | None:
        """The sign-in that the session is for."""
        sign_in = self.server_key.partition("@")[2]
        return UUID(sign_in) if sign_in else None


async def _find_in_thread(owners: Collection[Owner]) -> dict[Owner, UUID]:
    return await in_thread(_find, owners)


# Each call of a session looks for its row; the calls of a process that come at once share a query.
lookups: Gatherer[Owner, UUID] = Gatherer(_find_in_thread, whose=attrgetter("tenant_id"))


def _find(owners: Collection[Owner]) -> dict[Owner, UUID]:
    rows = McpSession.objects.live().filter(
        assignment__in={owner.assignment_id for owner in owners},
        connection__in={owner.connection_id for owner in owners},
        opened_at__isnull=False,
    )
    return {Owner(*key): pk for *key, pk in rows.values_list(*_OWNER, "pk")}


async def _see_in_thread(owners: Collection[Owner]) -> dict[Owner, bool]:
    await asyncio.sleep(_LOOK_EVERY)  # meanwhile the others that wait gather
    return await in_thread(_see, owners)


def _see(owners: Collection[Owner]) -> dict[Owner, bool]:
    """Return for which of them some process is still opening the session."""
    rows = McpSession.objects.live().filter(
        assignment__in={owner.assignment_id for owner in owners},
        connection__in={owner.connection_id for owner in owners},
        opened_at=None,
        due_at__gte=timezone.now(),
    )
    return dict.fromkeys((Owner(*key) for key in rows.values_list(*_OWNER)), True)


# However many sessions a process waits for, it asks about them in turn, a few times a second.
_under_way_elsewhere: Gatherer[Owner, bool] = Gatherer(_see_in_thread, whose=attrgetter("tenant_id"))


class Openings:
    """Opens sessions: the calls of a process that want the same one share the handshake."""

    def __init__(self) -> None:
        self._under_way: dict[Owner, asyncio.Task[Opened]] = {}

    async def once(self, owner: Owner, server: Server, idle: timedelta) -> Opened:
        """Return the owner's session, joined, or opened by this process if no other one opens it."""
        opening = self._under_way.get(owner)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(_open(owner, server, idle))
            self._under_way[owner] = opening
            opening.add_done_callback(lambda _: self._under_way.pop(owner, None))
        # Shielded: a caller that goes away must not cancel the handshake for others who wait for it.
        return await asyncio.shield(opening)


async def _open(owner: Owner, server: Server, idle: timedelta) -> Opened:
    here, its = keeping.here(), owner.tenant_id
    while True:
        row, due_at = await in_thread(_claim, owner, of=its)
        if row.opened_at is not None:
            return here.join(row, server), False
        if due_at is None:
            while await _under_way_elsewhere.get(owner):
                pass
            continue
        try:
            session = await open_session(server)
        except BaseException:
            await in_thread(_give_up, row.pk, due_at, of=its)
            raise
        if session.kept is None:
            in_process.share(session)
            await in_thread(_give_up, row.pk, due_at, of=its)
            return session, True
        try:
            stored = await in_thread(_store, row, to_keep(server, session.kept), idle, here.id, of=its)
        except BaseException:  # nobody will find it
            in_background(end_quietly(server, session))
            raise
        if stored is not None:
            row, untold = stored
            joined = here.join(row, server, session)
            joined.untold = untold
            return joined, True
        in_background(end_quietly(server, session))  # it took so long that somebody else was quicker


def _claim(owner: Owner) -> tuple[McpSession, datetime | None]:
    """Return the owner's live row, and a moment if this process is to open the session before that."""
    now = timezone.now()
    due_at = now + _OPENS_WITHIN
    of_owner = {"assignment": owner.assignment_id, "connection": owner.connection_id, "name": owner.name}
    live = McpSession.objects.live().filter(**of_owner, server_key=owner.server_key)
    row = live.first()
    if row is None:
        try:
            with transaction.atomic():
                return _make_room_and_insert(owner, now, due_at), due_at
        except IntegrityError:  # another process was quicker
            row = live.first()
            if row is None:
                raise
    if row.opened_at is None and live.filter(pk=row.pk, opened_at=None, due_at__lt=now).update(due_at=due_at):
        return row, due_at  # whoever opened it has died
    return row, None


def _make_room_and_insert(owner: Owner, now: datetime, due_at: datetime) -> McpSession:
    tenant = Tenant.objects.select_for_update(no_key=True).get(pk=owner.tenant_id)
    live = McpSession.objects.live()
    mine = live.filter(assignment=owner.assignment_id, connection=owner.connection_id)
    full = mine.count() >= MOST
    if full or live.filter(tenant=tenant).count() >= tenant.max_sessions:
        unused = (mine if full else live.filter(assignment=owner.assignment_id)).filter(used_at__lt=now - _UNUSED)
        oldest = unused.without_task().order_by("used_at").values_list("pk", flat=True)
        while (pk := oldest.first()) is not None:
            if unused.filter(pk=pk).end(SessionEnd.CROWDED_OUT, now):  # not if a call has begun meanwhile
                break
        else:
            raise TooManySessions
    return McpSession.objects.create(
        tenant=tenant, assignment_id=owner.assignment_id, connection_id=owner.connection_id, name=owner.name,
        server_key=owner.server_key, revision=owner.revision, sign_in=owner.sign_in, due_at=due_at,
    )  # fmt: skip


def _give_up(session_id: UUID, due_at: datetime) -> None:
    McpSession.objects.live().filter(pk=session_id, opened_at=None, due_at=due_at).delete()


def _store(row: McpSession, kept: dict[str, object], idle: timedelta, reader: UUID) -> tuple[McpSession, bool] | None:
    """Write an opened session down; return its row, and whether it replaces one of whose end the program knows not.

    None when another process has opened it: of those that try, the first to be ready counts, not the last to begin.
    """
    now = timezone.now()
    opening = McpSession.objects.live().filter(pk=row.pk, opened_at=None)
    stored = opening.update(
        sealed_session=row.seal(kept), opened_at=now, used_at=now, idle_until=now + idle, due_at=None, holder=reader
    )
    if not stored:
        return None
    keeping.say_alive(reader, now)
    return McpSession.objects.get(pk=row.pk), row.earlier_untold().exists()


async def end_quietly(server: Server, session: Session) -> None:
    """End a session that was opened in vain."""
    if session.kept is not None:
        await end_session(server, session.kept)


_openings: WeakKeyDictionary[asyncio.AbstractEventLoop, Openings] = WeakKeyDictionary()


def openings() -> Openings:
    """Return those of the running loop."""
    return _openings.setdefault(asyncio.get_running_loop(), Openings())
