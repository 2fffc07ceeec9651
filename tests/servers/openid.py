"""An OpenID Connect provider that says who somebody is, or lies as a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from tests.servers import kinds
from tests.servers.running import Incoming, Receive, Send, Served

CLIENT, SECRET = "duvo", "a secret: with / and %"


@dataclass(kw_only=True)
class OpenIdProvider(Served):
    """What it says of itself and of who signs in; `claims` and `configuration` override what is right."""

    email: str = "bea@acme.example"
    subject: str = "bea"
    claims: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    unsigned: bool = False
    signs_with_another_key: bool = False
    signs_with_the_secret: bool = False
    refuses: bool = False
    in_body: bool = False
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    instead: dict[str, str] = field(default_factory=dict)  # by path: what is answered there instead

    @property
    def issuer(self) -> str:
        return self.origin

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer, "sub": self.subject, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce,
            "email": self.email, "email_verified": True, "name": "Bea Bright",
        }  # fmt: skip
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        if self.unsigned:
            parts = ({"alg": "none"}, claims)
            return ".".join(_encoded(json.dumps(part).encode()) for part in parts) + "."
        if self.signs_with_the_secret:
            return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET.encode()), algorithms=["HS256"])
        key = ECKey.generate_key("P-256") if self.signs_with_another_key else self.key
        return jwt.encode({"alg": "ES256", "kid": self.key.thumbprint()}, claims, key)


async def answer(provider: OpenIdProvider, request: Incoming, _: Receive, send: Send) -> bool:
    if request.path in provider.instead:
        return await kinds.respond(send, 200, provider.instead[request.path].encode())
    match request.path:
        case "/.well-known/openid-configuration":
            origin = provider.origin
            methods = ["client_secret_post"] if provider.in_body else ["client_secret_basic"]
            document = {
                "issuer": provider.issuer, "authorization_endpoint": f"{origin}/authorize",
                "token_endpoint": f"{origin}/token", "jwks_uri": f"{origin}/keys",
                "token_endpoint_auth_methods_supported": methods,
            } | provider.configuration  # fmt: skip
            return await _tell(send, {name: value for name, value in document.items() if value is not None})
        case "/keys":
            return await _tell(
                send, {"keys": [provider.key.as_dict(private=False) | {"kid": provider.key.thumbprint()}]}
            )
        case "/authorize":
            asked = request.parameters
            back = {"state": asked["state"]}
            if provider.refuses:
                back["error"] = "access_denied"
            else:
                back["code"] = secrets.token_urlsafe(16)
                provider.codes[back["code"]] = asked
            return await kinds.respond(send, 302, location=f"{asked['redirect_uri']}?{urlencode(back)}")
        case "/token":
            return await _exchange(provider, request, send)
    return await kinds.respond(send, 404)


async def _exchange(provider: OpenIdProvider, request: Incoming, send: Send) -> bool:
    form = request.form
    asked = provider.codes.pop(form.get("code", ""), None)
    challenge = _encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
    known = _client(provider, request) == (CLIENT, SECRET)
    if (
        asked is None
        or not known
        or challenge != asked["code_challenge"]
        or form["redirect_uri"] != asked["redirect_uri"]
    ):
        return await _tell(send, {"error": "invalid_grant"}, 400)
    return await _tell(
        send, {"access_token": "x", "token_type": "Bearer", "id_token": provider.id_token(asked["nonce"])}
    )


def _client(provider: OpenIdProvider, request: Incoming) -> tuple[str, str]:
    if provider.in_body:
        return request.form.get("client_id", ""), request.form.get("client_secret", "")
    pair = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
    name, _, secret = pair.partition(":")
    return unquote(name), unquote(secret)


async def _tell(send: Send, document: dict[str, Any], status: int = 200) -> bool:
    return await kinds.respond(send, status, json.dumps(document).encode(), content_type="application/json")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
