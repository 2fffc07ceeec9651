"""Which way in: the authorization method that a server wants, found out by looking at it, and the change to it.

proposal         what the look at a server proposes before a connection is saved
after_a_refusal  what the server of a connection wants that has refused us, or that has no credential yet
offered          the method that a connection's page offers to take, with what becomes of the stored secrets
take             the change to it, through the form of connections: what that refuses stays refused
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from connections.errors import DuvoError
from connections.forms import ConnectionForm, Superseded
from connections.models import Authorization, Connection, Credential, Grant, User
from connections.models.connection import METHOD_OF
from connections.states import METHOD_WANTED, next_step
from oauth import discovering
from oauth.discovering import Conclusion
from oauth.models import Discovery

WANTED = "This server wants a sign-in."
# A sign-in server was found, and something has to be done before anybody can sign in there.
_FOUND = frozenset({"client_id_needed", "pkce_missing", "metadata_refused"})


class Proposal(NamedTuple):
    """The method that fits the server, None where nothing was seen of it, with a sentence and the next step."""

    method: Authorization | None
    sentence: str
    step: str = ""


class SignIn(NamedTuple):
    """Whether a server wants a sign-in, and what was found out about signing in, in a sentence."""

    wanted: bool
    sentence: str


class Offer(NamedTuple):
    """A method that a connection's page offers, and the secrets that are stored and would be removed."""

    method: Authorization
    removed: str

    @property
    def signs_in(self) -> bool:
        """Whether the person goes on to the sign-in."""
        return self.method == Authorization.OAUTH


class NotTaken(DuvoError):
    """The method was not changed."""


def proposal(conclusion: Conclusion) -> Proposal:
    """Return the method that the look at a server proposes; a person may choose another one."""
    seen, found, refusal = conclusion.entrance, conclusion.found, conclusion.refusal
    if not seen.status:
        return Proposal(None, seen.trouble or "The server did not answer.", "Check the address, or choose a method.")
    challenged = seen.status == HTTPStatus.UNAUTHORIZED
    named = found is not None and not found.guessed and (challenged or bool(found.trusted))
    if named or (challenged and refusal is not None and refusal.code in _FOUND):
        step = next_step(refusal.code) if refusal is not None else ""
        return Proposal(Authorization.OAUTH, f"{WANTED} {conclusion.sentence}", step)
    if challenged and _wants_a_password(seen.www_authenticate):
        return Proposal(
            Authorization.HEADERS,
            "This server asks for a user name and a password (HTTP 401, Basic), and names no sign-in server.",
            "Enter them below as a header: “Authorization: Basic ” and then user:password in Base64.",
        )
    if challenged:
        unread = f" {refusal.sentence}" if refusal is not None and refusal.code == "metadata_unavailable" else ""
        return Proposal(
            Authorization.API_KEY,
            f"This server asks who calls (HTTP 401), and names no sign-in server.{unread} Most servers of this kind "
            "want an API key.",
            "Enter the key below, or choose another method.",
        )
    if seen.status == HTTPStatus.FORBIDDEN:
        return Proposal(
            Authorization.API_KEY,
            "This server refuses strangers (HTTP 403), and names no sign-in server. It may want an API key.",
            "Enter the key below, or choose another method.",
        )
    if not HTTPStatus.OK <= seen.status < HTTPStatus.MULTIPLE_CHOICES:
        return Proposal(None, f"The server answered HTTP {seen.status}.", _step_after(seen.status))
    if seen.kind != "text/event-stream" and "json" not in seen.kind:
        what = "a page" if "html" in seen.kind else "something else"
        sentence = f"The server answered HTTP {seen.status} with {what}, which is no answer of an MCP server."
        return Proposal(None, sentence, next_step("not_streamable_http"))
    return Proposal(Authorization.NONE, "This server asks for no sign-in and no key.")


def _wants_a_password(challenge: str) -> bool:
    return challenge.strip().lower().startswith("basic") and "bearer" not in challenge.lower()


def _step_after(status: int) -> str:
    """Return what helps with the status of a server that neither lets us in nor asks who we are."""
    if status < HTTPStatus.BAD_REQUEST:
        return next_step("redirected")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return next_step("rate_limited")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return next_step("server_busy" if status == HTTPStatus.SERVICE_UNAVAILABLE else "server_failed")
    if status in {404, 405, 406, 415}:
        return next_step("not_streamable_http")
    return "Look into the server's documentation for what it wants, such as a header of its own, and choose a method."


def after_a_refusal(connection: Connection) -> SignIn:
    """Find out whether the server of a connection wants a sign-in, unless that was done a moment ago.

    A sign-in server that was only guessed does not count.
    """
    if not discovering.is_fresh(connection):
        discovering.discover_and_store(connection)
    row = Discovery.objects.filter(connection=connection, server_url=connection.server_url).first()
    if row is None:
        return SignIn(wanted=False, sentence="")
    named = bool(row.found) and not row.found.get("guessed")
    sentence = row.sentence if named or row.reason == "metadata_unavailable" or row.reason in _FOUND else ""
    return SignIn(named or row.reason in _FOUND, sentence)


def offered(connection: Connection) -> Offer | None:
    """Return the method that the last check found to fit, None where the one that is chosen may fit."""
    method = METHOD_WANTED.get(connection.credential_reason)
    if method is None or method == connection.authorization or not connection.enabled:
        return None
    kinds = [Credential.Kind(row.kind) for row in connection.credentials.filter(owner=None).order_by("kind")]
    removed = [kind.label for kind in kinds if METHOD_OF.get(kind, method) != method]
    return Offer(Authorization(method), " and ".join(removed))


def take(connection: Connection, offer: Offer, user: User) -> None:
    """Change the connection's method to the one that is offered; raises NotTaken with the reason."""
    data = ConnectionForm.data_of(connection) | {"authorization": offer.method.value, "keep_url_secret": True}
    if offer.signs_in:  # a person presses the button; what was set for another method long ago counts no more
        data |= {"oauth_grant": Grant.AUTHORIZATION_CODE.value}
    form = ConnectionForm(data, instance=connection, user=user)
    try:
        if form.is_valid():
            form.save()
            return
    except Superseded as late:
        raise NotTaken(late.sentence) from late
    faults = [line for fault in form.errors.as_data().values() for one in fault for line in one.messages]
    raise NotTaken(" ".join(faults))
