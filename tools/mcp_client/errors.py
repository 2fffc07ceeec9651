"""What can go wrong between us and an MCP server, named for what the caller can do about it.

    McpError                  knows `sent` and `outcome_unknown`
    ├── Challenged            we are not let in; keeps the WWW-Authenticate challenge
    │   ├── Unauthorized      401: sign in, or the credential is refused
    │   └── Forbidden         403: another scope or person is needed
    ├── RateLimited           429: wait `retry_after` seconds
    ├── ServerFailed          5xx: try later
    ├── Redirected            3xx: use the address it leads to
    ├── UnexpectedStatus      any other status
    │   └── TakenForABot      a guard in front of the server lets only browsers pass
    ├── NotStreamableHttp     this address speaks no MCP over streamable HTTP
    │   └── OldSseTransport   it speaks the retired HTTP+SSE transport
    ├── UnsupportedVersion    it speaks only versions of MCP that are unknown here
    ├── EraChanged            the stored era no longer fits: discover again
    │   └── EraPinned         an admin pins an era that the server does not speak
    ├── HandshakeRefused      the server says why it does not begin
    ├── RpcError              the server answered with a JSON-RPC error
    ├── NeedsMore             the tool wants what no person here can give (sampling, roots)
    ├── BadAnswer             the answer breaks the protocol
    │   └── BadQuestion       the server asks a person something that cannot be shown: the tool has not run
    ├── AnswerTooLarge        the answer is larger than the limit
    ├── AnswerUnread          the answer came, and could not be read here
    ├── ListingNeverEnds      too many pages
    ├── ListingTooLarge       too many tools, or too many bytes of them
    ├── TimedOut              no answer in time; `kind` says which timeout
    ├── ConnectionLost        the connection broke
    └── Unsendable            the arguments or a header cannot be written

`connections.errors.Refused` and `Unreachable` pass through from the egress when nothing was sent: the address is
forbidden, or name, connection or TLS failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

from connections.errors import DuvoError

# A proxy's own 502, 504 and the 52x family say that nobody knows what became of the request.
_UNCERTAIN_STATUSES: Final = frozenset({502, 504, *range(520, 530)})


_VERSION: Final = re.compile(r"(?:draft-|v)?[0-9][0-9.-]{0,15}(?:(?:draft|beta|rc|v)[0-9.]{0,4})?", re.IGNORECASE)
_ERAS: Final = {"modern": "modern (2026-07-28 and later)", "legacy": "legacy (2025-11-25 and earlier)"}
_MOST_VERSIONS: Final = 5  # that a sentence names


class McpError(DuvoError):
    """The MCP server could not be used."""

    code = "mcp_error"
    _settles = True  # whether this error itself tells what became of a call that was sent

    def __init__(self, sentence: str | None = None, *, code: str | None = None, sent: bool = False) -> None:
        """Say whether bytes of a tools/call request may have reached the server."""
        super().__init__(sentence, code=code)
        self.sent = sent
        self.said = ""  # the server's own words, as `quoting` lets them through; never part of our sentence

    @property
    def outcome_unknown(self) -> bool:
        """Whether the tool may have run without our knowing its result."""
        return self.sent and not self._settles


class Challenged(McpError):
    """The server does not let us in."""

    code = "challenged"
    status = 401

    def __init__(self, www_authenticate: str | None, *, sent: bool = False) -> None:
        """Keep the raw challenge (RFC 9110, section 11.6.1), which may name the resource metadata."""
        super().__init__(sent=sent)
        self.www_authenticate = www_authenticate


class Unauthorized(Challenged):
    """The server asks for a sign-in or refuses the credential (HTTP 401)."""

    code = "unauthorized"


class Forbidden(Challenged):
    """The server does not allow this with the present credential (403)."""

    code = "forbidden"
    status = 403


class RateLimited(McpError):
    """The server asks us to slow down (HTTP 429)."""

    code = "rate_limited"
    status = 429

    def __init__(self, retry_after: float | None, *, sent: bool = False) -> None:
        """Keep the seconds to wait, where the server told them (RFC 9110, section 10.2.3)."""
        super().__init__(sent=sent)
        self.retry_after = retry_after


class UnexpectedStatus(McpError):
    """The server answered with a status that is not expected here."""

    code = "unexpected_status"

    def __init__(self, status: int, *, sent: bool = False) -> None:
        """Keep the HTTP status and name it in the sentence."""
        super().__init__(f"{(self.__doc__ or '').rstrip('.')} (HTTP {status}).", sent=sent)
        self.status = status


class ServerFailed(UnexpectedStatus):
    """The server failed."""

    code = "server_failed"

    def __init__(self, status: int, *, retry_after: float | None = None, sent: bool = False) -> None:
        """Keep the 5xx status, and the seconds to wait where the server told them."""
        super().__init__(status, sent=sent)
        self.retry_after = retry_after

    @property
    def outcome_unknown(self) -> bool:
        """Whether a proxy answered for a server that may have run the tool."""
        return self.sent and self.status in _UNCERTAIN_STATUSES


class Redirected(UnexpectedStatus):
    """The server sends us to another address, and redirects are not followed."""

    code = "redirected"


class TakenForABot(UnexpectedStatus):
    """A guard in front of the server lets only browsers pass, and has stopped this request."""

    code = "taken_for_a_bot"

    def __init__(self, status: int, guard: str, *, sent: bool = False) -> None:
        """Name the guard, such as Cloudflare."""
        super().__init__(status, sent=sent)
        self.sentence = self.sentence.replace("the server", f"the server ({guard})", 1)


class NotStreamableHttp(McpError):
    """This address does not speak MCP over streamable HTTP."""

    code = "not_streamable_http"
    _settles = False


class OldSseTransport(NotStreamableHttp):
    """This server speaks only the old HTTP+SSE transport, which is not supported."""

    code = "old_sse_transport"


class UnsupportedVersion(McpError):
    """The server speaks no version of MCP that is known here."""

    code = "unsupported_version"

    @classmethod
    def of(cls, versions: Iterable[Any]) -> UnsupportedVersion:
        """Name the versions that the server speaks, as far as they look like some: else it may be anything."""
        names = [name for name in versions if isinstance(name, str) and _VERSION.fullmatch(name)]
        more = ", …" if len(names) > _MOST_VERSIONS else ""
        seen = f" It speaks {', '.join(names[:_MOST_VERSIONS])}{more}." if names else ""
        return cls(f"{cls.__doc__}{seen}")


class EraChanged(McpError):
    """The server no longer speaks the version of MCP it spoke before."""

    code = "era_changed"

    def __init__(
        self, sentence: str | None = None, *, status: int = 0, said: str = "", fault: int | None = None
    ) -> None:
        """Keep how a request was refused: the HTTP status, the server's words, the code of its JSON-RPC error."""
        super().__init__(sentence)
        self.status = status
        self.said = said
        self.fault = fault

    @classmethod
    def by_refusal(cls, status: int, said: str, fault: int | None = None) -> EraChanged:
        """Return the error of a handshake that was refused with this HTTP status, in the server's words."""
        return cls(
            f"The server refuses the handshake. It answered HTTP {status}.", status=status, said=said, fault=fault
        )


