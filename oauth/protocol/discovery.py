"""What a server says about signing in, found out without doing I/O.

`walk` asks for one document after the other (RFC 9728, RFC 8414, OpenID Connect Discovery 1.0) and is handed what came
back; whoever drives it does the fetching. Every document and what was concluded from it is noted as a step, so that
a person can read how the conclusion came about.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import orjson

from connections import egress
from oauth.errors import CannotSignIn
from oauth.protocol import knocks
from oauth.protocol.addresses import is_document, is_template_of, issuer_of_document, names, normal, same, same_origin
from oauth.protocol.challenges import Challenge, metadata_hint, parse
from oauth.protocol.metadata import (
    ENDPOINTS,
    MetadataError,
    ResourceMetadata,
    ServerMetadata,
    covers,
    never_asked,
    read,
    valid_scopes,
)
from oauth.protocol.steps import DiscoveryResult, MetadataRequest, MetadataResponse, Step

Document = TypeVar("Document", ResourceMetadata, ServerMetadata)

MOST_SERVERS = 3  # of the authorization servers that a resource names
_LONGEST_SAID = 80  # characters of an issuer that fits into a sentence
_RESOURCE_PATH = "/.well-known/oauth-protected-resource"
_OAUTH_PATH = "/.well-known/oauth-authorization-server"
_OPENID_PATH = "/.well-known/openid-configuration"
_NONE_HERE = {404, 410}
_NOT_FOR_STRANGERS = {401, 403}
_LATER = {408: "The server did not get the question in time.", 429: "It answers too many requests now."}
_NEVER_ASKED = {"https_required", "localhost", "port_forbidden", "private_address", "private_name"}


class MetadataDiscovery:
    """The discovery of one server; `walk` appends to `steps`."""

    def __init__(self, server_url: str, *, trusts: str = "") -> None:
        """Take the URL of the MCP server, and the issuer or the metadata document that an admin trusts, "" for none."""
        self.steps: list[Step] = []
        self.entrance = MetadataResponse()  # what the MCP server itself answered without a token
        self._asked = server_url
        self._url = egress.without(server_url)  # as it is named to others
        self._trusts = trusts
        self._other = ""
        self._broken = ""  # why a document that is there cannot be used, or its address never asked
        self._unanswered = False
        self._guessed = False

    def walk(self) -> Generator[MetadataRequest, MetadataResponse, DiscoveryResult]:
        """Yield each request, take what came back, and return what was found; raises CannotSignIn."""
        challenge = yield from self._challenge()
        metadata = yield from self._resource(challenge.get("resource_metadata", "") if challenge else "")
        scopes = " ".join(valid_scopes(challenge.get("scope", "").split())) if challenge else ""
        if self._trusts:
            server = yield from self._trusted_server(metadata.authorization_servers if metadata else [])
            resource, supported = (metadata.resource, _scopes(metadata)) if metadata else (self._url, None)
            return DiscoveryResult(server, resource, scopes, supported, (server.issuer,), challenge is not None)
        if metadata is not None and metadata.authorization_servers:
            server = yield from self._server(metadata.authorization_servers[:MOST_SERVERS])
            # As the server writes itself, which is what everything is recorded under.
            named = metadata.authorization_servers
            trusted = tuple(server.issuer if same(issuer, server.issuer) else issuer for issuer in named)
            return DiscoveryResult(server, metadata.resource, scopes, _scopes(metadata), trusted, challenge is not None)
        server = yield from self._server_of_2025_03(guess=challenge is not None)
        challenged, guessed = challenge is not None, self._guessed
        return DiscoveryResult(server, self._url, scopes, challenged=challenged, guessed=guessed)

    # --- the MCP server itself ---

    def _challenge(self) -> Generator[MetadataRequest, MetadataResponse, Challenge | None]:
        """Send a request without a token and return the challenge, None when none came (RFC 6750, section 3).

        A server of the handshake era may refuse what it does not know before it asks who calls: so it is asked again.
        """
        response, challenge = yield from self._knock(knocks.DISCOVER_HEADERS, knocks.DISCOVER)
        if challenge is None and _says_no(response):
            response, challenge = yield from self._knock(knocks.HANDSHAKE_HEADERS, knocks.INITIALIZE)
        lets_in = 200 <= response.status < 300 and knocks.lets_in(response.body)  # noqa: PLR2004 - successful
        said = "" if lets_in else knocks.words_in(response.body, response.kind)
        self.entrance = replace(response, body=b"", lets_in=lets_in, said=said)
        return challenge

    def _knock(
        self, headers: Mapping[str, str], message: dict[str, Any]
    ) -> Generator[MetadataRequest, MetadataResponse, tuple[MetadataResponse, Challenge | None]]:
        request = MetadataRequest(
            self._asked, "The MCP server, without a token", "POST", headers, orjson.dumps(message)
        )
        response = yield request
        if response.trouble:
            self._note(request, response, response.trouble, good=False)
            return response, None
        if response.status != 401:  # noqa: PLR2004 - Unauthorized
            self._note(request, response, "It did not ask for a sign-in here.", good=True)
            return response, None
        challenge, pointer = parse(response.www_authenticate), metadata_hint(response.www_authenticate)
        if pointer:
            challenge["resource_metadata"] = pointer
        conclusion = f"It names its metadata: {pointer}" if pointer else "It does not name its metadata."
        self._note(request, response, f"It asks for a sign-in. {conclusion}", good=True)
        return response, challenge

    # --- protected resource metadata, RFC 9728 ---

    def _resource(self, hint: str) -> Generator[MetadataRequest, MetadataResponse, ResourceMetadata | None]:
        parts = urlsplit(self._url)
        origin = f"{parts.scheme}://{parts.netloc}"
        urls = [
            _from(self._url, hint) if hint else "",
            f"{origin}{_RESOURCE_PATH}{parts.path.rstrip('/')}",
            f"{origin}{_RESOURCE_PATH}",
        ]
        for url in dict.fromkeys(url for url in urls if url):
            request = MetadataRequest(url, "Protected resource metadata")
            response = yield request
            document = self._document(request, response, ResourceMetadata)
            if document is None:
                continue
            if not covers(document.resource, self._url):
                conclusion = f"It describes another server, {document.resource}, so it is not used."
                self._note(request, response, conclusion, good=False)
                if self._trusts:
                    continue
                raise _described(document.resource, self._url)
            servers = ", ".join(document.authorization_servers)
            conclusion = f"The sign-in server is {servers}." if servers else "It names no sign-in server."
            self._note(request, response, conclusion, good=bool(servers))
            return document
        return None

    # --- the authorization server that an admin trusts ---

    def _trusted_server(self, named: list[str]) -> Generator[MetadataRequest, MetadataResponse, ServerMetadata]:
        """Return what the server that an admin trusts says of itself; what a trusted document says to be, it is.

        Of an issuer only a document that says to be it is used: at its own address, and where that says that there is
        none, where the MCP server's documents lead. From there, no secret may be led to another server than the issuer.
        """
        trusts, origin = self._trusts, "{0.scheme}://{0.netloc}".format(urlsplit(self._url))
        said = "Advanced settings say where to sign in, whatever the server's documents say."
        self.steps.append(Step("Authorization server", trusts[:500], "Named by an admin", said, good=True))
        if is_document(trusts):
            document = yield from self._trusted_document([trusts], issuer="")
        else:
            others = [url for one in (named or [origin])[:MOST_SERVERS] for url in metadata_urls(one)]
            document = yield from self._trusted_document(metadata_urls(trusts), issuer=trusts)
            if document is None:
                document = yield from self._trusted_document(others, issuer=trusts, by_others=True)
        if document is None:
            raise self._nothing_found()
        issuer = issuer_of_document(trusts) or trusts
        template = is_template_of(document.issuer, issuer)
        return document.model_copy(update={"issuer": issuer}) if template else document

    def _trusted_document(
        self, urls: list[str], *, issuer: str, by_others: bool = False
    ) -> Generator[MetadataRequest, MetadataResponse, ServerMetadata | None]:
        """Return the first document found that says to be this issuer, "" for any; None where all say there is none.

        Raises CannotSignIn for every other answer: a server that fails at this moment has not said that it has none.
        """
        absent = True
        for url in dict.fromkeys(urls):
            request = MetadataRequest(url, "Sign-in server metadata")
            response = yield request
            document = self._document(request, response, ServerMetadata)
            absent = absent and response.status in _NONE_HERE
            if document is not None and issuer and not names(document.issuer, issuer):
                self._note_other(request, response, document.issuer, issuer)
            elif document is not None and by_others and (away := _away(document, issuer)):
                conclusion = f"Its “{away}” is at another server than {issuer}, so it is not used."
                self._note(request, response, conclusion, good=False)
            elif document is not None:
                self._note(request, response, _about(document), good=True)
                return document
        if not absent:
            raise self._nothing_found()
        return None

    # --- authorization server metadata, RFC 8414 and OpenID Connect Discovery ---

    def _server(self, issuers: list[str]) -> Generator[MetadataRequest, MetadataResponse, ServerMetadata]:
        for issuer in issuers:
            for url in metadata_urls(issuer):
                request = MetadataRequest(url, "Sign-in server metadata")
                response = yield request
                document = self._document(request, response, ServerMetadata)
                if document is not None and not names(document.issuer, issuer):
                    self._note_other(request, response, document.issuer, issuer)
                elif document is not None:
                    self._note(request, response, _about(document), good=True)
                    template = is_template_of(document.issuer, issuer)
                    return document.model_copy(update={"issuer": issuer}) if template else document
        raise self._nothing_found()

    def _server_of_2025_03(self, *, guess: bool) -> Generator[MetadataRequest, MetadataResponse, ServerMetadata]:
        """Find the server as MCP 2025-03-26 says: at the MCP server's own origin, else at default paths."""
        parts = urlsplit(self._url)
        origin = f"{parts.scheme}://{parts.netloc}"
        request = MetadataRequest(f"{origin}{_OAUTH_PATH}", "Sign-in server metadata, as in MCP 2025-03-26")
        response = yield request
        document = self._document(request, response, ServerMetadata)
        if document is not None and not same(document.issuer, origin):
            self._note_other(request, response, document.issuer, origin)
            raise self._nothing_found()
        if document is not None:
            self._note(request, response, _about(document), good=True)
            return document
        if not guess or response.trouble or self._unanswered or self._broken:
            raise self._nothing_found()
        self._guessed = True
        return ServerMetadata(
            issuer=origin,
            authorization_endpoint=f"{origin}/authorize",
            token_endpoint=f"{origin}/token",
            registration_endpoint=f"{origin}/register",
            code_challenge_methods_supported=["S256"],
        )

    def _nothing_found(self) -> CannotSignIn:
        if self._other:
            return CannotSignIn(
                f"What the sign-in server says of itself does not fit{self._other}", code="metadata_refused"
            )
        sentence, code = "The server does not say where to sign in.", "no_authorization_server"
        if self._broken:
            sentence, code = self._broken, "metadata_refused"
        elif self._unanswered:
            code = "metadata_unavailable"
            sentence = "A document about signing in could not be fetched. Check again in a while."
        elif self._trusts:
            sentence = "“Authorization server” in Advanced settings has no metadata that can be used."
        if self._trusts:
            sentence += " If its metadata is elsewhere, enter the address of that document as “Authorization server”."
        return CannotSignIn(sentence, code=code)

    # --- notes ---

    def _note_other(self, request: MetadataRequest, response: MetadataResponse, said: str, asked: str) -> None:
        """Note a document of another issuer than the one that was asked for, and what to do if that is right."""
        self._note(request, response, f"It says it is {said}, not {asked}, so it is not used.", good=False)
        what = f": it says it is {said}" if len(said) <= _LONGEST_SAID else ""
        if self._trusts:
            self._other = f"{what}, and “Authorization server” in Advanced settings is another. Correct it there."
        else:
            self._other = (
                f"{what}. If you know that this is right, enter what it says it is as “Authorization server” in "
                "Advanced settings."
            )

    def _document(self, request: MetadataRequest, response: MetadataResponse, kind: type[Document]) -> Document | None:
        """Return the document that came back, or None with a note why there is none."""
        if response.code in _NEVER_ASKED:
            self._broken = f"{request.what} cannot be fetched: {egress.origin(request.url) or 'its address'} "
            self._broken += f"{never_asked(response.code)}."
            self._note(request, response, response.trouble, good=False)
            return None
        if response.trouble or response.status >= 500 or response.status in _LATER:  # noqa: PLR2004 - its own failure
            self._unanswered = True
            failed = _LATER.get(response.status, "The server failed.")
            self._note(request, response, response.trouble or failed, good=False)
            return None
        if response.leads_to:
            conclusion = f"It leads to another server, {response.leads_to}, where it is not fetched."
            self._note(request, response, conclusion, good=False)
            return None
        if response.status != 200:  # noqa: PLR2004 - OK
            said = "There is none here." if response.status in _NONE_HERE else "It does not give it."
            if response.status in _NOT_FOR_STRANGERS:
                said = f"It is not shown to strangers (HTTP {response.status})."
            self._note(request, response, said, good=False)
            return None
        try:
            return read(response.body, kind)
        except MetadataError as fault:
            if fault.is_meant:
                self._broken = f"{request.what} cannot be used: {fault.sentence[:1].lower()}{fault.sentence[1:]}"
            self._note(request, response, fault.sentence, good=False)
            return None

    def _note(self, request: MetadataRequest, response: MetadataResponse, conclusion: str, *, good: bool) -> None:
        answer = f"HTTP {response.status}" if response.status else "No answer"
        conclusion = f"Found at {response.came_from}. {conclusion}" if response.came_from else conclusion
        self.steps.append(Step(request.what, request.url[:500], answer, conclusion[:500], good))


