"""A sample MCP server that people sign in to: `python -m duvo.sample_sign_in --port 9001`.

It is its own authorization server (OAuth 2.1), and its MCP endpoint is `/mcp`. Two pretend people can sign in without a
password, so it listens on loopback only. Everything lasts as long as the process.
"""

from __future__ import annotations

import argparse
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from duvo import sample_consent

HOST = "127.0.0.1"
PATH = "/mcp"
SCOPE = "warehouse"
CODE_SECONDS = 60
ACCESS_SECONDS = 300
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
PEOPLE = {"ada": "Ada", "grace": "Grace"}


class Delivery(BaseModel):
    """Goods that somebody expects."""

    number: str
    goods: str
    pieces: int
    dock: int = Field(description="Where the lorry unloads.")


DELIVERIES = {
    "ada": [Delivery(number="D-1", goods="Green tea, 250 g", pieces=240, dock=2)],
    "grace": [Delivery(number="D-2", goods="Cast iron teapot", pieces=12, dock=3)],
}


class Person(BaseModel):
    """Who is signed in, and for how long the token is still valid."""

    name: str
    permissions: list[str]
    seconds_left: int = Field(description="Until the access token ends; it is then renewed.")


@dataclass
class SignIn:
    """What one person allowed one client: a code first, then tokens, which all end together."""

    code: AuthorizationCode
    access: dict[str, AccessToken] = field(default_factory=dict)
    refresh: RefreshToken | None = None
    spent: set[str] = field(default_factory=set)


