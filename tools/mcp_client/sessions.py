"""The handshake era (2025-11-25 and before): sessions opened once, kept, shared, and opened again when they expire."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpcore2
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION

from connections import egress
from connections.errors import DuvoError
from tools.mcp_client import wire
from tools.mcp_client.cookies import Cookies
from tools.mcp_client.errors import (
    BadAnswer,
    Challenged,
    EraChanged,
    RpcError,
    ServerFailed,
    TimedOut,
    UnsupportedVersion,
)
from tools.mcp_client.posting import in_background, post
from tools.mcp_client.responses import Clock, Listener, Reply
from tools.mcp_client.server_requests import COURTESY_TIMEOUT, Replies, ServerRequests, post_unreliably
from tools.mcp_client.server_stream import ServerStream
from tools.mcp_client.shapes import Ask, OnProgress, Server, ServerFacts

MAX_SESSIONS: Final = 2000
_BAD_REQUEST: Final = 400
_GONE: Final = 404
_SERVER_ERROR: Final = 500
_NOT_OF_SESSIONS: Final = frozenset({408, 409, 413, 422, 499})  # about the request itself, which may have run
_SESSION_FAULTS: Final = frozenset({-32000, -32001, -32600})


# What a handshake offers: first all that we can, then only what every server knows.
_Offer = tuple[str, Mapping[str, Any]]
_OFFERS: Final[tuple[_Offer, ...]] = (
    (LATEST_HANDSHAKE_VERSION, wire.CAPABILITIES),
    (LATEST_HANDSHAKE_VERSION, {}),
    ("2025-06-18", {}),
)
_NOT_UNDERSTOOD: Final = frozenset({INVALID_REQUEST, INVALID_PARAMS, INTERNAL_ERROR})
_worked: dict[str, _Offer] = {}  # by the server's key, where it was not the first


@dataclass(frozen=True, slots=True)
class Session:
    """An open session; stateless servers give it no id, and then it has no stream of its own."""

    server: Server
    id: str | None
    facts: ServerFacts
    replies: Replies
    stream: ServerStream | None
    cookies: Cookies | None = field(default=None, repr=False)


# A connection pool and its sessions belong to one event loop; both end with it.
_registries: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[Session]]] = WeakKeyDictionary()


async def open_for(server: Server) -> Session:
    """Return the live session of the server's owner, opening it once however many callers wait.

    Owners of a server that keeps no sessions share one handshake. Raises `EraChanged` when the server refuses the
    handshake, and every error of a POST.
    """
    registry, name = _registry(), _name(server)
    shared = _opened(registry.get(server.key))
    if shared is not None and shared.id is None:
        return shared
    opening = registry.pop(name, None)
    if opening is None:
        opening = asyncio.get_running_loop().create_task(_open(server))
        opening.add_done_callback(partial(_settle, registry, server))
        if len(registry) >= MAX_SESSIONS:
            _end_an_idle_one(registry)
    registry[name] = opening
    # Shielded: a caller that goes away must not cancel the handshake for others who wait for it.
    return await asyncio.shield(opening)


async def ask(
    server: Server,
    method: str,
    params: Mapping[str, Any],
    meta: Mapping[str, Any],
    progress: OnProgress | None = None,
    deadline: float | None = None,
    person: Ask | None = None,
) -> Reply:
    """Send a request in the session of `server`; one that the server no longer knows is opened again once.

    Servers say that by 404, 400, 401 or 403: of such a request nothing was run. `person` gets the server's questions
    meanwhile, from the stream of this request or of the session.
    """
    for again in (True, False):
        kept = _opened(_registry().get(_name(server)))
        session = await _open_until(server, deadline)
        request = wire.legacy_request(
            method, params, session.facts.protocol_version, session.id, meta=meta, cookies=session.cookies
        )
        session.replies.server = server  # its token may be newer than the session
        stream = session.stream if method == "tools/call" else None
        if stream is not None:
            await stream.ready()
        requests = ServerRequests(person, session.replies)
        clock = Clock(server, deadline)
        try:
            with stream.deliver_to(requests, clock) if stream is not None else nullcontext():
                reply = await post(server, request, listener=Listener(progress, requests.handle), clock=clock)
        except (asyncio.CancelledError, TimedOut) as abandoned:
            if not isinstance(abandoned, TimedOut) or abandoned.kind != "connect":
                in_background(_tell_cancelled(server, session, request))
            raise
        except Challenged as refusal:
            if not again or session is not kept or session.id is None or _lacks_scope(refusal):
                raise
            await _replace(server, session)
            continue
        finally:
            await requests.close()
        if not again or session.id is None or not _may_be_lost(reply, is_new=session is not kept):
            break
        forget(session)
    if reply.result is None and (reply.fault is None or not reply.fault.ours):
        forget(session)
    return reply


def _may_be_lost(reply: Reply, *, is_new: bool) -> bool:
    """Whether a refusal may mean that the session is lost; False where the tool may have run."""
    if reply.status == _GONE:
        return True
    if is_new or not _BAD_REQUEST <= reply.status < _SERVER_ERROR or reply.status in _NOT_OF_SESSIONS:
        return False
    fault = reply.fault
    return fault is None or not fault.ours or (fault.code in _SESSION_FAULTS and "session" in fault.message.lower())


async def _replace(server: Server, session: Session) -> None:
    """Open another session with the same credential; if the server refuses that, the session is kept.

    The credential is refused then, and once it is renewed the session goes on with what the server remembers.
    """
    opening = asyncio.get_running_loop().create_task(_open(server))
    opened = await asyncio.shield(opening)
    forget(session)
    if opened.id is not None:
        _registry().setdefault(_name(server), opening)


def _lacks_scope(refusal: Challenged) -> bool:
    return "insufficient_scope" in (refusal.www_authenticate or "")


async def _open_until(server: Server, deadline: float | None) -> Session:
    timer = asyncio.timeout_at(deadline)
    try:
        async with timer:
            return await open_for(server)
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise TimedOut("absolute") from error


def forget(session: Session) -> None:
    """Stop using a session; one that has replaced it is kept."""
    if session.stream is not None:
        session.stream.retire()
    registry = _registry()
    for name in {session.server.key, _name(session.server)}:
        if _opened(registry.get(name)) is session:
            del registry[name]


async def close(server: Server) -> None:
    """Forget the session of the server's owner in this event loop, and delete it at the server (2025-11-25)."""
    opening = _registry().pop(_name(server), None)
    if opening is not None:
        await _end(opening)


