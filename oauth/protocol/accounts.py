"""Which account at the provider a sign-in is: what an ID token or a user-info answer says of it. No I/O.

It is shown to people and compared with the account before; nothing is ever permitted because of it.
"""

from __future__ import annotations

import unicodedata
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from oauth.protocol import addresses
from oauth.protocol.metadata import ServerMetadata

LONGEST: Final = 200  # characters of a name
_LONGEST_TOKEN: Final = 16 * 1024
_NAMES: Final = ("email", "preferred_username", "upn", "login", "nickname", "name")  # what tells people most, first
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider: the provider's own id of it, and what people call it."""

    id: str = ""
    name: str = ""


def of_id_token(token: str, server: ServerMetadata, client_id: str, now: datetime) -> Mapping[str, Any]:
    """Return the claims of an ID token that came from the token endpoint itself, {} for one that is not for us.

    Whom it is from and for, and until when, is checked. Its signature is not: TLS has shown that the token endpoint
    sent it (OpenID Connect Core 1.0, section 3.1.3.7, item 6).
    """
    parts = token.split(".")
    if len(token) > _LONGEST_TOKEN or len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return {}
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    if not isinstance(claims, dict):
        return {}
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    ours = claims.get("iss") == server.issuer and client_id in audiences and claims.get("azp", client_id) == client_id
    ends = claims.get("exp")
    lasts = isinstance(ends, int | float) and not isinstance(ends, bool) and ends > now.timestamp()
    return claims if ours and lasts else {}


def may_ask(server: ServerMetadata, scopes: str) -> bool:
    """Whether the provider's user-info address may get a token: at the host of the sign-in server, and asked for."""
    own = any(addresses.may_move(url, server.userinfo_endpoint) for url in (server.issuer, server.token_endpoint))
    return own and "openid" in scopes.split()


def account_of(claims: Mapping[str, Any]) -> Account:
    """Return the account that claims tell of; both parts are empty where they tell of none."""
    key = _plain(claims.get("sub"))
    named = (_plain(claims.get(name)) for name in _NAMES if not _is_doubtful(claims, name))
    return Account(key, next(filter(None, named), key)) if key else Account()


def _is_doubtful(claims: Mapping[str, Any], name: str) -> bool:
    """Whether the provider itself does not vouch for an e-mail address."""
    return name == "email" and claims.get("email_verified") in (False, "false")


def _plain(value: Any) -> str:
    """Return a text in one line without what nobody sees, "" for what is no text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    seen = "".join(one if unicodedata.category(one) not in _UNSEEN else " " for one in str(value)[: 4 * LONGEST])
    return " ".join(seen.split())[:LONGEST]
