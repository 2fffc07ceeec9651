"""Signing in and out, in four verbs.

    begin            a person presses Sign in: run the discovery, find or register our client, return the provider's URL
    complete         the browser is back: check where it comes from, exchange the code for tokens
    fetch_tokens     no person signs in: the client gets tokens for itself (client credentials)
    sign_out         have the tokens revoked and delete them

`responses` says which answers of a browser may be used, `new_sign_in` stores what came of one, and `refreshing` renews
the tokens.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from django.utils import timezone

from connections import audit, egress
from connections.errors import DuvoError, SealBroken
from connections.models import Authorization, Connection, User
from connections.notices import notices
from connections.states import CredentialState
from oauth import (
    accounts,
    credential_state,
    discovering,
    new_sign_in,
    registering,
    responses,
    revoking,
    sign_in_notices,
    token_endpoint,
)
from oauth.errors import CallbackRefused, CannotSignIn, OAuthError, ProviderRefused
from oauth.models import PendingAuthorization, Registration, SignIn, Tokens, basis, digest
from oauth.protocol import addresses, choices, providers
from oauth.protocol.choices import ClientKind
from oauth.protocol.metadata import ServerMetadata
from oauth.protocol.steps import DiscoveryResult
from oauth.responses import AuthorizationResponse
from oauth.token_endpoint import Client

_MOST_PENDING = 20  # sign-ins of one person to one connection under way, or just over
_PENDING_KEPT_FOR = timedelta(days=1)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Completed:
    """A sign-in that was completed; with `again_at`, the URL at the provider where the person has to sign in again."""

    connection: Connection
    again_at: str = ""
    account: str = ""  # at the provider, as that says
    account_before: str = ""  # if it was another one


def begin(
    connection: Connection, *, user: User, session_key: str, anew: bool = False, after: ProviderRefused | None = None
) -> str:
    """Return the URL at the provider to send the browser to; with `anew` the provider is to ask for consent again.

    `after` a first try was refused, a new registration names its scopes if they were the reason. Raises CannotSignIn,
    with the reason in its code.
    """
    if (closed := credential_state.closed(connection)) is not None:
        raise closed
    conclusion = discovering.discover_and_store(connection, trying=True)
    if conclusion.refusal is not None or conclusion.found is None or conclusion.approach is None:
        credential_state.settle(connection)
        raise conclusion.refusal or CannotSignIn
    found, kind = conclusion.found, conclusion.approach.kind or ClientKind.PREREGISTERED
    if not found.server.authorization_endpoint:
        raise CannotSignIn("The sign-in server has no page to sign in at.", code="metadata_refused")
    before = SignIn.objects.filter(connection=connection, owner=new_sign_in.owner_of(connection, user)).first()
    scopes = _scopes(connection, found, before)
    named = scopes if after is not None and after.meaning == "invalid_scope" else ""
    registration = _registration(connection, found, kind, named, scopes)
    registering.client_of(registration, found.server)  # a missing secret is reported now, not after the consent
    pending = PendingAuthorization(
        connection=connection,
        user=user,
        registration=registration,
        session_digest=digest(session_key),
        server_url=connection.server_url,
        basis=basis(connection),
        server=found.server.model_dump(mode="json"),
        resource=_resource(connection, found),
        scopes=scopes,
        again=after is not None,
    )
    state, verifier = pending.prepare()
    pending.save(force_insert=True)
    mine = PendingAuthorization.objects.filter(connection=connection, user=user).order_by("-expires_at")
    mine.filter(pk__in=list(mine.values_list("pk", flat=True)[_MOST_PENDING:])).delete()
    audit.record(user, "connection.sign_in_started", connection, tenant=connection.tenant, issuer=found.server.issuer)
    return _authorization_url(pending, found.server, state, verifier, consent=anew)


def complete(response: AuthorizationResponse) -> Completed:
    """Finish a sign-in that `begin` started; raises CallbackRefused, ProviderRefused, ProviderUnavailable, SealBroken.

    A response that does not fit is refused before the pending authorization is used up or anything is changed; so is
    one that only another process can complete (SealKeyUnknown).
    """
    now = timezone.now()
    pending = responses.pending_of(response, now)
    connection = pending.connection
    server = discovering.server_of(pending.server)
    vouched_for = responses.check_issuer(response, server)
    if not response.code and not response.error:
        raise CallbackRefused("The provider sent you back without a code. Press Sign in again.", code="code_missing")
    if response.code:
        _check_keys(pending, server)
    if not pending.consume(now):
        raise responses.replayed()
    try:
        if response.error:
            raise ProviderRefused(response.error)
        client = registering.client_of(pending.registration, server)
        tokens = _exchange(pending, server, client, response.code)
        account = egress.run(accounts.find(server, pending.registration.client_id, tokens, pending.scopes))
        sign_in = new_sign_in.store(
            connection, pending.registration, server, client, tokens,
            person=response.user, asked=pending.scopes, resource=pending.resource, made_for=pending.basis,
            account=account,
        )  # fmt: skip
    except DuvoError as failure:
        audit.record(
            response.user, "connection.sign_in_failed", connection, tenant=connection.tenant, outcome=failure.code,
            error=getattr(failure, "error", ""),
        )  # fmt: skip
        _count_step_up(failure, pending)
        if not vouched_for or not isinstance(failure, ProviderRefused):
            raise
        if not _may_help(failure, pending, by_browser=bool(response.error)):
            raise
        url = begin(connection, user=response.user, session_key=response.session_key, after=failure)
        return Completed(connection, again_at=url)
    audit.record(
        response.user, "connection.signed_in", connection, tenant=connection.tenant,
        issuer=server.issuer, scopes=sign_in.scopes, renewable=sign_in.renewable, account=sign_in.account,
        account_before=sign_in.account_before,
    )  # fmt: skip
    return Completed(connection, account=sign_in.account, account_before=sign_in.account_before)


def fetch_tokens(connection: Connection) -> SignIn:
    """Get tokens with the client credentials grant (RFC 6749, section 4.4) and store them.

    Raises CannotSignIn, ProviderRefused, ProviderUnavailable and SealBroken.
    """
    if (closed := credential_state.closed(connection)) is not None:
        raise closed
    made_for = basis(connection)
    conclusion = discovering.discover_and_store(connection, trying=True)
    if conclusion.refusal is not None or conclusion.found is None:
        raise conclusion.refusal or CannotSignIn
    found = conclusion.found
    registration = registering.obtain(connection, found.server, ClientKind.PREREGISTERED)
    client = registering.client_of(registration, found.server)
    resource, scopes = _resource(connection, found), _scopes(connection, found, None)
    form = token_endpoint.form("client_credentials", scope=scopes, resource=resource)
    tokens = egress.run(token_endpoint.grant(found.server, client, form))
    sign_in = new_sign_in.store(
        connection, registration, found.server, client, tokens,
        person=None, asked=scopes, resource=resource, made_for=made_for,
    )  # fmt: skip
    audit.record(
        "system", "connection.signed_in", connection, tenant=connection.tenant,
        issuer=found.server.issuer, scopes=sign_in.scopes, grant=connection.oauth_grant,
    )  # fmt: skip
    return sign_in


def sign_out(connection: Connection, *, user: User) -> str:
    """Delete the tokens, have them revoked at the provider (RFC 7009), and return a sentence about it."""
    whole = SignIn.objects.select_related("connection__tenant", "registration__connection", "owner")
    sign_in = whole.filter(connection=connection, owner=new_sign_in.owner_of(connection, user)).first()
    if sign_in is None:
        return "Nobody was signed in."
    outcome = revoking.revoke_and_delete(sign_in)
    if outcome is None:
        return "Nobody was signed in."
    audit.record(
        user, "connection.signed_out", connection, tenant=connection.tenant, outcome=outcome, **sign_in.whose_account
    )
    notices.resolve(connection, sign_in.owner)
    credential_state.settle(connection)
    return _SIGNED_OUT.get(outcome, "Signed out here. The provider could not be told; remove the access there, too.")


def record_no_tokens(connection: Connection, failure: OAuthError) -> None:
    """Record that the client credentials grant brought no tokens, and why."""
    refused = isinstance(failure, ProviderRefused)
    state = CredentialState.REFUSED if refused else CredentialState.NEEDS_SIGN_IN
    code = failure.code if isinstance(failure, CannotSignIn) else "client_refused" if refused else "token_needed"
    connection.set_credential_state(state, code, failure.sentence)


def discover_again(connection_id: UUID) -> None:
    """Run the discovery after the server refused a token; end the sign-ins of issuers that it no longer names.

    A server that names none at this moment ends nothing: that its metadata is missing proves no change.
    """
    connection = Connection.objects.filter(pk=connection_id, authorization=Authorization.OAUTH).first()
    if connection is None or credential_state.closed(connection) is not None:
        return
    found = discovering.discover_and_store(connection).found
    now = timezone.now()
    trusted = found.trusted if found else ()
    for sign_in in SignIn.objects.filter(connection=connection, ended_at=None):
        still = any(addresses.same(issuer, sign_in.server["issuer"]) for issuer in trusted)
        if trusted and not still and sign_in.end("issuer_changed", now):
            audit.record(
                "system", "connection.sign_in_ended", connection, tenant=connection.tenant, outcome="issuer_changed"
            )
            sign_in.refresh_from_db()
            sign_in_notices.notify(sign_in)
    credential_state.settle(connection)


def forget_old(now: datetime) -> None:
    """Delete the pending authorizations that expired more than a day ago, completed or not."""
    PendingAuthorization.objects.filter(expires_at__lt=now - _PENDING_KEPT_FOR).delete()


_SIGNED_OUT = {
    "revoked": "Signed out. The provider has revoked the access.",
    "not_offered": "Signed out. The provider offers no way to revoke the access; you can remove it there.",
    "nothing_left": "Signed out. There was no token left to revoke.",
}


# --- begin ---


def _resource(connection: Connection, found: DiscoveryResult) -> str:
    """Return the `resource` parameter to send (RFC 8707), "" for none."""
    return "" if connection.oauth_omit_resource else connection.oauth_resource or found.resource


def _scopes(connection: Connection, found: DiscoveryResult, before: SignIn | None) -> str:
    missing = before.missing_scopes if before is not None and before.step_ups < choices.MOST_STEP_UPS else ""
    had = before.scopes if before is not None else ""
    return choices.scopes(found, configured=connection.oauth_scopes, missing=missing, had=had)


def _registration(
    connection: Connection, found: DiscoveryResult, kind: ClientKind, scopes: str, wanted: str
) -> Registration:
    """Return the registration to sign in with; raises CannotSignIn, which says so where the server was a guess."""
    if not found.guessed:
        return registering.obtain(connection, found.server, kind, scopes=scopes, wanted=wanted)
    if egress.run(discovering.page_is_missing(found.server.authorization_endpoint)):
        raise discovering.guess_failed(connection, "there is no page to sign in at.")
    try:
        return registering.obtain(connection, found.server, kind, scopes=scopes, wanted=wanted)
    except CannotSignIn as refusal:
        if refusal.code != "registration_refused":
            raise
        raise discovering.guess_failed(connection, "it does not register us there.") from refusal


def _authorization_url(
    pending: PendingAuthorization, server: ServerMetadata, state: str, verifier: str, *, consent: bool
) -> str:
    provider = providers.recognized(server.issuer)
    extra: dict[str, Any] = dict(provider.authorize) if provider else {}
    if consent:
        extra["prompt"] = "consent"
    if pending.resource:
        extra["resource"] = pending.resource
    url: str = prepare_grant_uri(
        server.authorization_endpoint,
        pending.registration.client_id,
        "code",
        redirect_uri=pending.registration.redirect_uri,
        scope=pending.scopes or None,
        state=state,
        code_challenge=create_s256_code_challenge(verifier),
        code_challenge_method="S256",
        **extra,
    )
    return url


# --- complete ---


def _may_help(refusal: ProviderRefused, pending: PendingAuthorization, *, by_browser: bool) -> bool:
    """Whether a new registration may help after a refusal, once; the present one is then retired.

    We register without scopes; some servers grant a client only the scopes that it has registered, and say so where
    scopes are asked for, in the authorization response.
    """
    if refusal.meaning == "invalid_client":
        return registering.forget(pending.registration) and not pending.again
    if refusal.meaning != "invalid_scope" or not by_browser or not pending.scopes or pending.again:
        return False
    return registering.forget(pending.registration, "scopes_needed")


def _check_keys(pending: PendingAuthorization, server: ServerMetadata) -> None:
    """Raise SealKeyUnknown for a sign-in that another process can complete: it must not be used up here."""
    with suppress(SealBroken, CannotSignIn):
        pending.verifier()
        registering.client_of(pending.registration, server)


def _count_step_up(failure: DuvoError, pending: PendingAuthorization) -> None:
    """Count a scope that the provider does not know as a step-up that brought nothing, so that the asking ends."""
    if not isinstance(failure, ProviderRefused) or failure.meaning != "invalid_scope":
        return
    connection = pending.connection
    before = SignIn.objects.filter(connection=connection, owner=new_sign_in.owner_of(connection, pending.user)).first()
    if before is not None and not set(pending.scopes.split()).isdisjoint(before.missing_scopes.split()):
        before.count_step_up()
        credential_state.settle(connection)


def _exchange(pending: PendingAuthorization, server: ServerMetadata, client: Client, code: str) -> Tokens:
    form = token_endpoint.form(
        "authorization_code",
        code=code,
        redirect_uri=pending.registration.redirect_uri,
        code_verifier=pending.verifier(),
        resource=pending.resource,
    )
    return egress.run(token_endpoint.grant(server, client, form))
