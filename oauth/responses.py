"""The browser is back: whose answer it brings, and which sign-in under way that answer may complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from connections.models import Connection, Role, Sharing, User
from oauth import credential_state
from oauth.errors import CallbackRefused
from oauth.models import PendingAuthorization, basis, digest
from oauth.protocol import choices
from oauth.protocol.metadata import ServerMetadata


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """The authorization response (RFC 6749, section 4.1.2; RFC 9207), and who brought it."""

    user: User
    session_key: str = field(repr=False)
    state: str = field(repr=False)
    code: str = field(default="", repr=False)
    error: str = ""
    iss: str | None = None


def may_sign_in(user: User, connection: Connection) -> bool:
    """Whether this person may sign in: for the organization its admins, for themselves its admins and members."""
    if connection.sharing == Sharing.PERSONAL:
        return user.is_active and user.own_roles.get(connection.tenant_id) in {Role.ADMIN, Role.MEMBER}
    return user.is_active and user.roles.get(connection.tenant_id) == Role.ADMIN


def pending_of(response: AuthorizationResponse, now: datetime) -> PendingAuthorization:
    """Return the pending authorization that this browser started and may complete; raises CallbackRefused."""
    waiting = PendingAuthorization.objects.select_related("connection__tenant", "registration__connection")
    pending = waiting.filter(state_digest=digest(response.state)).first() if response.state else None
    if pending is None:
        raise CallbackRefused("This sign-in was not started here. Press Sign in to start one.", code="unknown_state")
    if pending.user_id != response.user.pk or pending.session_digest != digest(response.session_key):
        raise CallbackRefused(
            "This sign-in was started in another browser or by another person. Press Sign in to start your own.",
            code="foreign_session",
        )
    if pending.consumed_at is not None:
        raise replayed()
    if pending.expires_at <= now:
        raise CallbackRefused(
            "This sign-in took longer than ten minutes and is no longer valid. Press Sign in again.",
            code="expired_state",
        )
    connection = pending.connection
    if (closed := credential_state.closed(connection)) is not None:
        raise CallbackRefused(f"{closed.sentence} Nothing was changed.", code=closed.code)
    if basis(connection) != pending.basis or not may_sign_in(response.user, connection):
        raise changed()
    return pending


def check_issuer(response: AuthorizationResponse, server: ServerMetadata) -> bool:
    """Whether the server that was asked vouches for this response by `iss`, or never does for any (RFC 9207).

    False for an error without the `iss` that it promised, as some servers send it: nothing of such a response is used
    but its error. Raises CallbackRefused for another's `iss`, and for a code without one.
    """
    if choices.expected_iss(server, response.iss):
        return True
    if response.iss:
        # What another server sent is not shown, not even its error (RFC 9207, section 2.4).
        raise CallbackRefused(
            "The answer came from another sign-in server than the one you were sent to. Nothing was changed.",
            code="wrong_issuer",
        )
    if response.error and not response.code:
        return False
    raise CallbackRefused(
        "The answer does not name its sender (iss), as this sign-in server promises to do, so it may come from another "
        "sign-in server. Nothing was changed.",
        code="wrong_issuer",
    )


def connection_of(response: AuthorizationResponse) -> Connection | None:
    """Return the connection that this person began to sign in to, whose page a failure links to; None if unknown."""
    mine = PendingAuthorization.objects.select_related("connection__tenant").filter(user=response.user)
    pending = mine.filter(state_digest=digest(response.state)).first()
    return pending.connection if pending is not None else None


def changed() -> CallbackRefused:
    """Return the refusal of an answer to a connection that has changed since."""
    return CallbackRefused(
        "The connection was changed while you signed in. Press Sign in again.", code="connection_changed"
    )


def replayed() -> CallbackRefused:
    """Return the refusal of an answer that was used before."""
    return CallbackRefused("This sign-in was completed before. Nothing was changed.", code="replayed")
