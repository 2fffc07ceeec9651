"""One exchange with a token, revocation or registration endpoint: what to send, and what the answer means.

Client authentication is Authlib's, signing joserfc's; the request itself goes through the egress with its caps.
"""

from __future__ import annotations

import re
import secrets
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import orjson
from authlib.oauth2.auth import ClientAuth
from joserfc import jwt

from connections import egress, quoting, signing_keys
from connections.errors import DuvoError
from connections.models import TokenAuth
from connections.words import words_in
from oauth.errors import CannotSignIn, ProviderRefused, ProviderUnavailable, code_in, is_for_later, is_known, meaning_of
from oauth.models import Tokens
from oauth.protocol.metadata import ServerMetadata, valid_scopes
from oauth.protocol.token_answers import standard

TIMEOUT = 15.0  # seconds for one exchange
LONGEST = 256 * 1024  # bytes of an answer
LONGEST_TOKEN = 16 * 1024  # characters; it travels in a header
MOST_MEMBERS = 50  # of an answer that is a form
_CODE = re.compile(r"[A-Za-z0-9_.:-]*")  # what `error` is in OAuth; it is no words
_BEARERS = {"bearer", "bearertoken"}  # the second: Apigee
_ELSEWHERE = ("error_code", "errorCode", "code", "errors", "type")
_SECRETS = ("code", "code_verifier", "token", "access_token", "refresh_token", "id_token")
_GIVEN = ("token", "access_token", "refresh_token", "id_token", "client_secret")  # `code` is that of an error there
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TROUBLED = {408, 425, 429}
_CODE_REFUSED = (
    "The provider did not take the code of this sign-in: it is too old, was used, or is for another client. "
    "Press Sign in again."
)
_NO_TOKEN_OF_ITS_OWN = "It registers nobody without a token of its own."  # noqa: S105 - a sentence
_NOT_HERE = "There is no registration at the address that it names for it."
_NOT_REGISTERED = {
    401: _NO_TOKEN_OF_ITS_OWN,
    403: "It does not let us register (HTTP 403).",
    404: _NOT_HERE,
    405: _NOT_HERE,
}
_REGISTRATION_REFUSED = {  # RFC 7591, section 3.2.2
    "invalid_redirect_uri": "It does not allow our redirect URI.",
    "invalid_client_metadata": "It does not accept what we say about ourselves.",
    "invalid_software_statement": "It wants a software statement, which we have none of.",
    "unapproved_software_statement": "It has not approved our software.",
    "invalid_request": "It does not accept our registration.",
}
_NOTHING: Mapping[str, str] = {}
_MOST_SAID = 300  # characters
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, section 2.2
_ASSERTION_LIFE = 120  # seconds


@dataclass(frozen=True, slots=True)
class Client:
    """Who we are at a token endpoint: the ID, and the secret or the private key (PEM) for its method."""

    id: str
    auth_method: str
    secret: str = field(default="", repr=False)
    signing_key: str = field(default="", repr=False)


def form(grant_type: str, **members: str) -> dict[str, str]:
    """Return the form of a token request, without what is empty."""
    return {"grant_type": grant_type, **{name: value for name, value in members.items() if value}}


async def grant(server: ServerMetadata, client: Client, fields: Mapping[str, str]) -> Tokens:
    """Ask for tokens (RFC 6749, section 4); raises ProviderRefused and ProviderUnavailable."""
    answer = await _post(server.token_endpoint, server, client, fields)
    raw = _members(answer)
    members = _without_secrets(standard(raw, server.token_endpoint), client, fields)
    if _succeeded(answer) and members.get("access_token"):
        return _tokens(members)
    # Some servers send an error with status 200.
    error, said = _error(raw, client, fields), _said(raw, client, fields)
    if fields.get("grant_type") == "authorization_code" and meaning_of(error) == "invalid_grant":
        raise ProviderRefused(error, status=answer.status, sentence=_CODE_REFUSED, said=said)
    _raise_for(answer.status, error, said)
    raise ProviderUnavailable("The sign-in server answered without a token.", code="bad_token_answer")


