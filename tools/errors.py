"""What can go wrong for a caller of tools; each error is named for what the caller can do about it.

CallError                 carries the HTTP status of the problem it becomes
├── ToolNotFound          no such tool for this caller
├── CallNotFound          no such call of this caller
├── ContentLost           a stored content can no longer be opened
├── ToolSetAside          the tool exists but may not be used now; the code says why
│   └── ToolDenied        an admin has denied its use
├── ConnectionNotReady    the connection waits for a credential or has never been checked
│   ├── OwnerNotConnected the assignment's owner has not signed in there, or entered a key or headers
│   └── LoginExpired      nor has the owner done so while the call waited for it
├── ArgumentsRefused      the arguments do not fit the tool's JSON Schema; names each fault
├── OrganizationSuspended the platform's staff have suspended the organization; nothing runs
├── CallerGone            the caller's token was revoked or expired while it waited
├── ActingRefused         the token may not act through the personal sign-in of its assignment's owner
├── Ended                 the call's assignment or token, or something that it needs, has ended; the code says what
├── ToolReplaced          the call's tool, its definition or its server has been replaced
├── ArgumentsTooComplex   checking the arguments against the tool's JSON Schema takes too long
├── NotApproved           an admin refused the call, or nobody approved it in time
├── InputDeclined         what the tool needs before it runs was declined
├── CallCancelled         somebody asked for the call to be cancelled
├── LeaseLost             this process is no longer the one that makes the call
├── NotAsked              the call asks nothing, or its question has been answered
├── AnswersRefused        the answers do not fit the questions; names each fault
├── KeyReused             the idempotency key belongs to another request
├── LimitReached          too many calls run, or too many were made; the code says which limit it was
│   └── QuotaFull         the organization has as many open calls, or as many bytes stored, as it may
├── CircuitOpen           the server was not reached, or failed, several times in a row; calls pause
├── CallFailed            the server did not give a result; the call's row says the same
│   └── AnswerUnusable    it answered with what cannot be read; the tool has run
├── CallTimedOut          the server did not answer in time
└── OutcomeUnknown        the tool may have run, and nobody knows its result
    └── ProcessStopped    because the process that made the call was told to stop
"""

from __future__ import annotations

from http import HTTPStatus

from connections.errors import DuvoError
from tools.definitions.schemas import Fault


class CallError(DuvoError):
    """The call could not be made."""

    status = HTTPStatus.BAD_GATEWAY
    server_message = ""  # the server's own words; shown beside our sentence, never in it

    def __init__(
        self, sentence: str | None = None, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        """Take a sentence, a code and, where it is known, the seconds after which a new try makes sense."""
        super().__init__(sentence, code=code)
        self.retry_after = retry_after


class Broken(CallError):
    """Something went wrong on our side. The request id finds it in our logs."""

    code = "internal_error"
    status = HTTPStatus.INTERNAL_SERVER_ERROR


class ToolNotFound(CallError):
    """There is no such tool for this assignment."""

    code = "tool_not_found"
    status = HTTPStatus.NOT_FOUND

    def __init__(self, sentence: str | None = None, *, near: list[str] | None = None) -> None:
        """Take also the names of the caller's own tools that may be meant."""
        self.near = near or []
        said = f"There is no such tool for this assignment. Near it: {', '.join(self.near)}." if near else None
        super().__init__(sentence or said)


class CallNotFound(CallError):
    """There is nothing here for you."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND


class ContentLost(CallError):
    """This content can no longer be opened: its file, or the key that sealed it, is gone."""

    code = "content_lost"
    status = HTTPStatus.GONE


class ToolSetAside(CallError):
    """This tool may not be used now."""

    code = "tool_set_aside"
    status = HTTPStatus.CONFLICT


class ToolDenied(ToolSetAside):
    """An organization admin has denied the use of this tool."""

    code = "tool_denied"
    status = HTTPStatus.FORBIDDEN


class ConnectionNotReady(CallError):
    """This tool's connection is not ready."""

    code = "connection_not_ready"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class OwnerNotConnected(ConnectionNotReady):
    """The owner of this assignment has not connected."""

    code = "credential_not_ready"


class LoginExpired(ConnectionNotReady):
    """The owner of the assignment did not connect in time. Nothing was sent."""

    code = "login_expired"


class ArgumentsRefused(CallError):
    """The arguments do not fit the tool's schema."""

    code = "arguments_invalid"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, faults: list[Fault]) -> None:
        """Keep the faults, each with a JSON Pointer into the arguments."""
        super().__init__()
        self.faults = faults


