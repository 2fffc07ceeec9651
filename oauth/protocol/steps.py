"""What discovery asks for, what comes back, what is concluded from it, and what is found in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from oauth.protocol.metadata import ServerMetadata


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """One request that `walk` wants sent."""

    url: str
    what: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class MetadataResponse:
    """What came back: an answer, or in `trouble` the sentence that says why there is none.

    `code` is that of the trouble, `kind` the media type. `came_from` is where redirects led to, and `leads_to` where
    one leads that was not followed. Of the MCP server itself: `lets_in` whether it gave a stranger a result, `said` its
    own words where it did not, `location` where it redirects to, `guard` which guard before it answered.
    """

    status: int = 0
    body: bytes = b""
    www_authenticate: str = field(default="", repr=False)  # a server may repeat in it what we sent
    trouble: str = ""
    code: str = ""
    kind: str = ""
    came_from: str = ""
    leads_to: str = ""
    lets_in: bool = False
    said: str = field(default="", repr=False)
    location: str = ""
    guard: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One document asked for, what came back, and what was concluded."""

    what: str
    url: str
    answer: str
    conclusion: str
    good: bool


@dataclass(frozen=True, slots=True)
class DiscoveryResult:
    """What signing in needs: the authorization server, and what to name to it.

    `trusted` are all the issuers that the resource names; none if the server was found as MCP 2025-03-26 says.
    `challenged`: the MCP server answers nothing without a token. `guessed`: no document says that this server is one.
    """

    server: ServerMetadata
    resource: str
    challenge_scopes: str = ""
    resource_scopes: tuple[str, ...] | None = None
    trusted: tuple[str, ...] = ()
    challenged: bool = False
    guessed: bool = False
