"""The types that the MCP client takes and returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.mcp_client.errors import RpcError

Era = Literal["unknown", "modern", "legacy"]
TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
Response = dict[str, Any]  # {"action": "accept" | "decline" | "cancel"}, and with an accepted form its "content"


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server as the caller knows it; equal servers share prepared headers.

    `key` names the connection and the generation of its credential, so that no session outlives the credential it was
    opened with; `owner` is who alone uses the session. Times are seconds: `timeout` caps a request from end to end,
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
    tenant: str = ""  # whose share of separate processes and of the budget its work uses
    pinned: bool = False  # whether a person has chosen the era, and no other one is tried
    as_task: bool = False  # whether the tool that is called runs only as a task, in the era of handshakes
    owner: str = field(default="", compare=False)  # whose session it is: what the server remembers, only they see


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What it takes to go on with a session of the handshake era: its id and cookies are secrets."""

    id: str = field(repr=False)
    protocol_version: str
    cookies: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says about itself, and the era it speaks: a few short words, as sessions keep them."""

    era: Literal["modern", "legacy"]
    protocol_version: str
    name: str = ""
    version: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class ListedTool:
    """One tool of a listing: its definition as `definitions.reading` reads it, unknown members included.

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
    """What a tool answered; `is_error` comes from the tool itself, not from the transport.

    Where `large` is not empty it is the JSON of an object with `is_error`, `content` and `structured_content` (and
    `structured_content_link`, which is null), and `content` and `structured` are empty here.
    """

    content: list[dict[str, Any]]
    structured: Any | None
    is_error: bool
    raw: dict[str, Any]
    large: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log notification of a running call: untrusted, short, and without secrets that we sent."""

    level: str
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """One progress notification of a running call, or the line of its log that is told in the same way."""

    progress: float | None
    total: float | None = None
    message: str | None = None
    line: LogLine | None = None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that a server asks a person: a form to fill in, or an address to visit (elicitation).

    `schema` is a form's, flat and checked; `url` is http(s) without credentials. Both are untrusted.
    """

    mode: Literal["form", "url"]
    message: str
    schema: dict[str, Any] | None = None
    url: str | None = None
    elicitation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What a server wants to know before it goes on, by key; `state` is opaque and sent back unchanged."""

    requests: dict[str, Question]
    state: str | None = None

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Questions:
        """Build the questions again from what `orjson.dumps(questions)` wrote."""
        return cls({key: Question(**asked) for key, asked in stored["requests"].items()}, stored["state"])


@dataclass(frozen=True, slots=True)
class Answers:
    """A person's responses to `Questions`, by the same keys, and the state that came with the questions."""

    responses: dict[str, Response]
    state: str | None = None


Ask = Callable[[Questions], Awaitable[dict[str, Response]]]


@dataclass(frozen=True, slots=True)
class Task:
    """A call that goes on at its server (`io.modelcontextprotocol/tasks`); its id outlives both processes.

    `poll_interval` (seconds) is how long to wait before the next `get_task`; `ttl` (seconds since the task was made)
    is None where it has no end. A completed task has a `result`, a failed one an `error`; one that asks has
    `questions`, of which those already answered may still be among them.
    """

    id: str
    status: TaskStatus
    poll_interval: float = 5.0
    ttl: float | None = None
    message: str = ""
    questions: Questions | None = None
    result: ToolResult | None = None
    error: RpcError | None = None