async def _end(opening: asyncio.Task[Session]) -> None:
    try:
        session = await asyncio.shield(opening)
        if session.stream is not None:
            session.stream.end()
            await _delete(session)
    except (DuvoError, TimeoutError, OSError, httpcore2.ProtocolError, httpcore2.NetworkError):
        return  # a server that is gone keeps no session


def facts_from(result: Mapping[str, Any], info: Any, version: str, era: Any) -> ServerFacts:
    """Read what a server says about itself; none of it is verified."""
    about = info if isinstance(info, dict) else {}
    capabilities = result.get("capabilities")
    return ServerFacts(
        era=era,
        protocol_version=version,
        name=_text(about.get("name"), 200),
        version=_text(about.get("version"), 100),
        title=_text(about.get("title"), 200),
        instructions=_text(result.get("instructions"), 20_000),
        capabilities=capabilities if isinstance(capabilities, dict) else {},
    )


async def _open(server: Server) -> Session:
    cookies = None if _has_cookie(server) else Cookies(server.url)
    reply = await _shake_hands(server, cookies)
    assert reply.result is not None  # noqa: S101 - else it has raised
    version = reply.result.get("protocolVersion")
    if not isinstance(version, str):
        raise BadAnswer("The server's handshake names no version.")
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise UnsupportedVersion
    facts = facts_from(reply.result, reply.result.get("serverInfo"), version, "legacy")
    if reply.session_id is None:  # every owner shares this handshake, and nobody gets another's cookies
        cookies = None
    await post(server, wire.notification("notifications/initialized", {}, version, reply.session_id, cookies))
    replies = Replies(server, version, reply.session_id, cookies)
    stream = None if reply.session_id is None else ServerStream(replies, version, reply.session_id)
    return Session(server, reply.session_id, facts, replies, stream, cookies)


