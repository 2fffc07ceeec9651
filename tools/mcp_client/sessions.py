"""Requests of the handshake era (2025-11-25 and before): each travels in a session, which is opened when needed.

A caller says where sessions are kept (`Sessions`). Without that they are kept in this process, one for each owner.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from mcp_types import METHOD_NOT_FOUND, URL_ELICITATION_REQUIRED

from connections import egress
from connections.errors import DuvoError
from tools.mcp_client import wire
from tools.mcp_client.clock import Clock
from tools.mcp_client.errors import (
    BadAnswer,
    Challenged,
    McpError,
    NotStreamableHttp,
    Redirected,
    ServerFailed,
    TimedOut,
)
from tools.mcp_client.handshake import WANTED, Session, open_session
from tools.mcp_client.posting import in_background, post
from tools.mcp_client.responses import Listener, Reply
from tools.mcp_client.server_requests import COURTESY_TIMEOUT, ServerRequests, post_unreliably
from tools.mcp_client.shapes import Ask, KeptSession, OnProgress, Server

Value = TypeVar("Value")
MAX_SESSIONS: Final = 2000
_BAD_REQUEST: Final = 400
_GONE: Final = 404
_SERVER_ERROR: Final = 500
_NOT_OF_SESSIONS: Final = frozenset({408, 409, 413, 422, 499})  # about the request itself, which may have run
_OF_THE_SERVER: Final = range(-32099, -31999)  # codes that each server means in its own way (JSON-RPC, section 5.1)
# What may be said of a session in other words, or in none: a crash, a page, a way to a login.
_ODD: Final = (BadAnswer, NotStreamableHttp, Redirected)
_OF_A_SESSION: Final = re.compile(
    r"session|sesi[oó]n|sess[aã]o|sessie|sitzung|oturum|сесси|сеанс|会话|會話|セッション|세션|"
    r"\b(?:no|unknown|missing|invalid) transport|transport (?:was )?not found",
    re.IGNORECASE,
)


class Sessions(Protocol):
    """Where the sessions of one owner are kept; what it raises ends the request, of which nothing has run."""

    async def current(self, server: Server) -> tuple[Session, bool]:
        """Return the session to use, and whether it was opened just now, for this request."""
        ...

    async def forgotten(self, server: Server, session: Session, *, gone: bool, settled: bool = False) -> None:
        """Use a session no more that the server does not know; one that is not surely `gone` is ended there.

        A request that is `settled` has its outcome, and the next one tells of the loss.
        """
        ...

    async def discard(self, session: Session) -> None:
        """Use a handshake no more after an answer that a server of its era would not give."""
        ...

    def under_way(self, session: Session, requests: ServerRequests, clock: Clock) -> AbstractContextManager[None]:
        """Return a context in which a call is under way, and gets what the server asks on the session's stream."""
        ...


# A connection pool and its sessions belong to one event loop; both end with it.
_registries: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[Session]]] = WeakKeyDictionary()


class _ProcessSessions:
    """The sessions of this process, one for each owner; the one not used for longest is ended when there are many."""

    async def current(self, server: Server) -> tuple[Session, bool]:
        kept = _opened(_registry().get(_name(server)))
        session = await open_for(server)
        return session, session is not kept

    async def forgotten(self, server: Server, session: Session, *, gone: bool, settled: bool = False) -> None:
        forget(session)
        if not gone and session.kept is not None:
            in_background(_end_quietly(server, session.kept))

    async def discard(self, session: Session) -> None:
        await self.forgotten(session.server, session, gone=False)

    def under_way(self, session: Session, requests: ServerRequests, clock: Clock) -> AbstractContextManager[None]:
        return nullcontext() if session.stream is None else session.stream.deliver_to(requests, clock)


IN_THIS_PROCESS: Final = _ProcessSessions()


async def ask(
    server: Server,
    method: str,
    params: Mapping[str, Any],
    meta: Mapping[str, Any],
    progress: OnProgress | None = None,
    deadline: float | None = None,
    person: Ask | None = None,
    sessions: Sessions = IN_THIS_PROCESS,
) -> Reply:
    """Send a request in the current session of `sessions`; one that the server no longer knows is replaced once.

    Servers say that by 404, 400, 401 or 403, or in words with any other status: of such a request nothing was run. All
    but 404 may be about this request or the credential only, so the server is asked first. Where a lost session shows
    as a crash or a page only, the request may have run, and the next one gets the new session. `person` gets the
    server's questions meanwhile, from the stream of this request or of the session.
    """
    for again in (True, False):
        session, is_new = await _until(deadline, sessions.current(server))
        version = session.facts.protocol_version
        request = wire.legacy_request(method, params, version, session.id, meta=meta, cookies=session.cookies)
        session.replies.server = server  # its token may be newer than the session
        is_call = session.stream is not None and method == "tools/call"
        if is_call and session.stream is not None:
            await session.stream.ready()
        requests = ServerRequests(person, session.replies)
        clock = Clock(server, deadline)
        try:
            with sessions.under_way(session, requests, clock) if is_call else nullcontext():
                reply = await post(server, request, listener=Listener(progress, requests.handle), clock=clock)
        except (asyncio.CancelledError, TimedOut) as abandoned:
            if not isinstance(abandoned, TimedOut) or abandoned.kind != "connect":
                in_background(_tell_cancelled(server, session, request))
            raise
        except (Challenged, ServerFailed, *_ODD) as refusal:
            first = again and not is_new
            if not await _is_to_be_made_again(server, session, sessions, deadline, refusal, first=first):
                raise
            continue
        finally:
            await requests.close()
        if not (again and await _has_met_a_lost_one(server, session, sessions, deadline, reply, is_new=is_new)):
            break
    if reply.result is None and (reply.fault is None or not reply.fault.ours):
        await sessions.discard(session)
    return reply


