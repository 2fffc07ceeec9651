"""The decisions of a sign-in as plain functions: which client, which method, which scopes, when to renew."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models

from connections.models import Grant, TokenAuth
from oauth.errors import CannotSignIn
from oauth.protocol import providers
from oauth.protocol.metadata import ServerMetadata, valid_scopes
from oauth.protocol.steps import DiscoveryResult

# Servers made with the MCP SDK offer Basic too, but refuse it unless the body repeats the client ID.
SECRET_METHODS = (TokenAuth.POST, TokenAuth.BASIC)
_GUESS = (
    "The server does not say where to sign in. We guess that it is at the server's own address, as with older servers."
)
_OFFLINE = "offline_access"  # OpenID Connect Core 1.0, section 11
ENDS_SOON = timedelta(days=3)
MOST_STEP_UPS = 2  # with the first sign-in three visits to the provider; more would go on without end
_LONGEST_MARGIN = timedelta(minutes=10)
_ON_DEMAND_MARGIN = timedelta(seconds=30)
_FIRST_RETRY = 15  # seconds
_FIRST_RETRY_OF_A_REFUSAL = 60  # seconds; each try may be two requests, and the answer will be the same
_LONGEST_RETRY = 600  # seconds


class ClientKind(models.TextChoices):
    """How we came to a client ID, in the order of preference."""

    PREREGISTERED = "preregistered", "Client ID from Advanced settings"
    CIMD = "cimd", "Client ID metadata document"
    DCR = "dcr", "Dynamic client registration"


@dataclass(frozen=True, slots=True)
class ClientApproach:
    """How we come to a client ID, and why so; `kind` is None when a person has to enter one."""

    kind: ClientKind | None
    sentence: str


def client_approach(
    server: ServerMetadata, *, client_id: str, cimd_url: str, grant: str, guessed: bool = False
) -> ClientApproach:
    """Return the first way that works: Advanced settings, CIMD, DCR, else a person enters one (MCP 2026-07-28).

    A server that reads client metadata documents takes ours, a public client, also if its list of authentication
    methods, which is about clients with a secret, does not name `none`. Of a `guessed` server nothing is promised.
    """
    if client_id and guessed:
        return ClientApproach(ClientKind.PREREGISTERED, f"The client ID from Advanced settings is used. {_GUESS}")
    if client_id:
        return ClientApproach(ClientKind.PREREGISTERED, "The client ID from Advanced settings is used.")
    if grant == Grant.CLIENT_CREDENTIALS:
        return ClientApproach(None, "Client credentials need a client ID, which the provider gives you.")
    if server.client_id_metadata_document_supported and cimd_url:
        return ClientApproach(
            ClientKind.CIMD,
            "The sign-in server reads our client ID metadata document: nothing has to be registered.",
        )
    if guessed:
        return ClientApproach(ClientKind.DCR, f"{_GUESS} Whether it registers us there shows when you sign in.")
    if server.registration_endpoint:
        return ClientApproach(
            ClientKind.DCR, "The sign-in server lets us register by ourselves: no client ID is needed."
        )
    return ClientApproach(None, "The sign-in server does not let us register by ourselves: it needs a client ID.")


def announces_pkce(server: ServerMetadata) -> bool:
    """Whether the server says that it supports PKCE with S256, or its provider's documentation does."""
    provider = providers.recognized(server.issuer)
    return server.supports_s256 or bool(provider and provider.s256_unsaid)


def check_pkce(server: ServerMetadata, *, assumed: bool = False) -> None:
    """Raise CannotSignIn unless the server supports PKCE with S256 (MCP 2026-07-28, OAuth 2.1).

    `assumed`: an admin knows that it does, though it does not say so. The challenge is sent in any case.
    """
    if not assumed and not announces_pkce(server):
        raise CannotSignIn(
            "The sign-in server does not say that it supports PKCE with S256, so it is not safe to sign in. If you "
            "know that it does, tick “PKCE is supported though not announced” in Advanced settings.",
            code="pkce_missing",
        )


