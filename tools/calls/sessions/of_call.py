"""The session of one call, as the MCP client asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import Error as DatabaseFailed
from django.db.models import Q
from django.utils import timezone

from connections import deleting
from connections.threads import in_thread
from tools.calls import watching
from tools.calls.sessions import keeping
from tools.calls.sessions.elsewhere import under_way
from tools.calls.sessions.keeping import Joined, to_keep
from tools.calls.sessions.opening import Owner, lookups, openings
from tools.errors import SessionLost, SessionUnavailable, ToolNotFound
from tools.mcp_client import Server
from tools.mcp_client import sessions as in_process
from tools.mcp_client.clock import Clock
from tools.mcp_client.handshake import Session
from tools.mcp_client.server_requests import ServerRequests
from tools.models import McpSession
from tools.models.sessions import SessionEnd

# Seconds after which a call looks again whether its turn has come, for what nobody tells: a process has died.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 5.0


@dataclass(slots=True)
class CallSession:
    """The session of one call, as `mcp_client.sessions.Sessions` wants it.

    `idle` is how long it lives unused. With `one_at_a_time` a call waits until the earlier ones of its session have
    ended. Afterwards `restarted` says whether what the server remembered before is gone, and `told` are the ended
    sessions that the program gets to know of by the call's outcome.
    """

    call_id: UUID
    tenant_id: UUID
    connection_id: UUID
    assignment_id: UUID
    name: str
    idle: timedelta
    one_at_a_time: bool
    alive: watching.Running | None
    asked: Callable[[], None] = field(default=lambda: None)  # called when a person is asked through another process
    restarted: bool = False
    told: set[UUID] = field(default_factory=set)
    joined: Joined | None = None
    fresh: Session | None = None  # the one that was opened for this call
    waits: bool = False  # for its turn

    async def current(self, server: Server) -> tuple[Session, bool]:
        """Return the session and whether it was opened just now.

        Raises what a handshake raises, TooManySessions, SessionUnavailable, and ToolNotFound when the assignment or the
        connection was deleted at this moment.
        """
        if (shared := in_process.stateless(server)) is not None:
            return shared, False
        try:
            while True:
                session, is_new = await self._current(server)
                if session.id is None or self.joined is None:
                    return session, is_new
                if await keeping.here().use(self.joined):
                    await self._look_back(self.joined)
                    return session, is_new
        except DatabaseFailed as failure:
            raise ToolNotFound if deleting.is_gone(failure) else SessionUnavailable from failure

    async def _current(self, server: Server) -> tuple[Session, bool]:
        owner = Owner(self.tenant_id, self.assignment_id, self.connection_id, self.name, server.key)
        here = keeping.here()
        row, is_new = await lookups.get(owner), False
        if row is None or (known := here.joined.get(row)) is None:
            joined, is_new = await openings().once(owner, server, self.idle)
            if isinstance(joined, Session):
                return joined, True
            known = joined
            self.fresh = joined.session if is_new else None
        if server.headers != known.headers:
            known.headers = server.headers
            await in_thread(_store_headers, known, server, of=self.tenant_id)
        self.joined = known
        if self.one_at_a_time:
            await self._wait_for_turn(known)
        return known.session, is_new

    async def _look_back(self, joined: Joined) -> None:
        """See whether an earlier session is gone, and no outcome of a call has told the program so yet."""
        if joined.untold:
            ended = await in_thread(_untold, joined.id, of=self.tenant_id)
            joined.untold = bool(ended)
            self.restarted = self.restarted or joined.untold
            self.told.update(ended)

    async def forgotten(self, server: Server, session: Session, *, gone: bool, settled: bool = False) -> None:
        """End the session's row; raises SessionLost for a named one. Unless it is `gone` its server is told.

        If the call is `settled`, the next one tells the program instead.
        """
        if self.joined is None:
            return
        fresh = session is self.fresh  # there was nothing to remember
        try:
            await in_thread(_forget, self.joined.id, gone, fresh, of=self.tenant_id)
        except DatabaseFailed as failure:
            raise SessionUnavailable from failure
        keeping.here().leave(self.joined.id)
        if fresh or settled:
            return
        if self.name:
            self.told.add(self.joined.id)
            raise SessionLost
        self.restarted = True

    async def discard(self, session: Session) -> None:
        """Forget the handshake of a server without sessions; a session is kept, whatever one call met."""
        if session.id is None:
            in_process.forget(session)

    @contextmanager
    def under_way(self, session: Session, requests: ServerRequests, clock: Clock) -> Iterator[None]:
        """Count the call as one of the session, and stop its clock while another process asks a person for it."""
        joined = self.joined
        assert joined is not None and session.stream is not None  # noqa: S101, PT018 - a session with an id was joined
        if joined.sent:  # who has waited beside the opener is not the first
            self.fresh = None
        joined.sent = True
        joined.calls.add(self.call_id)
        joined.begun += 1
        if self.alive is not None:
            self.alive.pause = _Pause(clock, self.asked)
        try:
            with session.stream.deliver_to(requests, clock):
                yield
        finally:
            if self.alive is not None:
                self.alive.pause = None
            joined.calls.discard(self.call_id)

    async def _wait_for_turn(self, joined: Joined) -> None:
        self.waits = True
        pause = _FIRST_PAUSE
        while (ahead := await in_thread(_take_turn, joined.id, self.call_id, of=self.tenant_id)) is not None:
            self.fresh = None
            await watching.until(ahead, lambda seen: seen.finished, pause)  # its end is told at once
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        self.waits = False


class _Pause:
    """Stops the clock of a call while its row says that a person is asked."""

    def __init__(self, clock: Clock, asked: Callable[[], None]) -> None:
        self._clock = clock
        self._asked = asked
        self._stopped = False

    def __call__(self, asks: bool) -> None:
        if asks == self._stopped:
            return
        self._stopped = asks
        if asks:
            self._clock.stop()
            self._asked()
        else:
            self._clock.resume()


def _forget(session_id: UUID, gone: bool, fresh: bool) -> None:
    """End a session that its server has forgotten; of a fresh one the program has nothing to know."""
    row = McpSession.objects.filter(pk=session_id)
    row.end(SessionEnd.FORGOTTEN, timezone.now(), told=not gone)
    if fresh:
        row.update(program_knows=True)


def _untold(session_id: UUID) -> list[UUID]:
    row = McpSession.objects.filter(pk=session_id).first()
    return list(row.earlier_untold().values_list("pk", flat=True)) if row is not None else []


def _store_headers(joined: Joined, server: Server) -> None:
    """Keep the credential that is in use now: the session is ended with it when the sign-in is gone."""
    row = McpSession.objects.live().filter(pk=joined.id).first()
    if row is not None and joined.session.kept is not None:
        sealed = row.seal(to_keep(server, joined.session.kept))
        McpSession.objects.live().filter(pk=row.pk).update(sealed_session=sealed)


def _take_turn(session_id: UUID, call_id: UUID) -> UUID | None:
    """Make it this call's turn in its session and return None, or return a call that comes before."""
    session = McpSession.objects.live().filter(pk=session_id).first()
    if session is None or session.current_call == call_id:
        return None
    in_hand = under_way(session).filter(lease_until__gte=timezone.now())  # not those of processes that have died
    if (ahead := in_hand.filter(pk__lt=call_id).order_by("-pk").values_list("pk", flat=True).first()) is not None:
        return ahead
    if session.current_call is not None and in_hand.filter(pk=session.current_call).exists():
        return session.current_call
    same = Q(current_call=None) if session.current_call is None else Q(current_call=session.current_call)
    if McpSession.objects.live().filter(same, pk=session_id).update(current_call=call_id):
        return None
    return McpSession.objects.filter(pk=session_id).values_list("current_call", flat=True).first()