async def open_for(server: Server) -> Session:
    """Return this process's session of the server's owner, opening it once however many callers wait.

    Owners of a server that keeps no sessions share one handshake. Raises what `open_session` raises.
    """
    if (shared := stateless(server)) is not None:
        return shared
    registry, name = _registry(), _name(server)
    opening = registry.pop(name, None)
    if opening is None:
        opening = asyncio.get_running_loop().create_task(open_session(server))
        opening.add_done_callback(partial(_settle, registry, server))
        _make_room(registry)
    registry[name] = opening
    # Shielded: a caller that goes away must not cancel the handshake for others who wait for it.
    return await asyncio.shield(opening)


def stateless(server: Server) -> Session | None:
    """Return the handshake that all owners share, of a server that is known to keep no sessions."""
    shared = _opened(_registry().get(server.key))
    return shared if shared is not None and shared.id is None else None


def share(session: Session) -> None:
    """Let all owners use the handshake of a server that keeps no sessions."""
    settled: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    settled.set_result(session)
    registry = _registry()
    if registry.pop(session.server.key, None) is None:
        _make_room(registry)
    registry[session.server.key] = settled


def forget(session: Session) -> None:
    """Stop using a session; one that has replaced it is kept."""
    if session.stream is not None:
        session.stream.retire()
    registry = _registry()
    for name in {session.server.key, _name(session.server)}:
        if _opened(registry.get(name)) is session:
            del registry[name]


async def close(server: Server) -> None:
    """Forget this process's session of the server's owner, and delete it at the server (2025-11-25)."""
    if stateless(server) is None and (opening := _registry().pop(_name(server), None)) is not None:
        await _end(opening)


async def end(server: Server, kept: KeptSession) -> bool:
    """Tell a server that a session is over (DELETE); return whether the server has answered, whatever it said."""
    route = wire.route_to(server)
    cookies = Session.joined(server, kept).cookies
    headers = [*route.headers, *wire.session_headers(kept.protocol_version, kept.id, cookies)]
    request = egress.Request(b"DELETE", route.url, headers, extensions=route.extensions)
    try:
        async with asyncio.timeout(COURTESY_TIMEOUT):
            response = await egress.pool().handle_async_request(request)
            await response.aclose()
    except (DuvoError, OSError):
        return False
    return True


async def _end(opening: asyncio.Future[Session]) -> None:
    try:
        session = await asyncio.shield(opening)
    except DuvoError:
        return  # a server that was not reached keeps no session
    if session.stream is not None and session.kept is not None:
        session.stream.end()
        await end(session.server, session.kept)


def _may_be_lost(reply: Reply, *, is_new: bool) -> bool:
    """Whether a refusal may mean that the session is lost; False where the tool may have run."""
    if reply.status == _GONE:
        return True
    if is_new or reply.result is not None:
        return False
    if _says_lost(reply.said):
        return True
    fault = reply.fault
    about_it = not _BAD_REQUEST <= reply.status < _SERVER_ERROR or reply.status in _NOT_OF_SESSIONS
    return not about_it and (fault is None or not fault.ours)


def _may_be_about_it(refusal: McpError) -> bool:
    """Whether a 401, 403 or 5xx may be about the session; a 5xx says so, and comes from the server itself."""
    if isinstance(refusal, Challenged):
        return not _lacks_scope(refusal)
    of_a_proxy = isinstance(refusal, ServerFailed) and ServerFailed(refusal.status, sent=True).outcome_unknown
    return not of_a_proxy and _says_lost(refusal.said)


def _may_be_for_it(refusal: McpError) -> bool:
    """Whether a server may have answered in this way for want of the session, without a word about it."""
    return isinstance(refusal, _ODD) or (isinstance(refusal, ServerFailed) and refusal.status == _SERVER_ERROR)


def _may_mean_it(reply: Reply, *, is_new: bool) -> bool:
    """Whether an error has a code that may mean the session, and no words about it."""
    fault = reply.fault
    if is_new or fault is None:
        return False
    return fault.ours and fault.code in _OF_THE_SERVER and fault.code != URL_ELICITATION_REQUIRED


