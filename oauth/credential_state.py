"""What a connection's credential state is, derived from its sign-ins and from the last discovery of its server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from django.utils import timezone

from connections import moments, personal
from connections.models import Authorization, Connection, Grant, Sharing
from connections.states import CredentialState
from oauth.errors import CannotSignIn
from oauth.models import Discovery, SignIn
from oauth.protocol import choices

_FAILURES_BEFORE_ALARM = 2
_GOOD = frozenset({CredentialState.READY, CredentialState.EXPIRING})
SIGNER_LEFT = "signer_left"
FORBIDDEN = "forbidden"
SERVER_REFUSES = "token_refused"


class CredentialStatus(NamedTuple):
    """A credential state with its reason code and its sentence."""

    state: CredentialState
    reason: str
    sentence: str


def settle(connection: Connection, *, let_in: bool = False) -> None:
    """Bring the stored credential state of a connection in line with its rows; writes only what changed.

    Nothing is stored here of keys and headers that the organization shares. That the server forbids what the account
    asks for (403) is in no row: it stays until the server has `let_in` us.
    """
    if connection.authorization != Authorization.OAUTH:
        personal.settle(connection)
        return
    now = of_connection(connection, timezone.now())
    if now.state == CredentialState.READY and connection.credential_reason == FORBIDDEN and not let_in:
        return
    before = (connection.credential_state, connection.credential_reason, connection.credential_sentence)
    if before[:2] == now[:2] and now.reason == SERVER_REFUSES and before[2].startswith(now.sentence):
        return  # what the server said about it is in no row, either: see `quote`
    if before != now:
        connection.set_credential_state(*now)


def quote(connection: Connection, words: str) -> None:
    """Add what the server says about the token that it refuses to the sentence about that."""
    now = of_connection(connection, timezone.now())
    if now.reason == SERVER_REFUSES:
        connection.set_credential_state(now.state, now.reason, f"{now.sentence} {words}")


def of_connection(connection: Connection, now: datetime) -> CredentialStatus:
    """Return the credential state of an OAuth connection."""
    rows = SignIn.objects.within(connection).filter(connection=connection).select_related("person", "registration")
    sign_ins = [row for row in rows if row.fits(connection)]
    each = [of_sign_in(row, now) for row in sign_ins]
    if connection.sharing == Sharing.PERSONAL:
        good = {row.owner_id for row, status in zip(sign_ins, each, strict=True) if status.state in _GOOD}
        return _of_many(each, personal.reach(connection, good)) if sign_ins else _without_anybody(connection)
    if not sign_ins:
        return _without(connection)
    if each[0].state == CredentialState.READY and sign_ins[0].was_left_behind():
        return CredentialStatus(CredentialState.EXPIRING, SIGNER_LEFT, who_left(sign_ins[0]))
    return each[0]


def who_left(sign_in: SignIn) -> str:
    """Return the sentence about a sign-in of the organization that is the account of a person who has left."""
    person = sign_in.person
    name = person.get_username() if person else "a person"
    return f"Signed in by {name}, who has left. The account at the provider is theirs and may end any day."[:300]


def of_sign_in(sign_in: SignIn, now: datetime) -> CredentialStatus:
    """Return the credential state of one sign-in."""
    if sign_in.ended_at is not None:
        return _ended(sign_in)
    if sign_in.missing_scopes:
        return _lacking(sign_in)
    if sign_in.refused_at is not None:
        return CredentialStatus(
            CredentialState.REFUSED, SERVER_REFUSES, "The server refused the token of this sign-in."
        )
    if sign_in.expires_at is not None and sign_in.expires_at <= now:
        if not sign_in.renewable:
            return CredentialStatus(CredentialState.EXPIRED, "sign_in_ended", "The sign-in has ended.")
        sentence = "The token has expired, and the sign-in server does not renew it at this moment."
        return (
            CredentialStatus(CredentialState.EXPIRED, "refresh_failing", sentence)
            if sign_in.failures
            else _ready(sign_in)
        )
    if sign_in.expires_at is not None and not sign_in.renewable and sign_in.expires_at <= now + choices.ENDS_SOON:
        end = moment(sign_in.expires_at, now, sign_in.connection.tenant.zone)
        sentence = f"No refresh token: this sign-in ends at {end}."
        return CredentialStatus(CredentialState.EXPIRING, "sign_in_ends", sentence)
    if sign_in.expires_at is not None and sign_in.failures >= _FAILURES_BEFORE_ALARM:
        end = moment(sign_in.expires_at, now, sign_in.connection.tenant.zone)
        sentence = f"The token could not be renewed so far; it ends at {end}."
        return CredentialStatus(CredentialState.EXPIRING, "refresh_failing", sentence)
    return _ready(sign_in)


def closed(connection: Connection) -> CannotSignIn | None:
    """Return why nobody may sign in to this connection now, None if people may."""
    if connection.tenant.suspended_at is not None:
        return CannotSignIn(
            "The organization is suspended: nothing is sent to the provider.", code="organization_suspended"
        )
    if not connection.enabled:
        return CannotSignIn("The connection is disabled. Enable it first.", code="connection_disabled")
    return None


def moment(when: datetime, now: datetime, zone: tzinfo = UTC) -> str:
    """Return a moment as people of this zone read it: with the day unless it is today."""
    day, time = timezone.localdate(when, zone), moments.shown(when, "%H:%M", zone)
    return time if day == timezone.localdate(now, zone) else f"{time} on {day}"


def _without(connection: Connection) -> CredentialStatus:
    found = Discovery.objects.of(connection).first()
    if found is not None and found.reason:
        return CredentialStatus(CredentialState.MISSING, found.reason, found.sentence[:300])
    if connection.oauth_grant == Grant.CLIENT_CREDENTIALS:
        return CredentialStatus(CredentialState.NEEDS_SIGN_IN, "token_needed", "No token has been fetched yet.")
    approach = f" {found.sentence}" if found is not None else ""
    return CredentialStatus(CredentialState.NEEDS_SIGN_IN, "sign_in_needed", f"Nobody is signed in.{approach}"[:300])


def _ended(sign_in: SignIn) -> CredentialStatus:
    sentence = ENDED.get(sign_in.ended_because, "The sign-in has ended.")
    expired = sign_in.ended_because == "sign_in_ended"
    return CredentialStatus(
        CredentialState.EXPIRED if expired else CredentialState.REFUSED, sign_in.ended_because, sentence
    )


def _lacking(sign_in: SignIn) -> CredentialStatus:
    scopes = sign_in.missing_scopes[:200]
    if sign_in.step_ups >= choices.MOST_STEP_UPS:
        sentence = f"The server asks for the permission “{scopes}”, which {sign_in.step_ups} sign-ins did not bring."
        return CredentialStatus(CredentialState.REFUSED, "scope_not_granted", sentence)
    sentence = f"The server asks for the permission “{scopes}”, which this sign-in does not have."
    return CredentialStatus(CredentialState.REFUSED, "insufficient_scope", sentence)


def _ready(sign_in: SignIn) -> CredentialStatus:
    if sign_in.grant == Grant.CLIENT_CREDENTIALS:
        return CredentialStatus(CredentialState.READY, "", "The client has a token of its own.")
    return CredentialStatus(CredentialState.READY, "", "Signed in.")


def _without_anybody(connection: Connection) -> CredentialStatus:
    """Return the state of a personal connection to which nobody is signed in: whom to ask, if anybody needs it."""
    status, asked = _without(connection), personal.reach(connection, ()).sentence
    return status._replace(sentence=f"{asked} {status.sentence}"[:300]) if asked else status


def _of_many(each: Sequence[CredentialStatus], reach: personal.Reach) -> CredentialStatus:
    good = [one for one in each if one.state in _GOOD]
    if not good:
        return each[0]
    people = "1 member is signed in." if len(good) == 1 else f"{len(good)} members are signed in."
    if reach.total and not reach.able:
        sentence = f"{reach.sentence} {people}"[:300]
        return CredentialStatus(CredentialState.NEEDS_SIGN_IN, personal.OWNERS_NOT_CONNECTED, sentence)
    return CredentialStatus(CredentialState.READY, "", f"{people} {reach.sentence}".strip()[:300])


ENDED = {
    "sign_in_ended": "The sign-in has ended, and there was no refresh token to renew it.",
    "sign_in_revoked": "The provider no longer accepts the sign-in.",
    "client_forgotten": "The provider no longer knows the client that the sign-in was made with.",
    "issuer_changed": "The server now trusts another sign-in server than the one of this sign-in.",
}