class EraPinned(EraChanged):
    """Advanced settings pin the protocol era, and this server does not speak it."""

    code = "era_pinned"

    @classmethod
    def at(cls, era: str, refusal: EraChanged) -> EraPinned:
        """Name the era that is pinned, and how the server answers it."""
        seen = f" It answered HTTP {refusal.status}." if refusal.status else ""
        sentence = f"Advanced settings pin the protocol era to {_ERAS.get(era, era)}; this server speaks another.{seen}"
        return cls(sentence, status=refusal.status, said=refusal.said, fault=refusal.fault)


class HandshakeRefused(McpError):
    """The server refuses to begin."""

    code = "handshake_refused"

    @classmethod
    def by(cls, refusal: EraChanged) -> HandshakeRefused:
        """Return what a refusal is whose reason the server tells."""
        error = cls(refusal.sentence)
        error.said = refusal.said
        return error


class RpcError(McpError):
    """The server answered with an error."""

    code = "rpc_error"

    def __init__(self, rpc_code: int, rpc_message: str, *, sent: bool = False) -> None:
        """Keep the JSON-RPC code and, apart from the sentence, what the server says (at most 500 characters)."""
        super().__init__(f"The server answered with an error{f' (code {rpc_code})' if rpc_code else ''}.", sent=sent)
        self.rpc_code = rpc_code
        self.rpc_message = self.said = rpc_message[:500]


class NeedsMore(McpError):
    """The tool asks for more than its arguments, which is not supported."""

    code = "needs_more"

    def __init__(self, result_type: str, *, sent: bool = False) -> None:
        """Keep the result's type, such as `input_required`."""
        super().__init__(sent=sent)
        self.result_type = result_type


class BadAnswer(McpError):
    """The server's answer breaks the protocol."""

    code = "bad_answer"
    _settles = False


class BadQuestion(BadAnswer):
    """The server asks something in a way that breaks the protocol."""

    code = "bad_question"
    _settles = True


class AnswerTooLarge(McpError):
    """The server's answer is larger than what is read of one."""

    code = "answer_too_large"
    _settles = False

    def __init__(self, most: int, *, sent: bool = False) -> None:
        """Name the most that is read, in bytes, and the setting of a connection that says so."""
        sentence = f"The server's answer is larger than {most / 1_000_000:g} MB, the most that is read of one."
        super().__init__(f"{sentence} An admin can change the connection's “Largest answer” (max_answer).", sent=sent)


class AnswerUnread(McpError):
    """The server's answer came, but reading it takes more time or memory than one answer may."""

    code = "answer_unread"
    _settles = False


class ListingNeverEnds(McpError):
    """The server's list of tools does not end: it has too many pages."""

    code = "listing_never_ends"


class ListingTooLarge(McpError):
    """The server lists more than 5,000 tools, or more than 10 MB of them. What was listed before stays as it is."""

    code = "listing_too_large"


class TimedOut(McpError):
    """The server did not answer in time."""

    code = "timed_out"
    _settles = False

    def __init__(self, kind: Literal["connect", "idle", "absolute"], *, sent: bool = False) -> None:
        """Keep which timeout it was."""
        super().__init__(sent=sent)
        self.kind = kind


class ConnectionLost(McpError):
    """The connection to the server broke before the answer was complete."""

    code = "connection_lost"
    _settles = False


class Unsendable(McpError):
    """The arguments or a header of this request cannot be written."""

    code = "unsendable"
