"""What we know about well-known sign-in servers: how to register a client there, and what their metadata omit."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: by which hosts it is recognized, and its part of the guide.

    `s256_unsaid`: its documentation says that it supports PKCE with S256, its metadata does not.
    `tenant_template`: what its documents write where an issuer has the tenant, "" if they write the issuer itself.
    """

    name: str
    hosts: tuple[str, ...]
    guide: tuple[str, ...]
    path: str = ""
    authorize: dict[str, str] = field(default_factory=dict)
    s256_unsaid: bool = False
    tenant_template: str = ""


PROVIDERS = (
    Provider(
        "Microsoft Entra ID",
        ("login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net"),
        (
            "In the Entra admin center open App registrations and press New registration.",
            "Under Redirect URI choose the platform Web and paste the redirect URI.",
            "Copy Application (client) ID into Client ID.",
            "Open Certificates & secrets, press New client secret and copy its Value (not its Secret ID).",
            "Entra refuses the resource parameter: tick “Send no resource”, and enter the scopes of your API.",
        ),
        s256_unsaid=True,
        tenant_template="{tenantid}",
    ),
    Provider(
        "Google",
        ("accounts.google.com",),
        (
            "In the Google Cloud console open APIs & Services, then Credentials.",
            "Press Create credentials, choose OAuth client ID and the application type Web application.",
            "Under Authorized redirect URIs paste the redirect URI.",
            "Copy Client ID and Client secret from the dialog that follows.",
        ),
        authorize={"access_type": "offline"},  # without it Google grants no refresh token
    ),
    Provider(
        "Auth0",
        ("auth0.com",),
        (
            "In the Auth0 dashboard open Applications and press Create Application; choose Regular Web Applications.",
            "On its Settings page paste the redirect URI into Allowed Callback URLs and save.",
            "Copy Client ID and Client Secret from the same page.",
            "Under APIs allow offline access for your API, so that the sign-in can be renewed.",
        ),
    ),
    Provider(
        "Okta",
        ("okta.com", "okta-emea.com", "oktapreview.com"),
        (
            "In the Okta admin console open Applications and press Create App Integration.",
            "Choose OIDC - OpenID Connect, then Web Application, and tick the grant Refresh Token.",
            "Paste the redirect URI into Sign-in redirect URIs.",
            "Copy Client ID and Client Secret from the tab General.",
        ),
    ),
    Provider(
        "GitHub",
        ("github.com",),
        (
            "On GitHub open Settings, then Developer settings, then OAuth Apps, and press New OAuth App.",
            "Paste the redirect URI into Authorization callback URL.",
            "Copy Client ID, press Generate a new client secret and copy it, too.",
        ),
    ),
    Provider(
        "Keycloak",
        (),
        (
            "In the Keycloak admin console choose the realm, open Clients and press Create client (OpenID Connect).",
            "Switch Client authentication on and leave Standard flow ticked.",
            "Paste the redirect URI into Valid redirect URIs.",
            "Copy Client ID from the tab Settings and the Client Secret from the tab Credentials.",
        ),
        path="/realms/",
    ),
)
ANYWHERE = (
    "Sign in to the console of your OAuth provider and add a client (also called app or application) of the type web.",
    "Paste the redirect URI into its list of allowed redirect (callback) URIs, exactly as it stands above.",
    "Copy its client ID and client secret into the fields here.",
)


def recognized(issuer: str) -> Provider | None:
    """Return the provider behind an issuer, None for one that is not known here."""
    parts = urlsplit(issuer)
    host = (parts.hostname or "").lower()
    for provider in PROVIDERS:
        if any(host == known or host.endswith(f".{known}") for known in provider.hosts):
            return provider
        if provider.path and provider.path in parts.path:
            return provider
    return None
