"""Which way in: the authorization method that a server wants, found out by looking at it, and the change to it.

proposal         what the look at a server proposes before a connection is saved
after_a_refusal  what the server of a connection wants that has refused us, or that has no credential yet
offered          the method that a connection's page offers to take, with what becomes of the stored secrets
take             the change to it, through the form of connections: what that refuses stays refused
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from connections import quoting, redirects
from connections.errors import DuvoError
from connections.forms import ConnectionForm, Superseded
from connections.models import Authorization, Connection, Credential, Grant, User
from connections.models.connection import METHOD_OF
from connections.states import METHOD_WANTED, next_step
from oauth import discovering
from oauth.discovering import Conclusion
from oauth.models import Discovery
from oauth.protocol import challenges
from oauth.protocol.steps import MetadataResponse

WANTED = "This server wants a sign-in."
_ENTER_A_KEY = "Enter the key below, or choose another method."
_GUARDED = "A guard in front of the server ({}) lets only browsers pass, and has stopped this request"
# Schemes by which nothing is sent here (RFC 9110, section 11; as registered, and as clouds have their own).
_NOT_SPOKEN = frozenset({
    "aws4-hmac-sha256", "concealed", "digest", "dpop", "gnap", "hawk", "hmac", "hoba", "kerberos", "mutual",
    "negotiate", "ntlm", "privatetoken", "scram-sha-1", "scram-sha-256", "vapid", "wsse",
})  # fmt: skip
# A sign-in server was found, and something has to be done before anybody can sign in there.
_FOUND = frozenset({"client_id_needed", "pkce_missing", "metadata_refused"})


class Proposal(NamedTuple):
    """The method that fits the server, None where none is seen to fit, with a sentence and the next step.

    `address` is another one of the same host to which the server redirects, "" for none.
    """

    method: Authorization | None
    sentence: str
    step: str = ""
    address: str = ""


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


def proposal(conclusion: Conclusion, url: str) -> Proposal:
    """Return the method that the look at the server at this URL proposes; a person may choose another one."""
    seen, found, refusal = conclusion.entrance, conclusion.found, conclusion.refusal
    if not seen.status:
        return Proposal(None, seen.trouble or "The server did not answer.", "Check the address, or choose a method.")
    if seen.guard:
        return Proposal(None, f"{_GUARDED.format(seen.guard)} (HTTP {seen.status}).", next_step("taken_for_a_bot"))
    challenged = seen.status == HTTPStatus.UNAUTHORIZED
    named = found is not None and not found.guessed and (challenged or bool(found.trusted))
    if named or (challenged and refusal is not None and refusal.code in _FOUND):
        step = next_step(refusal.code) if refusal is not None else ""
        return Proposal(Authorization.OAUTH, f"{WANTED} {conclusion.sentence}", step)
    said = quoting.sentence("the server's", seen.said)
    if challenged:
        unread = f" {refusal.sentence}" if refusal is not None and refusal.code == "metadata_unavailable" else ""
        return _of_a_challenge(seen.www_authenticate, unread, said)
    if seen.status == HTTPStatus.FORBIDDEN:
        sentence = "This server refuses strangers (HTTP 403), and names no sign-in server."
        return Proposal(Authorization.API_KEY, f"{sentence} {said or 'It may want an API key.'}", _ENTER_A_KEY)
    if seen.status >= HTTPStatus.BAD_REQUEST or seen.status < HTTPStatus.OK:
        return Proposal(None, f"The server answered HTTP {seen.status}. {said}".strip(), _step_after(seen.status))
    return _of_a_redirect(seen, url) if seen.status >= HTTPStatus.MULTIPLE_CHOICES else _of_a_success(seen, said)


def _of_a_challenge(challenge: str, unread: str, said: str) -> Proposal:
    """Return what is proposed for a 401 of a server that names no sign-in server."""
    schemes = challenges.schemes(challenge)
    spoken = [scheme.lower() for scheme in schemes if scheme.lower() not in _NOT_SPOKEN]
    if schemes and not spoken:
        sentence = f"This server asks who calls (HTTP 401) by {' or '.join(schemes)}, which is not supported here."
        step = "Ask the server's owner for an API key, or for a sign-in with OAuth."
        return Proposal(None, f"{sentence} {said}".strip(), step)
    if spoken == ["basic"]:
        return Proposal(
            Authorization.HEADERS,
            "This server asks for a user name and a password (HTTP 401, Basic), and names no sign-in server.",
            "Enter them below as a header: “Authorization: Basic ” and then user:password in Base64.",
        )
    sentence = f"This server asks who calls (HTTP 401), and names no sign-in server.{unread}"
    more = said or "Most servers of this kind want an API key."
    return Proposal(Authorization.API_KEY, f"{sentence} {more}", _ENTER_A_KEY)


def _of_a_success(seen: MetadataResponse, said: str) -> Proposal:
    """Return what is proposed for a 2xx: only a result shows that strangers are let in."""
    if seen.lets_in:
        return Proposal(Authorization.NONE, "This server asks for no sign-in and no key.")
    answered, step = f"The server answered HTTP {seen.status}", next_step("not_streamable_http")
    if seen.kind and seen.kind != "text/event-stream" and "json" not in seen.kind:
        what = "a page" if "html" in seen.kind else "something else"
        return Proposal(None, f"{answered} with {what}, which is no answer of an MCP server.", step)
    if not said:
        return Proposal(None, f"{answered} without a result, so it may or may not let strangers in.", step)
    return Proposal(
        None,
        f"{answered} with an error in it, so it lets no stranger in. {said}",
        "Choose the method that its words ask for; most servers of this kind want an API key.",
    )


def _of_a_redirect(seen: MetadataResponse, url: str) -> Proposal:
    """Return what is said of a server that redirects, with the address if it is at the same host."""
    try:
        reason, sentence = redirects.about(url, seen.status, seen.location)
    except (DuvoError, ValueError):
        reason, sentence = redirects.REASON, ""
    address = redirects.offered_by(sentence, url) if reason == redirects.REASON else ""
    sentence = sentence or f"The server answered HTTP {seen.status}."
    return Proposal(None, sentence, "" if address else next_step(reason), address)


def _step_after(status: int) -> str:
    """Return what helps with the status of a server that neither lets us in nor asks who we are."""
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