class OrganizationSuspended(CallError):
    """This organization is suspended: nothing runs, and nothing is lost. Ask the staff of the platform."""

    code = "organization_suspended"
    status = HTTPStatus.FORBIDDEN


class CallerGone(CallError):
    """The token was revoked or has expired."""

    code = "unauthenticated"
    status = HTTPStatus.UNAUTHORIZED


class ActingRefused(CallError):
    """This token may not act through the personal sign-in of its assignment's owner."""

    code = "acting_refused"
    status = HTTPStatus.FORBIDDEN


class Ended(CallError):
    """Who asked for this call, or what it needs, has ended meanwhile."""

    code = "asker_gone"
    status = HTTPStatus.CONFLICT


class ToolReplaced(CallError):
    """Since the call was made, its tool, the tool's definition or its server has been replaced. Make it again."""

    code = "tool_replaced"
    status = HTTPStatus.CONFLICT


class ArgumentsTooComplex(CallError):
    """Checking these arguments against the tool's schema takes too long. Send fewer or smaller ones."""

    code = "arguments_too_complex"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class NotApproved(CallError):
    """No organization admin approved the call."""

    code = "approval_refused"
    status = HTTPStatus.FORBIDDEN


class InputDeclined(CallError):
    """What the tool needs first was declined; it has not run."""

    code = "input_declined"
    status = HTTPStatus.CONFLICT


class CallCancelled(CallError):
    """The call was cancelled; the tool may have run in part."""

    code = "cancelled"
    status = HTTPStatus.CONFLICT


class LeaseLost(CallError):
    """Another process has taken the call over, or it has ended."""

    code = "lease_lost"


class NotAsked(CallError):
    """This call asks nothing at this moment: it goes on, has been answered already, or has ended."""

    code = "not_asked"
    status = HTTPStatus.CONFLICT


class AnswersRefused(CallError):
    """The answers do not fit what was asked."""

    code = "answers_invalid"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, faults: list[Fault]) -> None:
        """Keep the faults, each with a JSON Pointer into the responses."""
        super().__init__()
        self.faults = faults


class KeyReused(CallError):
    """This Idempotency-Key was used for another tool or other arguments. Use a new key for a new request."""

    code = "idempotency_key_reused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class LimitReached(CallError):
    """Too many calls at this moment."""

    code = "limit_reached"
    status = HTTPStatus.TOO_MANY_REQUESTS


class QuotaFull(LimitReached):
    """A quota of your organization is reached."""

    code = "quota_reached"


class CircuitOpen(CallError):
    """The server could not be reached or failed several times in a row; calls pause for a moment."""

    code = "circuit_open"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class SessionLost(CallError):
    """The server no longer knows this session and what it held. Nothing has run; the next call opens a new one."""

    code = "session_lost"
    status = HTTPStatus.CONFLICT


class SessionBusy(CallError):
    """The earlier calls of this session took all the time that this call has. Nothing was sent; try again."""

    code = "session_busy"
    status = HTTPStatus.CONFLICT


class TooManySessions(CallError):
    """The assignment has as many sessions at this server as it may, and calls are under way in all of them."""

    code = "too_many_sessions"
    status = HTTPStatus.TOO_MANY_REQUESTS


class SessionUnavailable(CallError):
    """The session could not be looked up, as the database does not answer. Nothing was sent; try again in a moment."""

    code = "session_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class CallFailed(CallError):
    """The server did not give a result."""

    code = "call_failed"


class AnswerUnusable(CallFailed):
    """The server's answer cannot be used. The tool has run: check what it did before you try again."""

    code = "answer_unusable"


class CallTimedOut(CallError):
    """The server did not answer in time."""

    code = "timed_out"
    status = HTTPStatus.GATEWAY_TIMEOUT


class OutcomeUnknown(CallError):
    """The connection broke after the request was sent: the tool may have run. Check before you try again."""

    code = "outcome_unknown"


class ProcessStopped(OutcomeUnknown):
    """The process that made this call was stopped before the server answered: the tool may have run. Check first."""

    code = "process_stopped"
    status = HTTPStatus.SERVICE_UNAVAILABLE