class AuthorizationServer(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Clients, consents and tokens; a code or refresh token that is used twice ends its sign-in (RFC 9700, 4.14.2)."""

    def __init__(self, origin: str) -> None:
        """Take the address under which it is reached, without a slash at its end; that is also the issuer."""
        self.origin = origin
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.waiting: dict[str, tuple[OAuthClientInformationFull, AuthorizationParams]] = {}
        self.sign_ins: list[SignIn] = []

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        """Return a client that registered."""
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        """Store a client; everybody may register (RFC 7591)."""
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        """Return the consent page of this request."""
        ticket = secrets.token_urlsafe(24)
        self.waiting[ticket] = (client, params)
        return f"{self.origin}{sample_consent.PATH}?ticket={ticket}"

    def decide(self, ticket: str, person: str) -> str:
        """Use up a consent page and return where the browser goes; without a person, access is denied."""
        client, params = self.waiting.pop(ticket)
        answer = {"error": "access_denied"}
        if person:
            code = AuthorizationCode(
                code=secrets.token_urlsafe(32),
                client_id=client.client_id,
                subject=person,
                scopes=params.scopes or [SCOPE],
                expires_at=time.time() + CODE_SECONDS,
                code_challenge=params.code_challenge,
                redirect_uri=params.redirect_uri,
                redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
                resource=params.resource,
            )
            self.sign_ins.append(SignIn(code))
            answer = {"code": code.code}
        return construct_redirect_uri(str(params.redirect_uri), **answer, state=params.state, iss=self.origin)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        """Return a code that was not used yet."""
        self._end_if_spent(client, authorization_code)
        return next((one.code for one in self.sign_ins if one.code.code == authorization_code), None)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        """Return the first tokens of a sign-in."""
        sign_in = next(one for one in self.sign_ins if one.code is authorization_code)
        sign_in.spent.add(authorization_code.code)
        return self._issue(sign_in, authorization_code.scopes)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        """Return a refresh token that was not used yet."""
        self._end_if_spent(client, refresh_token)
        return next((one.refresh for one in self.sign_ins if one.refresh and one.refresh.token == refresh_token), None)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        """Return new tokens; the refresh token is replaced."""
        sign_in = next(one for one in self.sign_ins if one.refresh is refresh_token)
        sign_in.spent.add(refresh_token.token)
        return self._issue(sign_in, scopes)

    async def load_access_token(self, token: str) -> AccessToken | None:
        """Return an access token that is still valid."""
        found = next((one.access[token] for one in self.sign_ins if token in one.access), None)
        return found if found is not None and _holds(found) else None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        """End the sign-in of a token (RFC 7009)."""
        self.sign_ins = [one for one in self.sign_ins if token.token not in one.access and one.refresh is not token]

    def _end_if_spent(self, client: OAuthClientInformationFull, token: str) -> None:
        own = client.client_id
        self.sign_ins = [one for one in self.sign_ins if one.code.client_id != own or token not in one.spent]

    def _issue(self, sign_in: SignIn, scopes: list[str]) -> OAuthToken:
        code = sign_in.code
        facts: dict[str, Any] = {"client_id": code.client_id, "subject": code.subject, "resource": code.resource}
        ends = int(time.time()) + ACCESS_SECONDS
        access = AccessToken(token=secrets.token_urlsafe(32), scopes=scopes, expires_at=ends, **facts)
        sign_in.access = {name: one for name, one in sign_in.access.items() if _holds(one)} | {access.token: access}
        sign_in.refresh = RefreshToken(token=secrets.token_urlsafe(32), scopes=code.scopes, **facts)
        return OAuthToken(
            access_token=access.token,
            expires_in=ACCESS_SECONDS,
            scope=" ".join(scopes),
            refresh_token=sign_in.refresh.token,
        )


def _holds(token: AccessToken) -> bool:
    return token.expires_at is not None and token.expires_at > time.time()


def application(origin: str) -> Starlette:
    """Return the ASGI application of the server that is reached at `origin`."""
    provider = AuthorizationServer(origin)
    auth = {
        "issuer_url": origin,
        "resource_server_url": f"{origin}{PATH}",
        "validate_token_resource": True,
        "required_scopes": [SCOPE],
        "client_registration_options": {"enabled": True, "valid_scopes": [SCOPE], "default_scopes": [SCOPE]},
        "revocation_options": {"enabled": True},
    }
    server: MCPServer[Any] = MCPServer(
        "warehouse",
        title="Warehouse",
        version="1.0",
        log_level="WARNING",
        auth=AuthSettings.model_validate(auth),
        auth_server_provider=provider,
    )
    _offer_tools(server)
    app = server.streamable_http_app(streamable_http_path=PATH)
    app.router.add_route(sample_consent.PATH, partial(_consent, provider), methods=["GET", "POST"])
    return app


def _offer_tools(server: MCPServer[Any]) -> None:
    @server.tool(title="Who am I", annotations=READS)
    def who_am_i() -> Person:
        """Tell who is signed in."""
        token = _token()
        left = (token.expires_at or 0) - int(time.time())
        return Person(name=PEOPLE[token.subject or ""], permissions=token.scopes, seconds_left=left)

    @server.tool(title="My deliveries", annotations=READS)
    def my_deliveries() -> list[Delivery]:
        """List the deliveries that the signed-in person expects."""
        return DELIVERIES[_token().subject or ""]


def _token() -> AccessToken:
    token = get_access_token()
    assert token is not None  # noqa: S101 - nobody gets this far without one
    return token


async def _consent(provider: AuthorizationServer, request: Request) -> Response:
    """Ask the person, and send the browser back with the answer."""
    given = await request.form() if request.method == "POST" else request.query_params
    ticket, person = str(given.get("ticket")), str(given.get("person"))
    if ticket not in provider.waiting:
        return sample_consent.used()
    allowed = given.get("decision") == "allow"
    if request.method == "GET" or (allowed and person not in PEOPLE):
        client = provider.waiting[ticket][0]
        return sample_consent.question(ticket, client.client_name or client.client_id, PEOPLE)
    return RedirectResponse(provider.decide(ticket, person if allowed else ""), status_code=303)


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    port = parser.parse_args().port
    uvicorn.run(application(f"http://{HOST}:{port}"), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main()
