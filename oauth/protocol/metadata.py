"""The documents in which servers describe themselves, kept as written. No I/O.

What is needed, or decides what is safe, is read strictly; another member that cannot be read is left out, and said to
be. Issuers and endpoints stay character by character what the document said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from connections import egress
from oauth.protocol import addresses

LONGEST = 64 * 1024  # bytes of a document; large ones in the field have a tenth of it
MOST_SCOPES = 200
LONGEST_SCOPES = 4000  # characters of all of them, which is what a row keeps
_OPTIONAL_ENDPOINTS = ("registration_endpoint", "revocation_endpoint", "userinfo_endpoint")
ENDPOINTS = ("token_endpoint", "authorization_endpoint", *_OPTIONAL_ENDPOINTS)
_SWITCHES = ("client_id_metadata_document_supported",)  # not that of `iss`, which decides what is safe
_NOT_NEEDED = (
    *_OPTIONAL_ENDPOINTS,
    *_SWITCHES,
    "code_challenge_methods_supported",  # unread is unsaid, and then nobody signs in
    "grant_types_supported",
    "scopes_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
)
_MEANT = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")  # RFC 6749, appendix A.4


def valid_scopes(words: Iterable[str]) -> list[str]:
    """Return those of the words that can be scopes, each once: at most 200 of them, and as many as a row keeps."""
    scopes = list(dict.fromkeys(word for word in words if _SCOPE.fullmatch(word)))[:MOST_SCOPES]
    while len(" ".join(scopes)) > LONGEST_SCOPES:
        scopes.pop()
    return scopes


class MetadataError(ValueError):
    """A document cannot be used; `sentence` says why, `is_meant` whether it is such a document at all."""

    def __init__(self, sentence: str, *, is_meant: bool = False) -> None:
        """Take the sentence for a person."""
        super().__init__(sentence)
        self.sentence = sentence
        self.is_meant = is_meant


class _NeverAsked(ValueError):
    """An address that the egress never requests; its text goes on after the name of what has it."""


class _Document(BaseModel):
    """A document; `unread` are the names of members that were left out as they cannot be read."""

    model_config = ConfigDict(frozen=True)
    _unread: tuple[str, ...] = PrivateAttr(default=())

    @property
    def unread(self) -> tuple[str, ...]:
        """The names of members that cannot be read."""
        return self._unread

    def without(self, unread: Iterable[str]) -> Self:
        """Note the names of members that were left out, and return the document."""
        self._unread = tuple(unread)
        return self

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, data: Any) -> Any:
        """Read null and "" as a member that was left out, as many servers write it."""
        return (
            {key: value for key, value in data.items() if value not in (None, "")} if isinstance(data, dict) else data
        )

    @field_validator("scopes_supported", mode="after", check_fields=False)
    @classmethod
    def _scopes(cls, value: list[str] | None) -> list[str] | None:
        return value if value is None else valid_scopes(value)


class ResourceMetadata(_Document):
    """What an MCP server says of itself (RFC 9728, section 2)."""

    resource: str  # is never requested, only compared: see `covers`
    authorization_servers: list[str] = []
    scopes_supported: list[str] | None = None

    @field_validator("authorization_servers", mode="before")
    @classmethod
    def _servers(cls, value: Any) -> Any:
        """Return those that may be asked; raises ValueError where some are named and none may be."""
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, list):
            return value
        reasons = {url: _never_asked(url) for url in named if isinstance(url, str)}
        usable = [url for url, reason in reasons.items() if not reason]
        if named and not usable:
            first = next(iter(reasons.values()), "cannot be used")
            raise _NeverAsked(f"cannot be asked: the first one {first}")
        return [addresses.issuer_of_document(url) or url for url in usable]  # some name the document itself


class ServerMetadata(_Document):
    """What an authorization server says of itself (RFC 8414, section 2; OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    userinfo_endpoint: str = ""  # checked when it is asked: whose account it is, is not needed to sign in
    scopes_supported: list[str] | None = None
    grant_types_supported: list[str] | None = None
    code_challenge_methods_supported: list[str] | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None
    token_endpoint_auth_signing_alg_values_supported: list[str] | None = None
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False

    @field_validator("issuer", *ENDPOINTS)
    @classmethod
    def _addresses(cls, value: str) -> str:
        if value and (reason := _never_asked(value)):
            raise _NeverAsked(reason)
        return value

    def summary(self) -> str:
        """Return what it supports, in one sentence."""
        features = {
            "client ID metadata documents": self.client_id_metadata_document_supported,
            "dynamic client registration": bool(self.registration_endpoint),
            "PKCE with S256": self.supports_s256,
        }
        offered = [name for name, there in features.items() if there]
        missing = [name for name, there in features.items() if not there]
        lacks = " and no ".join(missing)
        if not offered:
            return f"It offers no {lacks}."
        return f"It offers {' and '.join(offered)}{f', but no {lacks}' if missing else ''}."

    @property
    def supports_s256(self) -> bool:
        """Whether it says that it supports PKCE with S256 (RFC 7636, section 4.2)."""
        return "S256" in (self.code_challenge_methods_supported or [])


Document = TypeVar("Document", ResourceMetadata, ServerMetadata)


# A server that answers every address with some JSON has no such document.
_MEMBERS: dict[type[_Document], tuple[str, ...]] = {
    ResourceMetadata: ("resource", "authorization_servers"),
    ServerMetadata: ("issuer", "token_endpoint", "authorization_endpoint"),
}


def read(body: bytes, kind: type[Document]) -> Document:
    """Return the document; raises MetadataError with a sentence that repeats nothing of it but names of members."""
    if b"\\u0000" in body:  # PostgreSQL keeps no text with it
        raise MetadataError("It contains a character that has no place in it.")
    try:
        data = from_json(body.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        raise MetadataError("It is not a JSON object.") from None
    if not isinstance(data, dict):
        raise MetadataError("It is not a JSON object.")
    unread, is_meant = [], any(data.get(name) for name in _MEMBERS[kind])
    for name in (name for name in _NOT_NEEDED if data.get(name) not in (None, "")):
        data[name] = _readable(name, data[name])
        if data[name] is None:
            unread.append(name)
    try:
        document = kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        names = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        if first["type"] == "missing":
            raise MetadataError(f"It has no “{names}”.", is_meant=is_meant) from None
        cause = first.get("ctx", {}).get("error")
        reason = str(cause) if isinstance(cause, _NeverAsked) else "cannot be used"
        raise MetadataError(f"Its “{names[:60]}” {reason}.", is_meant=is_meant) from None
    return document.without(unread)


def covers(resource: str, server_url: str) -> bool:
    """Whether metadata for `resource` describes the server: its URL, or a path above it (RFC 9728, section 3.3)."""
    described, asked = addresses.normal(resource), addresses.normal(server_url)
    if described is None or asked is None or described[:3] != asked[:3]:
        return False
    return f"{asked[3].rstrip('/')}/".startswith(f"{described[3].rstrip('/')}/")


def _readable(name: str, value: Any) -> Any:
    """Return what a member that is not needed says, None for what cannot be read in one way."""
    if name in _OPTIONAL_ENDPOINTS:  # an address that is never asked spoils the document: an honest one names none
        return value if isinstance(value, str) else None
    if name in _SWITCHES:
        return _MEANT.get(str(value).strip().lower()) if isinstance(value, str | bool) or value in (0, 1) else None
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list):
        return None
    usable = [word for word in words if isinstance(word, str)]
    return usable if usable or not words else None


def _never_asked(url: str) -> str:
    """Return why the egress never requests a URL, "" where it may."""
    try:
        egress.check_hop(url)
    except egress.Refused as refusal:
        return never_asked(refusal.code)
    return ""


def never_asked(code: str) -> str:
    """Return what is wrong with an address that the egress refuses with this code, to go on after its name."""
    return {
        "host_not_found": "does not exist",
        "https_required": "begins with http://",
        "localhost": "is localhost",
        "port_forbidden": "has a port that is not used here",
        "private_address": "is at a private address",
        "private_name": "exists only inside a private network",
    }.get(code, "cannot be used")
