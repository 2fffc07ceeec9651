"""Who we are at an authorization server: finding, making and retiring registrations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from connections import audit, egress
from connections.errors import SecretOfAnotherServer
from connections.models import Connection, Credential, TokenAuth
from oauth import discovering, token_endpoint
from oauth.errors import CannotSignIn, ProviderRefused, ProviderUnavailable
from oauth.models import Registration, SignIn
from oauth.protocol import choices
from oauth.protocol.choices import ClientKind
from oauth.protocol.metadata import ServerMetadata
from oauth.token_endpoint import Client

_MOST_RETIRED = 20  # registrations of one connection that are kept as history
_NEVER = 3000  # a year; who writes a later one means no end
LONGEST_CLIENT_ID = 2048  # characters; it travels in a URL
CLIENT_NAME = "Duvo Connections"


def redirect_uri() -> str:
    """Return our redirect URI: made from the setting PUBLIC_URL, never from a request."""
    return f"{settings.PUBLIC_URL}{reverse('oauth:callback')}"


def key_set_url(connection: Connection) -> str:
    """Return the URL of a connection's public key set (RFC 7517)."""
    return f"{settings.PUBLIC_URL}{reverse('oauth:keys', args=[connection.pk])}"


def client_metadata() -> dict[str, Any]:
    """Return our client metadata (RFC 7591, section 2), for registrations and our client ID metadata document.

    Without `scope`: a server would hold us to it and refuse a step-up later.
    """
    return {
        "client_name": CLIENT_NAME,
        "client_uri": settings.PUBLIC_URL,
        "redirect_uris": [redirect_uri()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "application_type": "web",
    }


def cimd_document() -> dict[str, Any]:
    """Return our client ID metadata document (draft-ietf-oauth-client-id-metadata-document).

    Servers refuse one with a `client_uri` that is not https, so that of a plain http PUBLIC_URL is left out.
    """
    metadata = client_metadata()
    if not metadata["client_uri"].startswith("https://"):
        del metadata["client_uri"]
    return {
        "client_id": settings.OAUTH_CLIENT_METADATA_URL,
        **metadata,
        "token_endpoint_auth_method": TokenAuth.NONE.value,
    }


def obtain(
    connection: Connection, server: ServerMetadata, kind: ClientKind, *, scopes: str = "", wanted: str = ""
) -> Registration:
    """Return the registration to sign in with, making one where there is none that can be used.

    A dynamic one is made with these scopes, "" for none: then a step-up may ask for any. With those that are `wanted`
    it is made where the server refuses it without any.
    Raises CannotSignIn, ProviderRefused and ProviderUnavailable.
    """
    if kind == ClientKind.PREREGISTERED:
        _check_issuer(connection, server)
    current = _current(connection, server)
    client_id = {
        ClientKind.PREREGISTERED: connection.oauth_client_id,
        ClientKind.CIMD: discovering.cimd_url(),
    }.get(kind)
    if current is not None and current.kind == kind and client_id in {None, current.client_id}:
        if current.secret_expires_at is None or current.secret_expires_at > timezone.now():
            return current
        _retire(current, "secret_expired")
    elif current is not None:
        _retire(current, "replaced")
    made = Registration(connection=connection, issuer=server.issuer, redirect_uri=redirect_uri(), kind=kind)
    if client_id is None:
        _register(connection, server, made, scopes, wanted)
    else:
        made.client_id = client_id
        # Our document says none, so nothing else is sent; of a client ID from Advanced settings `client_of` decides.
        made.auth_method = TokenAuth.NONE.value
    try:
        with transaction.atomic():
            made.save(force_insert=True)
            audit.record(
                "system", "connection.registered", connection, tenant=connection.tenant, kind=kind, issuer=server.issuer
            )
    except IntegrityError:  # a second person pressed Sign in at the same time and was quicker
        quicker = _current(connection, server)
        if quicker is None:
            raise
        return quicker
    return made


def client_of(registration: Registration, server: ServerMetadata) -> Client:
    """Return the client of a registration, its secrets opened; raises SealBroken and CannotSignIn."""
    connection = registration.connection
    if registration.issuer != server.issuer:
        raise _of_another_issuer()
    try:
        secret = registration.secret()
        key = _signing_key(registration)
    except SecretOfAnotherServer as refusal:
        raise _of_another_issuer() from refusal
    method = registration.auth_method
    if registration.kind == ClientKind.PREREGISTERED:  # what is set in Advanced settings now
        supported = server.token_endpoint_auth_methods_supported
        method = choices.auth_method(
            supported, chosen=connection.oauth_token_auth, has_secret=bool(secret), has_key=bool(key)
        )
    if method in choices.SECRET_METHODS and not secret:
        raise CannotSignIn("The client secret is missing.", code="client_secret_needed")
    if method == TokenAuth.PRIVATE_KEY_JWT and not key:
        raise CannotSignIn("The key that signs for us is missing.", code="signing_key_needed")
    return Client(registration.client_id, method, secret, key)


def _signing_key(registration: Registration) -> str:
    """Return the key to sign with: one from Advanced settings for one issuer only, that of a registration for any."""
    if registration.kind == ClientKind.PREREGISTERED:
        return registration.entered_secret(Credential.Kind.OAUTH_SIGNING_KEY)
    return str(registration.connection.secret(Credential.Kind.OAUTH_SIGNING_KEY) or "")


def _of_another_issuer() -> CannotSignIn:
    return CannotSignIn(
        "The server now names another sign-in server than the one the client secret was entered for. "
        "It is not sent there.",
        code="client_of_another_issuer",
    )


def forget(registration: Registration, because: str = "client_forgotten") -> bool:
    """Retire a registration that the provider no longer takes; False for one that only a person can replace."""
    if registration.kind != ClientKind.DCR:
        return False
    if registration.retired_at is None:
        _retire(registration, because)
    return True


def _retire(registration: Registration, because: str) -> None:
    connection = registration.connection
    registration.retire(because)
    # Those of a client ID from Advanced settings stay: they say which sign-in server its secret was used with.
    made_here = connection.registrations.filter(kind=ClientKind.DCR).exclude(retired_at=None).order_by("-retired_at")
    in_use = SignIn.objects.filter(connection=connection).values("registration")
    old = made_here.exclude(pk__in=in_use).values_list("pk", flat=True)[_MOST_RETIRED:]
    connection.registrations.filter(pk__in=list(old)).delete()
    audit.record(
        "system", "connection.registration_retired", connection, tenant=connection.tenant,
        outcome=because, issuer=registration.issuer,
    )  # fmt: skip


def _current(connection: Connection, server: ServerMetadata) -> Registration | None:
    return connection.registrations.filter(issuer=server.issuer, redirect_uri=redirect_uri(), retired_at=None).first()


def _check_issuer(connection: Connection, server: ServerMetadata) -> None:
    """Raise CannotSignIn if a client's secret or key was used at another issuer: it is sent to the first one only."""
    for kind in (Credential.Kind.OAUTH_CLIENT_SECRET, Credential.Kind.OAUTH_SIGNING_KEY):
        credential = connection.stored(kind)
        if credential is not None and (not credential.fits or credential.issuer not in {"", server.issuer}):
            raise _of_another_issuer()


def _register(connection: Connection, server: ServerMetadata, made: Registration, scopes: str, wanted: str) -> None:
    """Register dynamically (RFC 7591) and fill the row in; raises CannotSignIn."""
    asked = connection.oauth_token_auth or choices.registration_method(server.token_endpoint_auth_methods_supported)
    metadata = client_metadata() | {"token_endpoint_auth_method": asked}
    if asked == TokenAuth.PRIVATE_KEY_JWT:
        metadata["jwks_uri"] = key_set_url(connection)
    if scopes:
        metadata["scope"] = scopes
    try:
        answer = _registered(server, metadata, wanted or " ".join(server.scopes_supported or []))
    except (ProviderRefused, ProviderUnavailable) as refusal:
        raise CannotSignIn(
            f"The sign-in server did not register us: {refusal.sentence}", code="registration_refused"
        ) from refusal
    secret = answer["client_secret"]
    if len(answer["client_id"]) > LONGEST_CLIENT_ID or not answer["client_id"].isprintable():
        raise CannotSignIn("The client ID that the sign-in server gave cannot be sent.", code="registration_refused")
    made.client_id = answer["client_id"]
    made.auth_method = _method(answer, asked, server)
    if made.auth_method == TokenAuth.PRIVATE_KEY_JWT != asked:  # it has no key of ours to check with
        raise CannotSignIn(
            "The sign-in server registered us for private_key_jwt, which we did not ask for. Choose it in Advanced "
            "settings, or enter a client ID there.",
            code="registration_refused",
        )
    made.keep_secret(secret)
    made.secret_expires_at = _moment(answer.get("client_secret_expires_at")) if secret else None


def _registered(server: ServerMetadata, metadata: dict[str, Any], scopes: str) -> dict[str, Any]:
    """Return the answer to a registration, made once more with these scopes where it is refused without any."""
    try:
        return egress.run(token_endpoint.register(server, metadata))
    except ProviderRefused as refusal:
        if refusal.error != "invalid_client_metadata" or "scope" in metadata or not scopes:
            raise
        try:
            return egress.run(token_endpoint.register(server, metadata | {"scope": scopes}))
        except (ProviderRefused, ProviderUnavailable):
            raise refusal from None


def _method(answer: dict[str, Any], asked: str, server: ServerMetadata) -> str:
    """Return the method that the server settled on; what it does not say follows from whether it gave a secret.

    Raises CannotSignIn for a method with a secret, without a secret, at a server that takes no client without one.
    """
    echoed, supported = answer.get("token_endpoint_auth_method"), server.token_endpoint_auth_methods_supported
    if echoed in choices.SECRET_METHODS and not answer["client_secret"]:
        if supported is None or TokenAuth.NONE in supported:
            return TokenAuth.NONE.value
        raise CannotSignIn(
            f"The sign-in server registered us for {echoed}, but gave us no secret. Enter a client ID and its secret "
            "in Advanced settings.",
            code="registration_refused",
        )
    if isinstance(echoed, str) and echoed in TokenAuth.values and echoed:
        return echoed
    if not answer["client_secret"]:
        return asked if asked == TokenAuth.PRIVATE_KEY_JWT else TokenAuth.NONE.value
    if asked in choices.SECRET_METHODS:
        return asked
    return choices.auth_method(supported, has_secret=True)


def _moment(seconds: Any) -> datetime | None:
    """Return when a secret ends; 0 means never (RFC 7591, section 3.2.1)."""
    try:
        ends = datetime.fromtimestamp(float(seconds), UTC) if seconds and not isinstance(seconds, bool) else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return ends if ends is None or ends.year < _NEVER else None
