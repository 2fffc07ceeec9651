"""The handshake of a session (2025-11-25 and before), and the session that comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from connections.errors import DuvoError
from tools.mcp_client import wire
from tools.mcp_client.cookies import Cookies
from tools.mcp_client.errors import BadAnswer, EraChanged, RpcError, ServerFailed, UnsupportedVersion
from tools.mcp_client.posting import post
from tools.mcp_client.responses import Reply
from tools.mcp_client.server_requests import Replies
from tools.mcp_client.server_stream import ServerStream
from tools.mcp_client.shapes import KeptSession, Server, ServerFacts

# How a server says that a request came before the handshake, or after it has forgotten it.
WANTED: Final = re.compile(
    r"\bnot (?:yet |been |properly )*initiali[sz]ed|\buninitiali[sz]ed"
    r"|\b(?:before|without|until|requires?|await(?:ing)?|expect(?:s|ed|ing)?|must|call|send)"
    r" (?:\S+ ){0,3}?[`'\"]?initiali[sz]",
    re.IGNORECASE,
)
_MOST_REMEMBERED: Final = 2000
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_OF_THE_BODY: Final = frozenset({400, 422})
_ABOUT_A_MEMBER: Final = re.compile(
    r"\b(?:un(?:recogni[sz]ed|known|expected)|additional|extra|not permitted|elicitation|capabilit|deseriali[sz])",
    re.IGNORECASE,
)

# What a handshake offers: first all that we can, then only what every server knows.
_Offer = tuple[str, Mapping[str, Any]]
_OFFERS: Final[tuple[_Offer, ...]] = (
    (LATEST_HANDSHAKE_VERSION, wire.CAPABILITIES),
    (LATEST_HANDSHAKE_VERSION, {}),
    ("2025-06-18", {}),
)
_OLDER: Final[tuple[_Offer, ...]] = (("2025-03-26", {}), ("2024-11-05", {}))  # to a server that names none
_NOT_UNDERSTOOD: Final = frozenset({PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, INTERNAL_ERROR})
_ABOUT_VERSION: Final = re.compile(r"protocol[-_ ]?version", re.IGNORECASE)
_DATES: Final = re.compile(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b")
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
    version = version.strip()
    if version in MODERN_PROTOCOL_VERSIONS:
        raise UnsupportedVersion(f"The server answers a handshake with version {version}, which has none.")
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise UnsupportedVersion.of([version])
    facts = facts_from(reply.result.get("serverInfo"), version, "legacy")
    if reply.session_id is None:  # every owner shares this handshake, and nobody gets another's cookies
        cookies = None
    with suppress(ServerFailed, BadAnswer):  # what a server makes of a notice that nobody answers settles nothing
        await post(server, wire.notification("notifications/initialized", {}, version, reply.session_id, cookies))
    replies = Replies(server, version, reply.session_id, cookies)
    stream = None if reply.session_id is None else ServerStream(replies, version, reply.session_id)
    return Session(server, reply.session_id, facts, replies, stream, cookies)


def facts_from(info: Any, version: str, era: Any) -> ServerFacts:
    """Read what a server says about itself; none of it is verified."""
    about = info if isinstance(info, dict) else {}
    return ServerFacts(
        era=era,
        protocol_version=version,
        name=_text(about.get("name"), 200),
        version=_text(about.get("version"), 100),
        title=_text(about.get("title"), 200),
    )


async def _shake_hands(server: Server, cookies: Cookies | None) -> Reply:
    """Return the reply to `initialize`, in simpler words where the server does not understand ours.

    Java's SDK before 0.17.1 knows no `elicitation.form`; some servers refuse a version that they do not know instead of
    naming their own, or beside it. What worked is offered first the next time.
    """
    first: DuvoError | None = None
    offers, named, older = list(_OFFERS), False, _OLDER
    if (worked := _worked.get(server.key)) is not None:
        offers = [worked, *(offer for offer in offers if offer != worked)]
    while offers:
        offer = offers.pop(0)
        version, capabilities = offer
        params = {"protocolVersion": version, "capabilities": dict(capabilities), "clientInfo": wire.CLIENT_INFO}
        try:
            request = wire.legacy_request("initialize", params, None, None, meta={}, cookies=cookies)
            reply = _answered(await post(server, request), version)
        except _Refused as refusal:
            first = first or refusal.error
            if refusal.wants is not None and not named:
                named, offers = True, [(refusal.wants, wire.CAPABILITIES), (refusal.wants, {})]
            elif not refusal.may_accept_less:
                raise first from None
            elif refusal.about_version and not named:
                offers, older = [*offers, *older], ()
        except ServerFailed as error:
            first = first or error
            if error.status != _SERVER_ERROR:
                raise first from None
        else:
            _remember(server, offer)
            return reply
    assert first is not None  # noqa: S101 - each offer was answered or refused
    raise first


class _Refused(Exception):
    """A server refuses an offer; `wants` is the version that it names instead."""

    def __init__(self, error: DuvoError, wants: str | None, *, about_version: bool, about_a_member: bool) -> None:
        super().__init__()
        self.error = error
        self.wants = wants
        self.about_version = about_version
        self.may_accept_less = about_version or about_a_member


def _answered(reply: Reply, offered: str) -> Reply:
    """Return the reply to a handshake if it is a result; raises _Refused, with EraChanged for no answer at all."""
    if reply.result is not None:
        return reply
    fault = reply.fault
    words = f"{reply.said} {fault.message if fault is not None else ''}"
    about_version = _ABOUT_VERSION.search(words) is not None or _names_another(words, offered)
    about_version = about_version or (fault is not None and fault.code == UNSUPPORTED_PROTOCOL_VERSION)
    wants = _named_version(fault.data if fault is not None else None, words, offered, about_version=about_version)
    not_understood = (fault is not None and fault.code in _NOT_UNDERSTOOD) or _is_about_a_member(reply)
    error: DuvoError = EraChanged.by_refusal(reply.status, reply.said, fault.code if fault is not None else None)
    ours = fault is not None and fault.ours and fault.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION)
    if fault is not None and (ours or fault.code in _NOT_UNDERSTOOD):
        error = RpcError(fault.code, fault.message)
    raise _Refused(error, wants, about_version=about_version, about_a_member=not_understood)


def _is_about_a_member(reply: Reply) -> bool:
    """Tell whether a server or its framework says that it does not know something in the handshake, or says nothing."""
    if reply.fault is None and reply.status not in _OF_THE_BODY:
        return False
    silent = reply.fault is None and reply.status == _BAD_REQUEST and not reply.said
    return silent or _ABOUT_A_MEMBER.search(reply.said) is not None


def _names_another(words: str, offered: str) -> bool:
    return any(name in HANDSHAKE_PROTOCOL_VERSIONS and name != offered for name in _DATES.findall(words))


def _named_version(data: Any, words: str, offered: str, *, about_version: bool) -> str | None:
    """Return the newest version with a handshake that a refusal names, in its data or else in its words.

    Raises `UnsupportedVersion` where its data names versions of which none is known here.
    """
    listed = data.get("supported", data.get("supportedVersions")) if isinstance(data, dict) else None
    listed = _DATES.findall(listed) if isinstance(listed, str) else listed
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    if names and about_version and not {*names} & {*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS}:
        raise UnsupportedVersion.of(names)
    if not names and about_version:
        names = _DATES.findall(words)
    known = (version for version in reversed(HANDSHAKE_PROTOCOL_VERSIONS) if version in names)
    return next((version for version in known if version != offered), None)


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
