"""What goes into the wire client and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Era = Literal["unknown", "modern", "legacy"]


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server as the caller knows it; equal servers share prepared headers.

    `key` names a session's owner: the connection and the generation of its credential, so that no session
    outlives the credential it was opened with. Times are seconds: `timeout` caps a request from end to end,
    `idle_timeout` is what may pass without progress.
    """

    key: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    era: Era = "unknown"
    protocol_version: str | None = None
    connect_timeout: float = 10.0
    timeout: float = 300.0
    idle_timeout: float = 60.0
    max_bytes: int = 10_000_000


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says about itself, and the era it speaks."""

    era: Literal["modern", "legacy"]
    protocol_version: str
    name: str = ""
    version: str = ""
    title: str = ""
    instructions: str = ""
    capabilities: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedTool:
    """One tool of a listing: its definition as received, unknown members included.

    `reason` is empty, or says why the tool cannot be used.
    """

    name: str
    definition: dict[str, Any]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All tools of a server: the usable ones, and those set aside with a reason."""

    tools: list[ListedTool]
    set_aside: list[ListedTool]
    facts: ServerFacts
    pages: int
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered; `is_error` is the tool's own word, not the transport's."""

    content: list[dict[str, Any]]
    structured: Any | None
    is_error: bool
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """One progress notification of a running call."""

    progress: float
    total: float | None = None
    message: str | None = None


OnProgress = Callable[[Progress], None]
