"""Asking an OpenID Connect provider who somebody is; every request goes through the egress. No rows, no pages.

discover    where its endpoints are (OpenID Connect Discovery 1.0)
question    where to send the browser (Core, section 3.1.2), with PKCE, state and nonce
answer      exchange the code, and believe of the ID token what section 3.1.3.7 lets one believe
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from connections import egress
from connections.errors import DuvoError

LONGEST = 256 * 1024  # bytes of a document or an answer
LEEWAY = 60  # seconds that clocks may differ
OLDEST = 600  # seconds since an ID token was issued
_LONGEST_ADDRESS = 254  # characters
_LONGEST_NAME = 1000  # characters that are looked at
_VERIFIED = (None, True, "true")  # also: nothing said of it
ALGORITHMS = ["RS256", "PS256", "ES256", "RS384", "PS384", "ES384", "RS512", "PS512", "ES512", "Ed25519", "EdDSA"]


class ProviderFault(DuvoError):
    """Your company's sign-in did not work. Try again, and tell your admin if it goes on."""

    code = "provider_fault"


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider's configuration says."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    secret_in_body: bool
    says_who_answers: bool  # RFC 9207


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, as the provider says."""

    subject: str
    email: str
    name: str


def discover(issuer: str) -> Provider:
    """Return the provider's endpoints; raises ProviderFault, Refused and Unreachable."""
    document = _document(f"{issuer.rstrip('/')}/.well-known/openid-configuration", "configuration")
    if document.get("issuer") != issuer:
        raise ProviderFault("The provider's configuration is that of another issuer.", code="other_issuer")
    ends = {name: document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    for name, url in ends.items():
        if not isinstance(url, str):
            raise ProviderFault(f"The provider's configuration has no {name}.", code="configuration_incomplete")
        egress.check_hop(url)
    named = document.get("token_endpoint_auth_methods_supported")
    named = named.split() if isinstance(named, str) else named
    methods = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
    return Provider(
        issuer=issuer,
        secret_in_body=bool(methods) and "client_secret_basic" not in methods,
        says_who_answers=document.get("authorization_response_iss_parameter_supported") is True,
        **{name: str(url) for name, url in ends.items()},
    )


def question(
    provider: Provider, *, client_id: str, redirect_uri: str, state: str, nonce: str, verifier: str, email: str
) -> str:
    """Return the address to which the browser goes."""
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "scope": "openid email profile",
        "state": state, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        **({"login_hint": email} if email else {}),
    }  # fmt: skip
    separator = "&" if "?" in provider.authorization_endpoint else "?"
    return f"{provider.authorization_endpoint}{separator}{urlencode(asked)}"


def answer(
    provider: Provider, *, client_id: str, secret: str, code: str, redirect_uri: str, nonce: str, verifier: str
) -> Identity:
    """Return who the code speaks of; raises ProviderFault, Refused and Unreachable."""
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier,
        "client_id": client_id,
    }  # fmt: skip
    headers = {"accept": "application/json"}
    if provider.secret_in_body:
        form["client_secret"] = secret
    else:  # RFC 6749, section 2.3.1
        pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    sent = egress.run(
        egress.fetch("POST", provider.token_endpoint, headers=headers, data=form, max_bytes=LONGEST)
    )  # fmt: skip
    tokens = _json(sent, "answer")
    token = tokens.get("id_token")
    if not isinstance(token, str):
        raise ProviderFault("The provider has sent no ID token.", code="no_id_token")
    claims = _claims(provider, token)
    _believe(claims, issuer=provider.issuer, client_id=client_id, nonce=nonce, now=time.time())
    email = claims.get("email")
    if not _is_address(email) or claims.get("email_verified") not in _VERIFIED:
        raise ProviderFault("The provider names no e-mail address that it has verified.", code="no_address")
    name = claims.get("name")
    seen = "".join(one if one.isprintable() else " " for one in name[:_LONGEST_NAME]) if isinstance(name, str) else ""
    return Identity(str(claims["sub"]), str(email).lower(), " ".join(seen.split())[:150])


def _is_address(email: Any) -> bool:
    """Whether a claim is an e-mail address that a row can keep."""
    return isinstance(email, str) and "@" in email and len(email) <= _LONGEST_ADDRESS and email.isprintable()


def _claims(provider: Provider, token: str) -> dict[str, Any]:
    keys = _document(provider.jwks_uri, "keys")
    try:
        return dict(jwt.decode(token, KeySet.import_key_set({"keys": keys.get("keys", [])}), ALGORITHMS).claims)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as fault:
        raise ProviderFault("The ID token is not signed by the provider.", code="bad_signature") from fault


def _believe(claims: dict[str, Any], *, issuer: str, client_id: str, nonce: str, now: float) -> None:
    """Raise ProviderFault unless the ID token is of this provider, for us, for this visit, and of now."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    issued, ends = claims.get("iat"), claims.get("exp")
    faults = {
        "other_issuer": claims.get("iss") != issuer,
        "other_audience": client_id not in audiences or claims.get("azp", client_id) != client_id,
        "other_visit": claims.get("nonce") != nonce,
        "too_old": not isinstance(ends, int | float) or not ends >= now - LEEWAY,  # NaN compares with nothing
        "of_no_time": not isinstance(issued, int | float) or not now - OLDEST < issued < now + LEEWAY,
        "no_subject": not isinstance(claims.get("sub"), str) or not _is_subject(claims["sub"]),
    }
    fault = next((code for code, is_so in faults.items() if is_so), None)
    if fault is not None:
        raise ProviderFault("The ID token of your company's sign-in does not fit this visit.", code=fault)


def _is_subject(subject: str) -> bool:
    return 0 < len(subject) <= 255 and "\0" not in subject  # noqa: PLR2004 - OpenID Connect Core 1.0, section 2


def _document(url: str, what: str) -> dict[str, Any]:
    return _json(egress.run(egress.fetch("GET", url, headers={"accept": "application/json"}, max_bytes=LONGEST)), what)


def _json(sent: egress.Answer, what: str) -> dict[str, Any]:
    try:
        read = orjson.loads(sent.body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        read = None
    if sent.status != 200 or not isinstance(read, dict):  # noqa: PLR2004
        sentence = f"The provider's {what} could not be read: it answered with HTTP status {sent.status}."
        raise ProviderFault(sentence, code="not_answered")
    return read
