"""Are we let in? What checks and calls find out about a connection's credential.

A 401 or 403 changes the credential state, never the reachability. The state of an OAuth connection follows from its
sign-ins (oauth/credential_state.py); here only what its server answered is recorded for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from django.utils import timezone

from connections import egress, personal
from connections.errors import DuvoError
from connections.models import Authorization, Connection, Credential, Era, Grant
from connections.models.connection import ENTERED
from connections.states import CredentialState
from oauth import credential_state, discovering, feedback, flow, refreshing, revoking, ways_in
from oauth.errors import NeedsSignIn, OAuthError
from oauth.models import Discovery
from oauth.protocol import challenges
from oauth.refreshing import Bearer
from tools import mcp_client
from tools.catalog.upstream import server_for, with_bearer

Value = TypeVar("Value")
UNAUTHORIZED_ON_CALL = personal.ON_CALL
SIGN_IN_WANTED_ON_CALL = "sign_in_wanted_on_call"
ON_CALL = frozenset({UNAUTHORIZED_ON_CALL, SIGN_IN_WANTED_ON_CALL})  # a call was refused, and listings prove nothing
FORBIDDEN = credential_state.FORBIDDEN
_STILL_WANTED = 1.0  # seconds for which a check need not ask again whether its connection is in use
_STORED = {Authorization.API_KEY: "the API key that is stored", Authorization.HEADERS: "the headers that are stored"}


class CredentialMissing(DuvoError):
    """The credential that the authorization method needs is not set."""

    code = "credential_missing"


class CheckStopped(DuvoError):
    """The connection was disabled while it was checked."""

    code = "connection_disabled"


class Access:
    """A connection's server as one check asks it, with the token of the sign-in where there is one."""

    def __init__(self, connection: Connection, *, read_at: float, signed_in: bool = True) -> None:
        """Open the secrets and have a stale token renewed; raises CredentialMissing, SealBroken and OAuthError.

        The connection was read at `read_at` (monotonic seconds), and `signed_in` is False if it had no sign-in then.
        """
        if signed_in or any(row.owner_id for row in connection.credentials.all()):
            revoking.prune(connection)
        self._wanted_at = read_at
        self.connection = connection
        self.own = personal.for_checks(connection) if connection.own_kind else None
        connection.request_headers(self.own)  # a broken secret, or another server's, fails before anything is sent
        if self.own is None and _credential_missing(connection):
            raise self._without_credential()
        self.bearer = _token(connection) if connection.authorization == Authorization.OAUTH else None
        self._era_unknown = connection.era_choice == Era.AUTO  # a server may have been upgraded, or rolled back

    def ask(self, work: Callable[[mcp_client.Server], Coroutine[Any, Any, Value]]) -> Value:
        """Return what the server answers; a token that it refuses is renewed once.

        Raises as the MCP client does, and CheckStopped when the connection was disabled meanwhile.
        """
        if not self._may_send():
            raise CheckStopped
        try:
            return egress.run(work(self._server()))
        except mcp_client.Unauthorized as refusal:
            if self.bearer is None:
                raise
            try:
                self.bearer = egress.run(refreshing.renewed(self.bearer, refused=True))
            except NeedsSignIn:
                raise refusal from None
            except OAuthError:
                credential_state.settle(self.connection)
                raise
            return egress.run(work(self._server()))

    def end_session(self) -> None:
        """End the session of a check at a server that keeps some; nobody waits for that."""
        if self.connection.era != Era.MODERN and self._may_send():
            egress.submit(mcp_client.close(self._server()))

    def _may_send(self) -> bool:
        """Whether the connection was in use within the last second."""
        now = time.monotonic()
        if now - self._wanted_at > _STILL_WANTED:
            rows = Connection.objects.filter(pk=self.connection.pk, enabled=True, tenant__suspended_at=None)
            if not rows.exists():
                return False
            self._wanted_at = now
        return True

    @staticmethod
    def told(error: DuvoError) -> str:
        """Return the sentence of a failed check, with the server's own words where it said any."""
        said = error.said if isinstance(error, mcp_client.McpError) else ""
        return f"{error.sentence} {mcp_client.sentence_of(said)}".strip()

    def era_is_known(self) -> None:
        """Use the era that is stored in the connection from now on."""
        self._era_unknown = False

    def refused(self, error: mcp_client.Challenged) -> str:
        """Record that the server does not let us in and return the sentence about it."""
        connection = self.connection
        if connection.authorization == Authorization.OAUTH:
            self._record_challenge(error)
        elif self.own is not None:
            return self._record_own(self.own, error)
        elif isinstance(error, mcp_client.Forbidden) and not challenges.parse(error.www_authenticate):
            self._record_forbidden(error)
        elif (sign_in := ways_in.after_a_refusal(connection)).wanted:
            self._record_sign_in_wanted(sign_in.sentence)
        elif isinstance(error, mcp_client.Forbidden):
            self._record_forbidden(error)
        elif connection.is_open:
            sentence = f"The server asks for authorization (HTTP {error.status}), and names no sign-in server."
            sentence = f"{sentence} {sign_in.sentence or mcp_client.sentence_of(error.said)}".strip()
            connection.set_credential_state(CredentialState.MISSING, "authorization_needed", sentence)
        else:
            connection.set_credential_state(CredentialState.REFUSED, error.code, self.told(error))
        return connection.credential_sentence

    def let_in(self) -> tuple[bool, str]:
        """Record that the server listed its tools; return whether that proves the credential, and a sentence."""
        connection = self.connection
        if connection.authorization == Authorization.OAUTH:
            if self.bearer is None:
                _discover_sign_in(connection)
                discovering.needs_no_sign_in(connection)
            elif self.bearer.doubted and _listing_proves(connection):
                feedback.accepted(self.bearer.sign_in_id)
            credential_state.settle(connection, let_in=True)
            proved = connection.credential_state in {CredentialState.READY, CredentialState.EXPIRING}
            return proved, connection.credential_sentence
        if self.own is not None:
            personal.accepted(self.own.pk, by_listing=True)
            personal.settle(connection)
            return connection.credential_state == CredentialState.READY, connection.credential_sentence
        if connection.credential_reason in ON_CALL:
            # Some servers list openly and ask for a sign-in only on a call: a listing proves nothing there.
            if (sign_in := ways_in.after_a_refusal(connection)).wanted:
                self._record_sign_in_wanted(sign_in.sentence, on_call=True)
                return False, connection.credential_sentence
            return False, "The server lists its tools, but it refused the last call."
        state = CredentialState.NOT_NEEDED if connection.is_open else CredentialState.READY
        if not connection.says("credential", state):
            connection.set_credential_state(state)
        return True, "The server asks for none." if connection.is_open else "The server accepts the credential."

    def _server(self) -> mcp_client.Server:
        server = with_bearer(server_for(self.connection, own=self.own), self.bearer)
        return replace(server, era="unknown") if self._era_unknown else server

    def _record_own(self, own: Credential, error: mcp_client.Challenged) -> str:
        """Record that the server refuses what one member has entered, and return the sentence about it."""
        personal.refused(own.pk, error.code)
        personal.settle(self.connection)
        other = personal.for_checks(self.connection)
        if other is not None and not other.refused:  # the next check asks with that
            Connection.objects.filter(pk=self.connection.pk).update(next_probe_at=timezone.now())
        name = own.owner.get_username() if own.owner else "a member"
        return f"{self.told(error)} That is the {own.get_kind_display()} of {name}."

    def _record_challenge(self, error: mcp_client.Challenged) -> None:
        scopes = challenges.missing_scopes(error.www_authenticate)
        forbidden = isinstance(error, mcp_client.Forbidden)
        if self.bearer is None:
            _discover_sign_in(self.connection)
        elif scopes:
            feedback.scopes_missing(self.bearer.sign_in_id, scopes)
        elif forbidden and challenges.parse(error.www_authenticate).get("error") != "invalid_token":
            # The token was read, and its account may not do this: no other token helps.
            self._record_forbidden(error)
            return
        else:
            feedback.refused(self.bearer.sign_in_id)
            flow.discover_again(self.connection.pk)  # not in the background: the report shows what was found
        credential_state.settle(self.connection)
        if self.connection.credential_reason == credential_state.SERVER_REFUSES and error.said:
            credential_state.quote(self.connection, mcp_client.sentence_of(error.said))
        if forbidden and self.connection.credential_reason in discovering.NOWHERE:
            self._record_forbidden(error)  # nobody can sign in there

    def _record_forbidden(self, error: mcp_client.Challenged) -> None:
        """Record a 403 with the server's own words, and the permission that it asks for where it names one."""
        stranger = self.connection.authorization == Authorization.NONE or (
            self.connection.authorization == Authorization.OAUTH and self.bearer is None
        )
        scopes = challenges.missing_scopes(error.www_authenticate)
        sentence = "The server refuses access" if stranger else "The server refuses access with this credential"
        asks = f" It asks for the permission “{scopes[:100]}”." if scopes else ""
        sentence = f"{sentence} (HTTP {error.status}).{asks} {mcp_client.sentence_of(error.said)}".strip()
        reason = "access_refused" if stranger else FORBIDDEN
        self.connection.set_credential_state(CredentialState.REFUSED, reason, sentence)

    def _record_sign_in_wanted(self, found: str, *, on_call: bool = False) -> None:
        connection = self.connection
        method = Authorization(connection.authorization)
        stored = _STORED.get(method) if not _credential_missing(connection) else None
        refused = f"It refuses {stored}." if stored else ""
        refused = "It lists its tools without one, and refused a call." if on_call else refused
        state = CredentialState.REFUSED if stored else CredentialState.MISSING
        reason = SIGN_IN_WANTED_ON_CALL if on_call else "sign_in_wanted"
        connection.set_credential_state(state, reason, " ".join(filter(None, [ways_in.WANTED, refused, found])))

    def _without_credential(self) -> CredentialMissing:
        """Record that the method's credential is not stored, and whether it is a sign-in that the server wants."""
        missing = CredentialMissing()
        if self.connection.own_kind is not None:
            personal.settle(self.connection)
            return CredentialMissing(self.connection.credential_sentence)
        if (sign_in := ways_in.after_a_refusal(self.connection)).wanted:
            self._record_sign_in_wanted(sign_in.sentence)
            return CredentialMissing(self.connection.credential_sentence)
        self.connection.set_credential_state(CredentialState.MISSING, missing.code, missing.sentence)
        return missing


