"""Finding out which account at the provider has signed in: from the ID token, or by asking once, within bounds."""

from __future__ import annotations

from typing import Final

import orjson
from django.utils import timezone

from connections import egress
from connections.errors import DuvoError
from oauth.models import Tokens
from oauth.protocol import accounts
from oauth.protocol.accounts import Account
from oauth.protocol.metadata import ServerMetadata

_LONGEST: Final = 64 * 1024  # bytes of an answer
_TIMEOUT: Final = 5.0  # seconds; the person waits


async def find(server: ServerMetadata, client_id: str, tokens: Tokens, scopes: str) -> Account:
    """Return the account of new tokens, an empty one where the provider tells of none; raises nothing."""
    claims = accounts.of_id_token(tokens.id_token, server, client_id, timezone.now()) if tokens.id_token else {}
    known = accounts.account_of(claims)
    if (known.name and known.name != known.id) or not accounts.may_ask(server, tokens.scopes or scopes):
        return known
    asked = accounts.account_of(await _userinfo(server, tokens.access_token))
    # The answer is about somebody else: it is not used (OpenID Connect Core 1.0, section 5.3.2).
    return asked if asked.id and known.id in ("", asked.id) else known


async def _userinfo(server: ServerMetadata, token: str) -> dict[str, object]:
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    try:
        answer = await egress.fetch(
            "GET", server.userinfo_endpoint, headers=headers, max_bytes=_LONGEST, timeout=_TIMEOUT
        )
        found = orjson.loads(answer.body) if answer.status == 200 else {}  # noqa: PLR2004
    except (DuvoError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
