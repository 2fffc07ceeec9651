"""What a test sees of an authorization server: where it is, what reached it, and how to change it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
from mcp.shared.auth import OAuthToken
from starlette.responses import JSONResponse, Response

from tests.loopback import NO_TLS
from tests.servers.authorization.application import Endpoints
from tests.servers.authorization.authentication import Authenticator
from tests.servers.authorization.behaviour import BASIC, NONE, POST, SIGNED, Behaviour
from tests.servers.authorization.clients import Client
from tests.servers.authorization.provider import Access, Provider
from tests.servers.authorization.turnstile import Turnstile
from tests.servers.running import Host, Incoming

GRANTS = ["authorization_code", "refresh_token", "client_credentials"]


@dataclass
class _Failure:
    status: int
    error: str | None
    times: int | None


@dataclass(kw_only=True)
class AuthorizationServer(Behaviour):
    """One server; its options are those of `Behaviour`."""

    mixes_up_with: AuthorizationServer | None = None  # /authorize sends the browser there, in disguise
    provider: Provider = field(init=False)
    authenticator: Authenticator = field(init=False)
    way_in: Turnstile = field(default_factory=Turnstile, init=False)
    way_out: Turnstile = field(default_factory=Turnstile, init=False)
    _failing: _Failure | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.provider = Provider(self)
        self.authenticator = Authenticator(self.provider)

    def start(self, host: Host) -> AuthorizationServer:
        """Serve until the host is closed."""
        return host.start(self, Endpoints(self).application())

    # --- what reached it ----------------------------------------------------------------------------------------

    def at(self, path: str) -> list[Incoming]:
        """The requests for an endpoint such as `/token`, or for a well-known path."""
        paths = {path, f"{self.issuer_path}{path}"}
        return [request for request in list(self.requests) if request.path in paths]

    def count(self, path: str, **form: str) -> int:
        """How many requests came for this path, with these members in their form or query."""
        arrived = [request.form | request.parameters for request in self.at(path)]
        return sum(form.items() <= members.items() for members in arrived)

    @property
    def registrations(self) -> list[dict[str, Any]]:
        """The client metadata sent to /register."""
        return [request.message for request in self.at("/register")]

    @property
    def authorizations(self) -> list[dict[str, str]]:
        """The parameters of /authorize."""
        return [request.parameters for request in self.at("/authorize")]

    @property
    def token_requests(self) -> list[dict[str, str]]:
        """The forms sent to /token."""
        return [request.form for request in self.at("/token")]

    @property
    def revoked(self) -> list[str]:
        """The tokens that were valid when they were sent to /revoke."""
        return self.provider.revoked

    @property
    def reused(self) -> list[str]:
        """The codes and refresh tokens that were used a second time."""
        return self.provider.reused

    @property
    def assertions(self) -> list[dict[str, Any]]:
        """The claims of the client assertions that were accepted."""
        return self.authenticator.claims

    # --- its clients --------------------------------------------------------------------------------------------

    def add_client(
        self,
        client_id: str,
        *,
        secret: str | None = None,
        redirect_uri: str | None = None,
        methods: Sequence[str] | None = None,
        grants: Sequence[str] = GRANTS,
        **more: Any,
    ) -> None:
        """Register a client beforehand; `jwks={...}` or `jwks_uri=` for private_key_jwt."""
        default = [SIGNED] if more.keys() & {"jwks", "jwks_uri"} else [BASIC, POST] if secret else [NONE]
        redirect_uris = [redirect_uri] if redirect_uri else None
        self.provider.clients[client_id] = Client(
            client_id=client_id,
            client_secret=secret,
            redirect_uris=redirect_uris,
            methods=list(methods or default),
            grant_types=list(grants),
            **more,
        )

    def know_document(self, client_id: str, document: Mapping[str, Any] | None = None, *, at: str = "") -> None:
        """Say what is served at an https client id: this document, or the one at this loopback URL."""
        if document is not None:
            self.provider.documents.given[client_id] = document
        else:
            self.provider.documents.elsewhere[client_id] = at

    def forget_clients(self) -> None:
        """Answer invalid_client to everybody who is registered now."""
        self.provider.clients.clear()

    # --- its tokens ---------------------------------------------------------------------------------------------

    @property
    def access_tokens(self) -> list[str]:
        """The ones that are valid now."""
        return [token for token in list(self.provider.access) if self.token(token) is not None]

    @property
    def refresh_tokens(self) -> list[str]:
        """The ones that are valid now."""
        return list(self.provider.refresh)

    def token(self, token: str) -> Access | None:
        """Return what is known of a valid access token: scopes, resource, client_id."""
        access = self.provider.access.get(token)
        return access if access is None or access.expires_at is None or access.expires_at > time.time() else None

    def expire_access_tokens(self) -> None:
        """End every access token; refresh tokens stay."""
        self.provider.access.clear()

    def revoke_everything(self) -> None:
        """End every sign-in, as a person does at the provider."""
        self.provider.end(*{entry.grant for entry in list(self.provider.access.values())})
        self.provider.end(*{entry.grant for entry in list(self.provider.refresh.values())})

    def issue(self, client_id: str, scopes: Sequence[str] = (), *, resource: str | None = None) -> OAuthToken:
        """Return tokens as if somebody had signed in, for a test that begins after that."""
        source = Access(
            token="", client_id=client_id, scopes=list(scopes), resource=resource, grant=secrets.token_hex(8)
        )
        return self.provider.issue(source, source.scopes, with_refresh=self.refresh)

    # --- trouble ------------------------------------------------------------------------------------------------

    def fail_tokens_with(self, status: int, error: str | None = None, *, times: int | None = None) -> None:
        """Answer so to token requests, so many times (None: always); `fail_tokens_with(200)` ends it."""
        self._failing = None if status == 200 else _Failure(status, error, times)

    def failure(self) -> Response | None:
        """Return the answer that the test asked for, if it asked for one."""
        failing = self._failing
        if failing is None or failing.times == 0:
            return None
        if failing.times is not None:
            failing.times -= 1
        if failing.error is None:
            return Response("<h1>secret detail</h1>", status_code=failing.status, media_type="text/html")
        members = {"error": failing.error, "error_description": "words of the provider"}
        return JSONResponse(members, status_code=failing.status)

    def hold_tokens(self, *, taken: bool = False) -> None:
        """Hold token requests: unread (who leaves was never there), or `taken`: done, with the answer held back."""
        (self.way_out if taken else self.way_in).close()

    def release_tokens(self) -> None:
        """Let the held ones go on."""
        self.way_in.open()
        self.way_out.open()

    @property
    def held(self) -> int:
        """How many token requests are held now."""
        return self.way_in.held + self.way_out.held

    def wait_until_held(self, count: int = 1) -> None:
        """Return when exactly so many are held (0: who was held has left); not in the event loop of a client."""
        (self.way_out if self.way_out.closed else self.way_in).wait_for(count)

    def disguised(self, parameters: Mapping[str, str]) -> str:
        """Return our /authorize with somebody else's request under a client id of ours, as in a mix-up attack."""
        client_id = next(reversed(self.provider.clients))
        return f"{self.url}/authorize?{urlencode({**parameters, 'client_id': client_id})}"


def approve(url: str, *, decision: str = "allow") -> str:
    """Do what a person's browser does with an /authorize URL; return the callback URL it ends at."""
    with httpx2.Client(trust_env=False, verify=NO_TLS) as browser:
        response = browser.get(url)
        while response.is_redirect:
            target = response.headers["location"]
            if not urlsplit(target).path.endswith(("/authorize", "/consent")):
                return target
            response = browser.get(target)
            if urlsplit(target).path.endswith("/consent"):
                ticket = dict(httpx2.URL(target).params)["ticket"]
                response = browser.post(target, data={"ticket": ticket, "decision": decision})
    raise AssertionError(f"{response.status_code}: {response.text}")
