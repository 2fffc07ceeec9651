"""The handshake of a session (2025-11-25 and before), and the session that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION

from connections.errors import DuvoError
from tools.mcp_client import wire
from tools.mcp_client.cookies import Cookies
from tools.mcp_client.errors import BadAnswer, EraChanged, RpcError, ServerFailed, UnsupportedVersion
from tools.mcp_client.posting import post
from tools.mcp_client.responses import Reply
from tools.mcp_client.server_requests import Replies
from tools.mcp_client.server_stream import ServerStream
from tools.mcp_client.shapes import KeptSession, Server, ServerFacts

_MOST_REMEMBERED: Final = 2000
_SERVER_ERROR: Final = 500

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

    @classmethod
    def joined(cls, server: Server, kept: KeptSession) -> Session:
        """Return a session that another process has opened."""
        cookies = None if _has_cookie(server) else Cookies(server.url, kept.cookies)
        replies = Replies(server, kept.protocol_version, kept.id, cookies)
        facts = ServerFacts("legacy", kept.protocol_version)
        stream = ServerStream(replies, kept.protocol_version, kept.id)
        return cls(server, kept.id, facts, replies, stream, cookies)

    @property
    def kept(self) -> KeptSession | None:
        """What another process needs to join it: secrets. None of a server that keeps no sessions."""
        if self.id is None:
            return None
        cookies = self.cookies.kept if self.cookies is not None else {}
        return KeptSession(self.id, self.facts.protocol_version, cookies)


async def open_session(server: Server) -> Session:
    """Shake hands and return the session; raises `EraChanged` when that is refused, and every error of a POST."""
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
    if len(_worked) >= _MOST_REMEMBERED:
        _worked.pop(next(iter(_worked)))
    _worked[server.key] = offer


def _has_cookie(server: Server) -> bool:
    return any(name.lower() == "cookie" for name, _ in server.headers)


def _text(value: Any, limit: int) -> str:
    # PostgreSQL stores no NUL.
    return value[:limit].replace("\0", "\ufffd") if isinstance(value, str) else ""