def _says_lost(words: str) -> bool:
    return _OF_A_SESSION.search(words) is not None or WANTED.search(words) is not None


async def _is_to_be_made_again(
    server: Server, session: Session, sessions: Sessions, deadline: float | None, refusal: McpError, *, first: bool
) -> bool:
    """Whether a refused request has met a lost session, and nothing of it was run; the session is let go then."""
    if not first or session.id is None:
        return False
    if _may_be_about_it(refusal):
        lost = await _until(deadline, _is_lost(server, session))
        if lost:
            await sessions.forgotten(server, session, gone=False)
        return lost
    if _may_be_for_it(refusal):
        await _let_go_if_lost(server, session, sessions, deadline)
    return False


async def _has_met_a_lost_one(
    server: Server, session: Session, sessions: Sessions, deadline: float | None, reply: Reply, *, is_new: bool
) -> bool:
    """Whether a request was answered in a lost session, and nothing of it was run; the session is let go then."""
    if session.id is None:
        return False
    if not _may_be_lost(reply, is_new=is_new):
        if _may_mean_it(reply, is_new=is_new):
            await _let_go_if_lost(server, session, sessions, deadline)
        return False
    gone = reply.status == _GONE
    lost = gone or await _until(deadline, _is_lost(server, session))
    if lost:
        await sessions.forgotten(server, session, gone=gone)
    return lost


async def _let_go_if_lost(server: Server, session: Session, sessions: Sessions, deadline: float | None) -> None:
    """Let the next request have a new session if this one is lost; this one has its outcome, whatever is found out."""
    with suppress(DuvoError):
        if await _until(deadline, _is_lost(server, session)):
            await sessions.forgotten(server, session, gone=False, settled=True)


async def _is_lost(server: Server, session: Session) -> bool:
    """Whether the server takes the credential in a new session, and not in this one.

    Raises what the server says about the new one: once the credential is renewed, the old session goes on.
    """
    # Shielded: a caller that goes away must not leave a session behind that nobody ends.
    return await asyncio.shield(asyncio.get_running_loop().create_task(_compare(server, session)))


async def _compare(server: Server, session: Session) -> bool:
    if not await _is_refused(server, session):
        return False
    new = await open_session(server)
    try:
        return new.id is None or not await _is_refused(server, new)
    finally:
        if new.kept is not None:
            in_background(_end_quietly(server, new.kept))


async def _is_refused(server: Server, session: Session) -> bool:
    """Whether the server refuses even `ping` in a session; False when that remains open."""
    ping = wire.legacy_request("ping", {}, session.facts.protocol_version, session.id, meta={}, cookies=session.cookies)
    try:
        reply = await post(server, ping, deadline=asyncio.get_running_loop().time() + COURTESY_TIMEOUT)
    except (Challenged, *_ODD):
        return True
    except ServerFailed as failure:
        return _may_be_about_it(failure) or _may_be_for_it(failure)
    except DuvoError:
        return False
    fault = reply.fault
    return reply.result is None and not (fault is not None and fault.ours and fault.code == METHOD_NOT_FOUND)


async def _end_quietly(server: Server, kept: KeptSession) -> None:
    await end(server, kept)


def _lacks_scope(refusal: Challenged) -> bool:
    return "insufficient_scope" in (refusal.www_authenticate or "")


async def _until(deadline: float | None, work: Awaitable[Value]) -> Value:
    timer = asyncio.timeout_at(deadline)
    try:
        async with timer:
            return await work
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise TimedOut("absolute") from error


async def _tell_cancelled(server: Server, session: Session, request: wire.Request) -> None:
    params = {"requestId": request.id, "reason": "The caller no longer waits."}
    version = session.facts.protocol_version
    await post_unreliably(
        server, wire.notification("notifications/cancelled", params, version, session.id, session.cookies)
    )


def _registry() -> dict[str, asyncio.Future[Session]]:
    return _registries.setdefault(asyncio.get_running_loop(), {})


def _name(server: Server) -> str:
    return f"{server.key}#{server.owner}" if server.owner else server.key


def _opened(opening: asyncio.Future[Session] | None) -> Session | None:
    if opening is None or not opening.done() or opening.cancelled() or opening.exception() is not None:
        return None
    return opening.result()


def _make_room(registry: dict[str, asyncio.Future[Session]]) -> None:
    """End the session that was not used for the longest time when there are too many, unless all are in use."""
    if len(registry) < MAX_SESSIONS:
        return
    for name, opening in registry.items():
        session = _opened(opening)
        if session is not None and not (session.stream is not None and session.stream.in_use):
            del registry[name]
            in_background(_end(opening))
            return


def _settle(registry: dict[str, asyncio.Future[Session]], server: Server, opening: asyncio.Future[Session]) -> None:
    """Forget a handshake that failed; one without a session serves every owner."""
    session, name = _opened(opening), _name(server)
    if session is not None and session.id is not None:
        return
    if registry.get(name) is opening:
        del registry[name]
    if session is not None:
        registry[server.key] = opening