def auth_method(supported: list[str] | None, *, chosen: str = "", has_secret: bool, has_key: bool = False) -> str:
    """Return how to authenticate at the token endpoint: as chosen, else the first that both sides can do."""
    if chosen:
        return chosen
    if not has_secret:
        return TokenAuth.PRIVATE_KEY_JWT.value if has_key else TokenAuth.NONE.value
    # A server that names none supports client_secret_basic (RFC 8414, section 2).
    return next((m.value for m in SECRET_METHODS if m.value in (supported or ())), TokenAuth.BASIC.value)


def registration_method(supported: list[str] | None) -> str:
    """Return the method to register with; a server that names none supports client_secret_basic.

    Raises CannotSignIn if the server supports none of ours.
    """
    for method in (*SECRET_METHODS, TokenAuth.NONE):
        if method.value in (supported or [TokenAuth.BASIC.value]):
            return method.value
    raise CannotSignIn(
        "The sign-in server knows no way to authenticate that we support. Enter a client ID in Advanced settings.",
        code="client_id_needed",
    )


def scopes(found: DiscoveryResult, *, configured: str, missing: str = "", had: str = "") -> str:
    """Return the scopes to ask for, space separated, or "" to leave them to the server.

    Advanced settings, else the challenge, else what the resource supports. A step-up asks for what we had and what
    was missing; `offline_access` is added where the server advertises it.
    """
    if configured:
        base = configured.split()
    elif found.challenge_scopes:
        base = found.challenge_scopes.split()
    else:
        base = list(found.resource_scopes or ())
    wanted = _union(base, had.split() if missing else (), missing.split())
    if wanted and _OFFLINE in (found.server.scopes_supported or ()):
        wanted = _union(wanted, [_OFFLINE])
    return " ".join(valid_scopes(wanted))


def not_granted(granted: str, asked: str) -> str:
    """Return which of the asked scopes were not granted, space separated."""
    return " ".join(scope for scope in asked.split() if scope not in granted.split())


def expected_iss(server: ServerMetadata, iss: str | None) -> bool:
    """Whether an authorization response comes from the server that was asked (RFC 9207, section 2.4)."""
    if iss is None:
        return not server.authorization_response_iss_parameter_supported
    return iss == server.issuer


def renew_at(now: datetime, expires_in: float | None, *, renewable: bool, spread: random.Random) -> datetime | None:
    """Return when to renew, or to warn where that is not possible; None for a token without an end.

    Renewals come a third of the lifetime before the end, at most ten minutes, spread; warnings at most three days.
    """
    if expires_in is None:
        return None
    lifetime = timedelta(seconds=expires_in)
    margin = min(lifetime / 3, _LONGEST_MARGIN if renewable else ENDS_SOON)
    return now + lifetime - margin * spread.uniform(0.7, 1.0)


def is_stale(now: datetime, obtained_at: datetime, expires_at: datetime | None) -> bool:
    """Whether a call should have the token renewed first: less than 30 s are left, or a third of a short life."""
    if expires_at is None:
        return False
    return now >= expires_at - min((expires_at - obtained_at) / 3, _ON_DEMAND_MARGIN)


def retry_at(now: datetime, failures: int, spread: random.Random, *, refused: bool = False) -> datetime:
    """Return when to try to renew again after this many failures: exponential, at most ten minutes, spread."""
    first = _FIRST_RETRY_OF_A_REFUSAL if refused else _FIRST_RETRY
    seconds = min(first * 2 ** min(failures, 10), _LONGEST_RETRY)
    return now + timedelta(seconds=seconds * spread.uniform(0.8, 1.2))


def may_replace(now: datetime, obtained_at: datetime, refused_since: datetime) -> bool:
    """Whether to replace a token that the MCP server refuses: a minute after it came, later as long as all that lasts.

    So the pauses double, up to ten minutes.
    """
    pause = min(max((obtained_at - refused_since).total_seconds(), _FIRST_RETRY_OF_A_REFUSAL), _LONGEST_RETRY)
    return now >= obtained_at + timedelta(seconds=pause)


def _union(*lists: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(scope for scopes in lists for scope in scopes))
