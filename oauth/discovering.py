"""Running a discovery: send the requests that `oauth.protocol.discovery` asks for, and store what was found."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urldefrag, urljoin, urlsplit

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone
from pydantic import ValidationError

from connections import deleting, egress, guards, quoting
from connections.egress import sealed
from connections.errors import DuvoError
from connections.models import Connection, Grant
from oauth import credential_state
from oauth.errors import CannotSignIn
from oauth.models import Discovery
from oauth.protocol import addresses, choices, knocks
from oauth.protocol.discovery import MetadataDiscovery
from oauth.protocol.metadata import LONGEST, ServerMetadata
from oauth.protocol.steps import DiscoveryResult, MetadataRequest, MetadataResponse, Step

DOCUMENT_TIMEOUT = 10.0  # seconds for one document
_FRESH_FOR = timedelta(hours=1)
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_HOPS = 3
_NO_SERVER = "no_authorization_server"
NOT_NEEDED = "sign_in_not_needed"
NOWHERE = frozenset({_NO_SERVER, NOT_NEEDED})  # there is no sign-in server
_SHORTEST_SECRET = 12  # characters; a shorter text may be part of a URL by chance
_LONGEST_WORDS = 500  # characters of what a server says
_COURTESY = 2.0  # seconds to end a session of the server
WHOLE_TIMEOUT = 25.0  # seconds for all of them: a person waits
_PKCE_ASSUMED = Step(
    "PKCE with S256",
    "",
    "Not announced",
    "Advanced settings say that it is supported though not announced; it is sent in any case.",
    good=True,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a connection's settings say about signing in."""

    server_url: str
    client_id: str = ""
    grant: str = Grant.AUTHORIZATION_CODE.value
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # sent to the MCP server only
    authorization_server: str = ""  # an issuer, or a metadata document, that an admin trusts
    assume_pkce: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The outcome of a discovery: its steps, what was found, how we get a client ID, or why nobody can sign in."""

    steps: list[Step]
    sentence: str
    found: DiscoveryResult | None = None
    approach: choices.ClientApproach | None = None
    refusal: CannotSignIn | None = None
    entrance: MetadataResponse = field(default_factory=MetadataResponse)  # of the MCP server, without a token


def cimd_url() -> str:
    """Return the URL that is our client ID where the server reads client metadata documents; "" if it cannot be one."""
    url: str = settings.OAUTH_CLIENT_METADATA_URL
    return url if url.startswith("https://") else ""


def discover(wanted: Settings) -> Conclusion:
    """Run the discovery of a server now and store nothing; what a server does wrong is in the outcome, not raised."""
    walk = MetadataDiscovery(wanted.server_url, trusts=wanted.authorization_server)
    try:
        found = _without_secrets(egress.run(_drive(walk, wanted.headers)), wanted)
        secrets = set(_secrets_of(wanted))  # a server may repeat a header where it names the scopes
        scopes = " ".join(scope for scope in found.challenge_scopes.split() if not any(s in scope for s in secrets))
        found = replace(found, challenge_scopes=scopes)
        approach = choices.client_approach(
            found.server, client_id=wanted.client_id, cimd_url=cimd_url(), grant=wanted.grant, guessed=found.guessed
        )
        if wanted.grant == Grant.AUTHORIZATION_CODE:
            choices.check_pkce(found.server, assumed=wanted.assume_pkce)
            if not choices.announces_pkce(found.server):
                walk.steps.append(_PKCE_ASSUMED)
        if approach.kind is None:
            refusal = CannotSignIn(approach.sentence, code="client_id_needed")
            entrance = _entrance(walk, wanted)
            return Conclusion(_redacted(walk.steps, wanted), approach.sentence, found, approach, refusal, entrance)
    except CannotSignIn as refusal:
        sentence = refusal.sentence
        for secret in _secrets_of(wanted):  # a server may repeat one where it says who it is
            sentence = sentence.replace(secret, "…")
        refusal = CannotSignIn(sentence, code=refusal.code)
        return Conclusion(_redacted(walk.steps, wanted), sentence, refusal=refusal, entrance=_entrance(walk, wanted))
    entrance = _entrance(walk, wanted)
    return Conclusion(_redacted(walk.steps, wanted), approach.sentence, found, approach, entrance=entrance)


def discover_and_store(connection: Connection, *, trying: bool = False) -> Conclusion:
    """Run the discovery of a connection's server and store the outcome, which the connection's page shows.

    A guess that has failed is not made again, unless a person is `trying` to sign in.

    After the end of the connection, or while its organization is suspended, nobody is asked and nothing is stored: the
    conclusion's refusal says so. That is read anew, as the connection may have been disabled while it was checked.
    Raises SealBroken and SecretOfAnotherServer.
    """
    now = Connection.objects.select_related("tenant").filter(pk=connection.pk).first()
    if now is None or (closed := credential_state.closed(now)) is not None:
        refusal = CannotSignIn("The connection was deleted.") if now is None else closed
        return Conclusion([], refusal.sentence if refusal else "", refusal=refusal)
    wanted = Settings(
        connection.server_url,
        connection.oauth_client_id,
        connection.oauth_grant,
        connection.bare_headers(),  # asked as a stranger, without the key that another method may have stored
        connection.oauth_authorization_server,
        connection.oauth_assume_pkce,
    )
    conclusion = discover(wanted)
    if not trying and conclusion.found is not None and conclusion.found.guessed:
        conclusion = _as_it_failed(connection, conclusion)
    if conclusion.refusal is not None and conclusion.refusal.code == _NO_SERVER:
        conclusion = _as_it_is_open(connection, conclusion)
    try:
        Discovery.objects.update_or_create(
            connection=connection,
            defaults={
                "server_url": connection.server_url,
                "authorization_server": connection.oauth_authorization_server,
                "assumed_pkce": connection.oauth_assume_pkce,
                "looked_at": timezone.now(),
                "steps": [asdict(step) for step in conclusion.steps],
                "found": asdict_of(conclusion.found),
                "rung": (conclusion.approach and conclusion.approach.kind) or "",
                "reason": conclusion.refusal.code if conclusion.refusal else "",
                "sentence": conclusion.sentence,
            },
        )
    except DatabaseError as failure:
        if not deleting.is_gone(failure):
            raise
        refusal = CannotSignIn("The connection was deleted.")
        return Conclusion([], refusal.sentence, refusal=refusal)
    return conclusion


def needs_no_sign_in(connection: Connection) -> None:
    """Store that nobody has to sign in, where a server without documents about it has listed its tools to a stranger.

    Nothing is stored of a server that has such documents: it may want a sign-in for calls only.
    """
    rows = Discovery.objects.filter(connection=connection, server_url=connection.server_url, found={})
    sentence = "The server needs no sign-in: it lists its tools without one, and names no sign-in server."
    rows.filter(reason=_NO_SERVER).update(reason=NOT_NEEDED, sentence=sentence)


def guess_failed(connection: Connection, seen: str) -> CannotSignIn:
    """Store that nobody can sign in where we guessed, because of what was `seen` there, and return that as an error."""
    sentence = f"The server does not say where to sign in, and our guess, its own address, failed: {seen}"
    rows = Discovery.objects.of(connection)
    rows.update(reason=_NO_SERVER, sentence=sentence[:500])
    credential_state.settle(connection)
    return CannotSignIn(sentence, code=_NO_SERVER)


async def page_is_missing(url: str) -> bool:
    """Whether there is no page for a browser at this URL: nobody is sent to one that was guessed and is not there."""
    try:
        answer = await egress.fetch("GET", url, timeout=DOCUMENT_TIMEOUT, head_only=True)
    except DuvoError:
        return True
    wants_a_token = answer.status == 401 and "bearer" in answer.headers.get("www-authenticate", "").lower()  # noqa: PLR2004
    return wants_a_token or answer.status in {404, 405, 410}


def _as_it_failed(connection: Connection, conclusion: Conclusion) -> Conclusion:
    """Return the conclusion from a guess, or, where the same guess has failed before, that it has."""
    before = Discovery.objects.of(connection).first()
    if before is None or before.reason != _NO_SERVER or not before.found.get("guessed"):
        return conclusion
    refusal = CannotSignIn(before.sentence, code=_NO_SERVER)
    return replace(conclusion, sentence=before.sentence, refusal=refusal)


def _as_it_is_open(connection: Connection, conclusion: Conclusion) -> Conclusion:
    """Return the conclusion, or, of a server that was seen to need no sign-in and still asks for none, just that."""
    before = Discovery.objects.filter(
        connection=connection, server_url=connection.server_url, reason=NOT_NEEDED
    ).first()
    if before is None or conclusion.entrance.status == HTTPStatus.UNAUTHORIZED:
        return conclusion
    refusal = CannotSignIn(before.sentence, code=NOT_NEEDED)
    return replace(conclusion, sentence=before.sentence, refusal=refusal)


def is_fresh(connection: Connection) -> bool:
    """Whether the last discovery of this server was within an hour and found nothing that prevents a sign-in."""
    since = timezone.now() - _FRESH_FOR
    return Discovery.objects.of(connection).filter(looked_at__gte=since, reason="").exists()


def asdict_of(found: DiscoveryResult | None) -> dict[str, Any]:
    """Return what was found as JSON, {} for nothing."""
    return {} if found is None else {**asdict(found), "server": found.server.model_dump(mode="json")}


def server_of(data: Mapping[str, Any]) -> ServerMetadata:
    """Return the authorization server's metadata from the JSON that a row stores.

    Raises CannotSignIn where it names an address that may be asked no more: the operator may have narrowed the egress.
    """
    try:
        return ServerMetadata.model_validate(dict(data))
    except ValidationError:
        raise CannotSignIn(
            "The sign-in server is at an address that may not be asked any more, so nothing is sent there.",
            code="metadata_refused",
        ) from None


def _redacted(steps: list[Step], wanted: Settings) -> list[Step]:
    """Return the steps without header values that a server repeats in a URL: steps are stored, and shown to staff."""
    for secret in _secrets_of(wanted):
        for number, step in enumerate(steps):
            url, conclusion = step.url.replace(secret, "…"), step.conclusion.replace(secret, "…")
            steps[number] = replace(step, url=url, conclusion=conclusion)
    return steps


def _entrance(walk: MetadataDiscovery, wanted: Settings) -> MetadataResponse:
    """Return what the MCP server answered, its words without what we sent: header values, and parts of the address."""
    parts = urlsplit(wanted.server_url)
    steps = (step for step in parts.path.split("/") if len(step) >= _SHORTEST_SECRET)
    sent = [*_secrets_of(wanted), parts.query, *(value for _, value in parse_qsl(parts.query)), *steps]
    said = quoting.without(walk.entrance.said, [*sent, *map(unquote, sent)])
    return replace(walk.entrance, said=quoting.readable(said, _LONGEST_WORDS))


def _secrets_of(wanted: Settings) -> list[str]:
    """Return what of the headers a server may repeat; that of the address as it stands there, and as it is read."""
    values = [value.removeprefix("Bearer ") for value in wanted.headers.values()]
    in_address = wanted.headers.get(sealed.PLACE, "")
    return [value for value in [*values, unquote(in_address)] if len(value) >= _SHORTEST_SECRET]


def _without_secrets(found: DiscoveryResult, wanted: Settings) -> DiscoveryResult:
    """Return what was found with the server named without a secret; raises CannotSignIn if others are in it."""

    def holds_one(text: str) -> bool:
        return any(secret in text or secret in unquote(text) for secret in _secrets_of(wanted))

    if holds_one(found.resource):
        found = replace(found, resource=egress.without(wanted.server_url))
    if holds_one(json.dumps(asdict_of(found), ensure_ascii=False)):
        raise CannotSignIn("The server repeats a secret in what it says about signing in.", code="metadata_refused")
    return found


async def _drive(discovery: MetadataDiscovery, headers: Mapping[str, str]) -> DiscoveryResult:
    walk = discovery.walk()
    deadline = asyncio.get_running_loop().time() + WHOLE_TIMEOUT
    request = next(walk)
    try:
        while True:
            left = deadline - asyncio.get_running_loop().time()
            request = walk.send(await _fetch(request, headers if request.method == "POST" else {}, left))
    except StopIteration as end:
        found: DiscoveryResult = end.value
        return found


async def _fetch(request: MetadataRequest, headers: Mapping[str, str], left: float) -> MetadataResponse:
    """Send a request; a document that has moved within its server is fetched where it is, after at most three hops."""
    if left <= 0:
        return MetadataResponse(trouble="There was no time left to ask: the documents before it took too long.")
    clock = asyncio.get_running_loop().time
    url, ends = request.url, clock() + min(left, DOCUMENT_TIMEOUT)
    for hop in range(_MOST_HOPS + 1):
        try:
            answer = await egress.fetch(
                request.method,
                url,
                headers={"accept": "application/json", **headers, **request.headers},
                content=request.content,
                max_bytes=LONGEST,
                timeout=max(ends - clock(), 0.0),
                enough=knocks.is_whole if request.content is not None else None,
            )
        except DuvoError as error:
            return MetadataResponse(trouble=error.sentence, code=error.code)
        session = answer.headers.get("mcp-session-id", "")
        if request.method == "POST" and session and session.isascii() and session.isprintable():
            await _end_session(url, {**headers, "mcp-session-id": session}, ends - clock())
        target = _target(url, answer) if request.method == "GET" else ""
        if not target:
            came_from = url if hop else ""
            challenge = answer.headers.get("www-authenticate", "")
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            location, guard = answer.headers.get("location", ""), guards.among(answer.headers)
            return MetadataResponse(
                answer.status, answer.body, challenge, kind=kind, came_from=came_from, location=location,
                guard=guard,
            )  # fmt: skip
        if not addresses.may_move(request.url, target):
            return MetadataResponse(answer.status, leads_to=egress.origin(target) or "which has no address")
        url = target
    return MetadataResponse(trouble="It has moved more than three times.")


async def _end_session(url: str, headers: Mapping[str, str], left: float) -> None:
    """Tell a server of the handshake era that the session which it opened for the look is over (2025-11-25)."""
    with contextlib.suppress(DuvoError):  # a courtesy: such a server forgets the session by itself later
        await egress.fetch("DELETE", url, headers=headers, timeout=min(_COURTESY, max(left, 0.0)), head_only=True)


def _target(url: str, answer: egress.Answer) -> str:
    """Return where a redirect leads (RFC 9110, section 15.4), "" for another answer."""
    location = answer.headers.get("location", "")
    if answer.status not in _REDIRECTS or not location:
        return ""
    try:
        return urldefrag(urljoin(url, location)).url
    except ValueError:
        return location