async def revoke(server: ServerMetadata, client: Client, token: str, kind: str) -> None:
    """Have a token revoked (RFC 7009, section 2.1); `kind` is its type hint. Raises as `grant` does."""
    fields = {"token": token, "token_type_hint": kind}
    answer = await _post(server.revocation_endpoint, server, client, fields)
    if not _succeeded(answer):
        raw = _members(answer)
        _raise_for(answer.status, _error(raw, client, fields), _said(raw, client, fields))
        raise ProviderUnavailable


async def register(server: ServerMetadata, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Register a client (RFC 7591, section 3) and return what the server says; raises as `grant` does.

    Its `client_id` and `client_secret` are text, also where the server wrote numbers.
    """
    answer = await _send(server.registration_endpoint, {}, orjson.dumps(dict(metadata)), "application/json")
    members = _members(answer)
    named = {name: _text(members.get(name)) for name in ("client_id", "client_secret")}
    if _succeeded(answer) and named["client_id"]:
        return {**members, **named}
    error, said = _error(members), _said(members)
    refused = 400 <= answer.status < 500 and answer.status not in _TROUBLED  # noqa: PLR2004
    if (refused or (_succeeded(answer) and (error or members.get("error")))) and not is_for_later(error):
        sentence = _NOT_REGISTERED.get(answer.status) or _REGISTRATION_REFUSED.get(error)
        sentence = sentence or f"It gave no reason that is known here (HTTP {answer.status})."
        raise ProviderRefused(error, status=answer.status, sentence=sentence, said=said)
    _raise_for(answer.status, error, said)
    raise ProviderUnavailable("It answered without a client ID.")


async def _post(url: str, server: ServerMetadata, client: Client, fields: Mapping[str, str]) -> egress.Answer:
    if client.auth_method == TokenAuth.PRIVATE_KEY_JWT:
        signed = {
            "client_id": client.id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": _assertion(server, client),
        }
        return await _send(url, {}, urlencode({**fields, **signed}).encode(), "application/x-www-form-urlencoded")
    identity, secret = client.id, client.secret
    if client.auth_method == TokenAuth.BASIC:  # RFC 6749, section 2.3.1: both parts are form-encoded first
        identity, secret = quote(identity, safe=""), quote(secret, safe="")
    authenticate = ClientAuth(identity, secret, client.auth_method)
    url, headers, body = authenticate.prepare("POST", url, {}, urlencode(fields))
    return await _send(url, headers, body.encode(), "application/x-www-form-urlencoded")


async def _send(url: str, headers: Mapping[str, str], content: bytes, content_type: str) -> egress.Answer:
    headers = {**headers, "content-type": content_type, "accept": "application/json"}
    try:
        return await egress.fetch("POST", url, headers=headers, content=content, max_bytes=LONGEST, timeout=TIMEOUT)
    except DuvoError as error:
        raise ProviderUnavailable(f"The sign-in server could not be used: {error.sentence}", code=error.code) from error


def _assertion(server: ServerMetadata, client: Client) -> str:
    """Return a client assertion (RFC 7523, section 3) whose audience is the issuer; raises CannotSignIn."""
    try:
        key = signing_keys.load(client.signing_key)
    except signing_keys.BadKey as error:
        unusable = "The signing key is missing or cannot be used. Enter another in Advanced settings."
        raise CannotSignIn(unusable, code="signing_key_unusable") from error
    now = int(time.time())
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": server.issuer,
        "iat": now,
        "exp": now + _ASSERTION_LIFE,
        "jti": secrets.token_urlsafe(24),
    }
    return jwt.encode({"alg": signing_keys.algorithm(key), "kid": signing_keys.identifier(key)}, claims, key)


def _succeeded(answer: egress.Answer) -> bool:
    return 200 <= answer.status < 300  # noqa: PLR2004 - successful, RFC 9110, section 15.3


def _text(value: Any) -> str:
    """Return an identifier that a server wrote as text or as a whole number, else ""."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _members(answer: egress.Answer) -> dict[str, Any]:
    """Return the members of an answer, JSON or form-encoded; {} for anything else."""
    body = answer.body.removeprefix(_BYTE_ORDER_MARK)
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()
        is_form = "=" in text and "<" not in text and text.count("&") < MOST_MEMBERS
        return dict(parse_qsl(text)) if is_form else {}
    return members if isinstance(members, dict) else {}


def _secrets_of(members: Mapping[str, Any], client: Client | None, fields: Mapping[str, str]) -> set[str]:
    """Return what may not be repeated of an exchange, as it was sent or came."""
    ours = [client.secret] if client else []
    found = [*ours, *(fields.get(name, "") for name in _SECRETS), *(str(members.get(name, "")) for name in _GIVEN)]
    return set(filter(None, found))


def _without_secrets(members: dict[str, Any], client: Client, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the members without a scope that repeats a secret: scopes are shown to people."""
    known, granted = _secrets_of(members, client, fields), members.get("scope")
    if isinstance(granted, str):
        members = {**members, "scope": " ".join(scope for scope in granted.split() if scope not in known)}
    return members


def _error(members: Mapping[str, Any], client: Client | None = None, fields: Mapping[str, str] = _NOTHING) -> str:
    """Return the code of an error, "" for none; one that repeats a secret of this exchange is "unknown".

    It is what `error` holds. Where that is no code, others put one that is known elsewhere.
    """
    code = code_in(members.get("error"))
    if not code:
        found = (code_in(members.get(name)) for name in _ELSEWHERE)
        code = next((one for one in found if is_known(one)), "")
    known = _secrets_of(members, client, fields)
    return "unknown" if code and code in known | {code_in(one) for one in known} else code


def _said(members: Mapping[str, Any], client: Client | None = None, fields: Mapping[str, str] = _NOTHING) -> str:
    """Return a provider's own words about an error, without the secrets of this exchange."""
    error = members.get("error")
    if isinstance(error, str) and _CODE.fullmatch(error):
        members = {name: member for name, member in members.items() if name != "error"}
    words = words_in(members)
    known = [*fields.values(), *(members.get(name) for name in _GIVEN)]
    if client is not None:
        known += [client.secret, client.signing_key, b64encode(f"{client.id}:{client.secret}".encode()).decode()]
    known += [quote(secret, safe="") for secret in known if isinstance(secret, str)]
    return quoting.readable(quoting.without(words, known), _MOST_SAID)


def _tokens(members: Mapping[str, Any]) -> Tokens:
    token, kind = members["access_token"], members.get("token_type") or "Bearer"
    if not isinstance(token, str) or len(token) > LONGEST_TOKEN or not _is_visible(token):
        raise ProviderUnavailable("The sign-in server gave a token that cannot be sent.", code="bad_token_answer")
    if not isinstance(kind, str) or kind.strip().lower() not in _BEARERS:
        raise ProviderUnavailable("The sign-in server gave another kind of token than Bearer.", code="bad_token_answer")
    refresh, granted, identity = (members.get(name) for name in ("refresh_token", "scope", "id_token"))
    return Tokens(
        access_token=token,
        refresh_token=refresh if isinstance(refresh, str) and len(refresh) <= LONGEST_TOKEN else "",
        id_token=identity if isinstance(identity, str) and len(identity) <= LONGEST_TOKEN else "",
        expires_in=_seconds(members.get("expires_in")),
        scopes=" ".join(valid_scopes(granted.split())) if isinstance(granted, str) else None,
    )


def _seconds(value: Any) -> float | None:
    """Return a lifetime; servers leave it out, write it as text, or mean "never" by zero or less."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(seconds, 10 * 365 * 86_400.0) if seconds > 0 else None


def _is_visible(token: str) -> bool:
    return all("!" <= character <= "~" for character in token)


def _raise_for(status: int, error: str, said: str = "") -> None:
    """Raise what an answer with this status and this code of an error means; a success without one raises nothing."""
    if error and status < 500 and status != 429:  # noqa: PLR2004
        if is_for_later(error):
            raise ProviderUnavailable(code=error)
        raise ProviderRefused(error, status=status, said=said)
    if status == 401:  # noqa: PLR2004 - Unauthorized
        raise ProviderRefused("invalid_client", status=status, said=said)
    if 400 <= status < 500 and status not in {404, 405, 408, 429}:  # noqa: PLR2004
        raise ProviderRefused("", status=status, said=said)
    if not 200 <= status < 300:  # noqa: PLR2004 - successful
        raise ProviderUnavailable(f"The sign-in server failed (HTTP {status}). Try again in a while.")