def record_failure(
    connection_id: UUID,
    failure: DuvoError,
    bearer: Bearer | None = None,
    *,
    own: UUID | None = None,
    server_url: str = "",
) -> None:
    """Record a failed call: a 401 or a missing scope changes the credential state, another era requests a probe.

    `server_url` is the server that was called; nothing is recorded if the connection has another one by now. `own` is
    the row of what a member has entered, if the call was made with that.
    """
    if isinstance(failure, mcp_client.Forbidden) and bearer is not None:
        if scopes := challenges.missing_scopes(failure.www_authenticate):
            feedback.scopes_missing(bearer.sign_in_id, scopes)
        return
    connection = Connection.objects.filter(pk=connection_id).first()
    if connection is None or (server_url and connection.server_url != server_url):
        return
    if isinstance(failure, mcp_client.EraChanged):
        connection.request_probe()
    elif isinstance(failure, mcp_client.Unauthorized) and bearer is not None:
        feedback.refused(bearer.sign_in_id)
    elif isinstance(failure, mcp_client.Unauthorized) and own is not None:
        personal.refused(own, UNAUTHORIZED_ON_CALL)
        personal.settle(connection)
    elif isinstance(failure, mcp_client.Unauthorized) and connection.credential_reason not in ON_CALL:
        state = CredentialState.MISSING if connection.authorization == Authorization.NONE else CredentialState.REFUSED
        sentence = "The server refused a call: it asks for a sign-in or a key (HTTP 401)."
        connection.set_credential_state(state, UNAUTHORIZED_ON_CALL, sentence)
        connection.request_probe()  # which finds out what the server wants


