"""How a client proves itself at the token endpoint: secrets, and signed assertions (RFC 7523)."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.middleware.client_auth import AuthenticationError, ClientAuthenticator
from starlette.requests import Request

from tests.servers.authorization.behaviour import ALGORITHMS, BASIC, NONE, POST, SIGNED
from tests.servers.authorization.clients import Client, fetch_json
from tests.servers.authorization.provider import Provider

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TRUST_SECONDS = 300  # the longest life of an assertion


@dataclass
class Credentials:
    """What a token request brings along as proof."""

    client_id: str
    method: str
    secret: str = ""


class Authenticator(ClientAuthenticator):
    """The SDK's authenticator, strict about the method, for every method there is."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.claims: list[dict[str, Any]] = []

    async def authenticate_request(self, request: Request) -> Client:
        """Return the client that proved itself; AuthenticationError if none did."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        brought = presented(form, request.headers.get("authorization"))
        client = await self.provider.get_client(brought.client_id)
        if client is None:
            raise AuthenticationError("No such client")
        supported = self.provider.behaviour.auth_methods
        if brought.method not in client.methods or (supported is not None and brought.method not in supported):
            raise AuthenticationError(f"This client may not use {brought.method}")
        if brought.method == SIGNED:
            await self._verify(client, form["client_assertion"])
        elif brought.method != NONE:
            _compare(client, brought.secret)
        return client

    async def _verify(self, client: Client, assertion: str) -> None:
        """Check an assertion as RFC 7523, section 3 asks, with the issuer as its only audience."""
        exact = {"essential": True, "value": client.client_id}
        audience = {"essential": True, "value": self.provider.behaviour.issuer}
        rules = jwt.JWTClaimsRegistry(iss=exact, sub=exact, exp={"essential": True}, jti={"essential": True})
        try:
            keys = KeySet.import_key_set(client.jwks or await fetch_json(str(client.jwks_uri)))
            claims = jwt.decode(assertion, keys, algorithms=ALGORITHMS).claims
            rules.validate(claims)
        except (JoseError, httpx2.HTTPError, ValueError) as error:
            raise AuthenticationError("The assertion does not hold") from error
        if claims.get("aud") != audience["value"]:
            raise AuthenticationError("The assertion is for somebody else")
        if claims["exp"] > time.time() + TRUST_SECONDS + 5 or claims["jti"] in {one["jti"] for one in self.claims}:
            raise AuthenticationError("The assertion lives too long or was used before")
        self.claims.append(claims)


def presented(form: Mapping[str, str], authorization: str | None) -> Credentials:
    """Return what the request brings; AuthenticationError for two proofs at once (RFC 6749, section 2.3)."""
    found = []
    if authorization is not None:
        found.append(_basic(authorization))
    if "client_assertion" in form:
        found.append(_assertion(form))
    if form.get("client_secret"):
        found.append(Credentials(form.get("client_id", ""), POST, form["client_secret"]))
    if len(found) > 1:
        raise AuthenticationError("More than one way of authentication")
    brought = found[0] if found else Credentials(form.get("client_id", ""), NONE)
    if form.get("client_id", brought.client_id) != brought.client_id:
        raise AuthenticationError("Two different clients")
    return brought


def _basic(authorization: str) -> Credentials:
    scheme, _, encoded = authorization.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise AuthenticationError("Not a Basic header") from error
    if scheme.lower() != "basic" or not colon:
        raise AuthenticationError("Not a Basic header")
    return Credentials(unquote_plus(client_id), BASIC, unquote_plus(secret))


def _assertion(form: Mapping[str, str]) -> Credentials:
    if form.get("client_assertion_type") != ASSERTION:
        raise AuthenticationError("Unknown kind of assertion")
    try:
        payload = form["client_assertion"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return Credentials(str(claims["sub"]), SIGNED)
    except (binascii.Error, ValueError, LookupError, TypeError) as error:
        raise AuthenticationError("Not an assertion") from error


def _compare(client: Client, secret: str) -> None:
    if not hmac.compare_digest((client.client_secret or "").encode(), secret.encode()) or not secret:
        raise AuthenticationError("Wrong secret")
    if client.client_secret_expires_at and client.client_secret_expires_at <= time.time():
        raise AuthenticationError("The secret has expired")
