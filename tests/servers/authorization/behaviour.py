"""What a test may choose about an authorization server, at its start or while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.servers.running import Served

BASIC, POST, NONE, SIGNED = "client_secret_basic", "client_secret_post", "none", "private_key_jwt"
ALGORITHMS = ["RS256", "ES256", "PS256", "EdDSA"]


@dataclass(kw_only=True)
class Behaviour(Served):
    """The options; every one may also be set on the running server."""

    # Who may be a client.
    dcr: bool = True
    cimd: bool = False
    auth_methods: Sequence[str] | None = (BASIC, POST, NONE)  # None: not said in the metadata, everything accepted
    listed_methods: Sequence[str] | None = None  # what the metadata lists instead of the methods that are accepted
    echo_method: bool | str = True  # a registration's answer names the method; a text: this one, whatever was asked
    holds_to_scopes: bool = False  # a client gets the scopes that it registered, and who registered none gets basic
    secret_expires_at: int | None = None  # seconds since 1970, of secrets issued by registration
    client_credentials: bool = False

    # What the metadata says, and where.
    issuer_path: str = ""
    metadata: Literal["oauth", "oidc_inserted", "oidc_appended", "none"] = "oauth"
    metadata_issuer: Literal["right", "wrong"] = "right"
    pkce: bool = True
    scopes_supported: Sequence[str] | None = None
    hostile: Literal["huge", "deep", "html", "redirect", "not_json", "private_endpoint"] | None = None
    slow: float = 0  # seconds before the metadata comes

    # What a person sees, and what comes back from it.
    consent: Literal["auto", "page"] = "auto"
    deny: bool = False
    iss: Literal["right", "wrong", "absent", "absent_but_advertised"] = "right"

    # What tokens are like.
    expires_in: int | None = 3600  # seconds; None: not said, and they do not expire
    refresh: bool = True
    offline_access: bool = False  # advertised; a refresh token only for who asks for this scope
    rotate: bool = True  # a refresh brings a new refresh token, else none
    revoke_on_reuse: bool = True  # an old refresh token ends the whole sign-in
    form_encoded: bool = False
    reject_resource: bool = False
    grants_scopes: Sequence[str] | None = None  # None: what was asked for
    account: Mapping[str, Any] | None = None  # claims of the ID token that comes with each token
    userinfo: Mapping[str, Any] | None = None  # what the user-info endpoint says; None: there is none
    slow_tokens: float = 0  # seconds before a token request is read

    @property
    def url(self) -> str:
        return f"{self.origin}{self.issuer_path}"

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def advertised_scopes(self) -> list[str] | None:
        """What `scopes_supported` says."""
        if self.offline_access:
            return [*(self.scopes_supported or ()), "offline_access"]
        return None if self.scopes_supported is None else list(self.scopes_supported)