def record_success(
    connection_id: UUID, bearer: Bearer | None = None, *, own: UUID | None = None, server_url: str = ""
) -> None:
    """Record that a call succeeded after one was answered with 401; the rest is used as in `record_failure`."""
    if bearer is not None:
        feedback.accepted(bearer.sign_in_id)
        return
    if own is not None:
        personal.accepted(own)
        if (connection := Connection.objects.filter(pk=connection_id).first()) is not None:
            personal.settle(connection)
        return
    connection = Connection.objects.filter(pk=connection_id, credential_reason__in=ON_CALL).first()
    if connection is not None and server_url in {"", connection.server_url}:
        none = connection.authorization == Authorization.NONE
        connection.set_credential_state(CredentialState.NOT_NEEDED if none else CredentialState.READY)


def _credential_missing(connection: Connection) -> bool:
    kind = ENTERED.get(connection.authorization)
    return kind is not None and (connection.own_kind is not None or connection.stored(kind) is None)


def _token(connection: Connection) -> Bearer | None:
    """Return a token to check with, None when nobody is signed in."""
    bearer = refreshing.held_for_checks(connection)
    try:
        if bearer is None and connection.oauth_grant == Grant.CLIENT_CREDENTIALS:
            flow.fetch_tokens(connection)
            bearer = refreshing.held_for_checks(connection)
        elif bearer is not None and bearer.stale(timezone.now()):
            bearer = egress.run(refreshing.renewed(bearer))
    except OAuthError as failure:
        credential_state.settle(connection)
        if connection.oauth_grant == Grant.CLIENT_CREDENTIALS and bearer is None:
            flow.record_no_tokens(connection, failure)
            if failure.code in discovering.NOWHERE:
                return None  # perhaps the server wants no token at all
        raise
    return bearer


def _listing_proves(connection: Connection) -> bool:
    found = Discovery.objects.filter(connection=connection).first()
    return found is not None and found.listing_proves_a_token


def _discover_sign_in(connection: Connection) -> None:
    """Find out how to sign in, for the page, unless that was done a moment ago."""
    if not discovering.is_fresh(connection):
        discovering.discover_and_store(connection)