def _says_no(response: MetadataResponse) -> bool:
    """Whether an answer is neither a result nor a redirect."""
    is_success = 200 <= response.status < 300  # noqa: PLR2004 - successful
    return response.status >= 400 or (is_success and not knocks.lets_in(response.body))  # noqa: PLR2004 - refused


def _from(url: str, reference: str) -> str:
    """Return where a reference leads from a URL; what is none is returned as it is, and refused when it is asked."""
    try:
        return urljoin(url, reference)
    except ValueError:
        return reference


def metadata_urls(issuer: str) -> list[str]:
    """Return where an issuer's metadata may be, in the order to ask (MCP 2026-07-28)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if not path:
        return [f"{origin}{_OAUTH_PATH}", f"{origin}{_OPENID_PATH}"]
    return [f"{origin}{_OAUTH_PATH}{path}", f"{origin}{_OPENID_PATH}{path}", f"{origin}{path}{_OPENID_PATH}"]


def _away(document: ServerMetadata, issuer: str) -> str:
    """Return the name of an endpoint that is not at the issuer's own origin, "" if all are."""
    endpoints = {name: str(getattr(document, name)) for name in ENDPOINTS}
    return next((name for name, url in endpoints.items() if url and not same_origin(url, issuer)), "")


def _described(resource: str, server_url: str) -> CannotSignIn:
    """Return the refusal of a document that describes another server, with what is known of that."""
    named, ours = normal(resource), normal(server_url)
    what = f", {resource}" if len(resource) <= _LONGEST_SAID and resource.isprintable() else ""
    sentence = f"The server's metadata describes another server{what}, so it is not safe to sign in."
    if named is not None and ours is not None and (named[0], ours[0], named[1]) == ("http", "https", ours[1]):
        sentence = (
            f"The server's metadata says that it is at http://{ours[1]}: its owner sets its public URL to https://."
        )
    return CannotSignIn(
        f"{sentence} If you know its sign-in server, enter it as “Authorization server” in Advanced settings.",
        code="metadata_refused",
    )


def _about(document: ServerMetadata) -> str:
    """Return what a document says, and which members of it do not count."""
    aside = [f"Its “{name}” cannot be read and is left out." for name in document.unread]
    return " ".join([document.summary(), *aside])


def _scopes(metadata: ResourceMetadata) -> tuple[str, ...] | None:
    return None if metadata.scopes_supported is None else tuple(metadata.scopes_supported)
