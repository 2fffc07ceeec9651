"""Clients, codes and tokens of a test authorization server: the SDK's provider, kept in memory."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    RegistrationError,
    construct_redirect_uri,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tests.servers.authorization.behaviour import BASIC, NONE, POST, Behaviour
from tests.servers.authorization.clients import Client, Documents

CODE_SECONDS = 60


class Code(AuthorizationCode):
    grant: str


class Access(AccessToken):
    grant: str
    expires_at: float | None = None


class Refresh(RefreshToken):
    grant: str


@dataclass
class Provider(OAuthAuthorizationServerProvider[Code, Refresh, Access]):
    """What the SDK's handlers ask; a grant is one sign-in, to which its code and all its tokens belong."""

    behaviour: Behaviour
    clients: dict[str, Client] = field(default_factory=dict)
    documents: Documents = field(default_factory=Documents)
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    refresh: dict[str, Refresh] = field(default_factory=dict)
    spent: dict[str, str] = field(default_factory=dict)  # codes and refresh tokens that were used -> their grant
    waiting: dict[str, tuple[OAuthClientInformationFull, AuthorizationParams]] = field(
        default_factory=dict
    )  # for a person's consent
    reused: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)

    # --- clients ------------------------------------------------------------------------------------------------

    async def get_client(self, client_id: str) -> Client | None:
        if client_id in self.clients:
            return self.clients[client_id]
        by_document = self.behaviour.cimd and client_id.startswith(("https://", "http://"))
        return await self.documents.client(client_id) if by_document else None

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        """Keep a client as the SDK's handler made it; what is changed here is what the answer says."""
        method = str(client_info.token_endpoint_auth_method)
        if self.behaviour.auth_methods is not None and method not in self.behaviour.auth_methods:
            raise RegistrationError("invalid_client_metadata", f"{method} is not supported")
        if client_info.client_secret and self.behaviour.secret_expires_at is not None:
            client_info.client_secret_expires_at = self.behaviour.secret_expires_at
        if self.behaviour.holds_to_scopes and client_info.scope is None:
            client_info.scope = "basic"
        methods = [method]
        if not self.behaviour.echo_method:
            client_info.token_endpoint_auth_method = None
            methods = [BASIC, POST] if client_info.client_secret else [NONE]
        elif isinstance(self.behaviour.echo_method, str):
            client_info.token_endpoint_auth_method = self.behaviour.echo_method
        self.clients[client_info.client_id] = Client(**client_info.model_dump(), methods=methods)

    # --- codes --------------------------------------------------------------------------------------------------

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        """Return where the browser goes next: back with a code, or to the consent page."""
        if self.behaviour.deny:
            raise AuthorizeError("access_denied", "The person said no.")
        if self.behaviour.consent == "auto":
            return self.allow(client, params)
        ticket = secrets.token_urlsafe(16)
        self.waiting[ticket] = (client, params)
        return f"{self.behaviour.url}/consent?ticket={ticket}"

    def allow(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        """Return the callback URL with a new code."""
        code = Code(
            code=secrets.token_urlsafe(32),
            scopes=self._granted(params.scopes),
            expires_at=time.time() + CODE_SECONDS,
            client_id=client.client_id,
            grant=secrets.token_hex(8),
            **params.model_dump(exclude={"state", "scopes"}),
        )
        self.codes[code.code] = code
        return construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state)

    async def load_authorization_code(self, client: OAuthClientInformationFull, authorization_code: str) -> Code | None:
        """Return a code that was not used; one that was ends its sign-in (RFC 6749, section 4.1.2)."""
        self._notice_reuse(authorization_code)
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: Code
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        self.spent[authorization_code.code] = authorization_code.grant
        with_refresh = self.behaviour.refresh and "refresh_token" in client.grant_types
        if self.behaviour.offline_access:
            with_refresh = with_refresh and "offline_access" in authorization_code.scopes
        return self.issue(authorization_code, authorization_code.scopes, with_refresh=with_refresh)

    # --- tokens -------------------------------------------------------------------------------------------------

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> Refresh | None:
        """Return a refresh token that may be used; an old one ends its sign-in (RFC 9700, section 4.14.2)."""
        self._notice_reuse(refresh_token)
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: Refresh, scopes: list[str]
    ) -> OAuthToken:
        if self.behaviour.rotate:
            del self.refresh[refresh_token.token]
            self.spent[refresh_token.token] = refresh_token.grant
        return self.issue(refresh_token, scopes, with_refresh=self.behaviour.rotate)

    def issue_to_client(self, client: Client, scopes: list[str] | None, resource: str | None) -> OAuthToken:
        """Return a token of the client itself (RFC 6749, section 4.4)."""
        granted = self._granted(scopes)
        source = Access(
            token="", client_id=client.client_id, scopes=granted, resource=resource, grant=secrets.token_hex(8)
        )
        return self.issue(source, granted, with_refresh=False)

    async def load_access_token(self, token: str) -> Access | None:
        access = self.access.get(token)
        return access if access is None or access.expires_at is None or access.expires_at > time.time() else None

    async def revoke_token(self, token: Access | Refresh) -> None:
        self.revoked.append(token.token)
        self.end(token.grant)

    def end(self, *grants: str) -> None:
        """End these sign-ins with all their tokens."""
        for tokens in (self.codes, self.access, self.refresh):
            for token in [token for token, entry in tokens.items() if entry.grant in grants]:
                del tokens[token]

    def issue(self, source: Code | Refresh | Access, scopes: list[str], *, with_refresh: bool) -> OAuthToken:
        """Return new tokens of the sign-in to which the source belongs."""
        lifetime = self.behaviour.expires_in
        facts = {"client_id": source.client_id, "resource": source.resource, "grant": source.grant}
        access = Access(token=secrets.token_urlsafe(32), scopes=scopes, **facts)
        access.expires_at = None if lifetime is None else time.time() + lifetime
        self.access[access.token] = access
        answer = OAuthToken(access_token=access.token, expires_in=lifetime, scope=" ".join(scopes) or None)
        if with_refresh:
            # A refresh may ask for less; the sign-in keeps all it was given.
            refresh = Refresh(token=secrets.token_urlsafe(32), scopes=source.scopes, **facts)
            self.refresh[refresh.token] = refresh
            answer.refresh_token = refresh.token
        return answer

    def _granted(self, asked: list[str] | None) -> list[str]:
        if self.behaviour.grants_scopes is not None:
            return list(self.behaviour.grants_scopes)
        return list(self.behaviour.scopes_supported or ()) if asked is None else asked

    def _notice_reuse(self, token: str) -> None:
        grant = self.spent.get(token)
        if grant is not None:
            self.reused.append(token)
            if self.behaviour.revoke_on_reuse:
                self.end(grant)