async def _shake_hands(server: Server, cookies: Cookies | None) -> Reply:
    """Return the reply to `initialize`, in simpler words where the server does not understand ours.

    Java's SDK before 0.17.1 knows no `elicitation.form`; some servers refuse a version that they do not know instead of
    naming their own. What worked is offered first the next time.
    """
    first: DuvoError | None = None
    offers = list(_OFFERS)
    if (worked := _worked.get(server.key)) is not None:
        offers.remove(worked)
        offers.insert(0, worked)
    for offer in offers:
        version, capabilities = offer
        params = {"protocolVersion": version, "capabilities": dict(capabilities), "clientInfo": wire.CLIENT_INFO}
        try:
            request = wire.legacy_request("initialize", params, None, None, meta={}, cookies=cookies)
            reply = _answered(await post(server, request))
        except (RpcError, ServerFailed) as error:
            if isinstance(error, RpcError) and error.rpc_code not in _NOT_UNDERSTOOD:
                raise first or error from None
            if isinstance(error, ServerFailed) and error.status != _SERVER_ERROR:
                raise first or error from None
            first = first or error
        else:
            _remember(server, offer)
            return reply
    assert first is not None  # noqa: S101 - each offer was answered or refused
    raise first


def _answered(reply: Reply) -> Reply:
    """Return the reply to a handshake if it is a result; raises RpcError, and EraChanged for no answer at all."""
    fault = reply.fault
    if fault is not None and (
        fault.code in _NOT_UNDERSTOOD
        or (fault.ours and fault.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION))
    ):
        raise RpcError(fault.code, fault.message)
    if reply.result is None:
        raise EraChanged.by_refusal(reply.status, reply.said)
    return reply


def _remember(server: Server, offer: _Offer) -> None:
    if offer is _OFFERS[0]:
        _worked.pop(server.key, None)
        return
    if len(_worked) >= MAX_SESSIONS:
        _worked.pop(next(iter(_worked)))
    _worked[server.key] = offer


def _has_cookie(server: Server) -> bool:
    return any(name.lower() == "cookie" for name, _ in server.headers)


async def _tell_cancelled(server: Server, session: Session, request: wire.Request) -> None:
    params = {"requestId": request.id, "reason": "The caller no longer waits."}
    version = session.facts.protocol_version
    await post_unreliably(
        server, wire.notification("notifications/cancelled", params, version, session.id, session.cookies)
    )


async def _delete(session: Session) -> None:
    route = wire.route_to(session.server)
    headers = [*route.headers, *wire.session_headers(session.facts.protocol_version, session.id, session.cookies)]
    request = httpcore2.Request(b"DELETE", route.url, headers=headers, extensions=route.extensions)
    async with asyncio.timeout(COURTESY_TIMEOUT):
        response = await egress.pool().handle_async_request(request)
        await response.aclose()


def _registry() -> dict[str, asyncio.Task[Session]]:
    return _registries.setdefault(asyncio.get_running_loop(), {})


def _name(server: Server) -> str:
    return f"{server.key}#{server.owner}" if server.owner else server.key


def _opened(opening: asyncio.Task[Session] | None) -> Session | None:
    if opening is None or not opening.done() or opening.cancelled() or opening.exception() is not None:
        return None
    return opening.result()


def _end_an_idle_one(registry: dict[str, asyncio.Task[Session]]) -> None:
    """End the session that was not used for the longest time, unless all are in use."""
    for name, opening in registry.items():
        session = _opened(opening)
        if session is not None and not (session.stream is not None and session.stream.in_use):
            del registry[name]
            in_background(_end(opening))
            return


def _settle(registry: dict[str, asyncio.Task[Session]], server: Server, opening: asyncio.Task[Session]) -> None:
    """Forget a handshake that failed; one without a session serves every owner."""
    session, name = _opened(opening), _name(server)
    if session is not None and session.id is not None:
        return
    if registry.get(name) is opening:
        del registry[name]
    if session is not None:
        registry[server.key] = opening


def _text(value: Any, limit: int) -> str:
    # PostgreSQL stores no NUL.
    return value[:limit].replace("\0", "\ufffd") if isinstance(value, str) else ""
