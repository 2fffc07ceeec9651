"""The outcome of a call: what a failure means for it, and the report that its caller sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from connections import personal
from connections.errors import DuvoError, Refused, SealKeyUnknown, Unreachable
from oauth.errors import OAuthError, ProviderUnavailable
from oauth.protocol import challenges
from tools import mcp_client
from tools.calls import ending, limits
from tools.errors import (
    ActingRefused,
    AnswerUnusable,
    CallCancelled,
    CallError,
    CallFailed,
    CallTimedOut,
    ConnectionNotReady,
    Ended,
    InputDeclined,
    LoginExpired,
    NotApproved,
    OrganizationSuspended,
    OutcomeUnknown,
    OwnerNotConnected,
    ProcessStopped,
    SessionBusy,
    SessionLost,
    SessionUnavailable,
    ToolDenied,
    ToolReplaced,
    TooManySessions,
)
from tools.models import Call
from tools.models.call_states import CallState
from tools.payloads.raw_json import Json

_ERRORS: dict[CallState, type[CallError]] = {
    CallState.CANCELLED: CallCancelled,
    CallState.TIMED_OUT: CallTimedOut,
    CallState.OUTCOME_UNKNOWN: OutcomeUnknown,
}
_ERRORS_BY_CODE: dict[str, type[CallError]] = {
    NotApproved.code: NotApproved,
    "approval_expired": NotApproved,
    LoginExpired.code: LoginExpired,
    OwnerNotConnected.code: ConnectionNotReady,
    InputDeclined.code: InputDeclined,
    Ended.code: Ended,
    ending.CONNECTION_DISABLED: Ended,
    OrganizationSuspended.code: OrganizationSuspended,
    ToolDenied.code: ToolDenied,
    ActingRefused.code: ActingRefused,
    ToolReplaced.code: ToolReplaced,
    AnswerUnusable.code: AnswerUnusable,
    ProcessStopped.code: ProcessStopped,
    SessionLost.code: SessionLost,
    SessionBusy.code: SessionBusy,
    TooManySessions.code: TooManySessions,
    SessionUnavailable.code: SessionUnavailable,
}
SERVER_MESSAGE = "server_message"
_BAD_GATEWAY = 502  # with 503, 504 and the 52x family: a proxy in front of the server fails


@dataclass(frozen=True, slots=True)
class Report:
    """A call as its caller sees it; `question` is what the server asks, `progress` the last step it reported."""

    id: UUID
    tool: str
    state: CallState
    created_at: datetime
    finished_at: datetime | None = None
    result: Json | None = None
    error: CallError | None = None
    question: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    waits_until: datetime | None = None
    session: Mapping[str, Any] | None = None  # its name if it has one, and whether it was restarted
    login: Mapping[str, str | None] | None = None  # who is to connect first, and where
    account: str = ""  # at the provider, with which it was made
    replayed: bool = False  # an earlier request with the same key made it


def session_of(name: str, *, restarted: bool) -> Mapping[str, Any] | None:
    """Return what a caller is told of the session of a call, None when there is nothing to tell."""
    named = {"name": name} if name else {}
    return {**named, "restarted": restarted} if name or restarted else None


def report_of(call: Call) -> Report:
    """Return the report of a call from its row; raises SealBroken."""
    state, result, error = CallState(call.state), call.result_to_send(), None
    words = result.get(SERVER_MESSAGE) if isinstance(result, dict) else None
    if words is not None:
        result = None
    if call.error_code and result is None:
        kind = _ERRORS_BY_CODE.get(call.error_code) or _ERRORS.get(state, CallFailed)
        error = kind(call.error_sentence, code=call.error_code)
        error.server_message = str(words or "")
    asking = state == CallState.INPUT_REQUIRED and not call.sealed_answers
    return Report(
        call.pk, call.tool_name, state, call.created_at, call.finished_at, result, error,
        question=call.question() if asking else None,
        progress=None if call.finished else call.progress(),
        waits_until=call.waits_until,
        session=session_of(call.session_name, restarted=call.session_restarted),
        login=_login_of(call),
        account=call.account,
    )  # fmt: skip


def _login_of(call: Call) -> Mapping[str, str | None] | None:
    """Return who is to connect before a call is made, and where; None when it does not wait for that."""
    if not call.awaits_login or call.connection is None or call.assignment is None or call.assignment.owner is None:
        return None
    return personal.request_to_connect(call.connection, call.assignment.owner.get_username())


def outcome_of(failure: DuvoError) -> tuple[CallState, CallError]:
    """Return the final state that a failure means, and the error that the caller is told, with the server's words."""
    state, error = _outcome_of(failure)
    if isinstance(failure, mcp_client.McpError):
        error.server_message = failure.said
    return state, error


def as_result(error: CallError | None) -> bytes:
    """Return the server's words about an error as they are kept, sealed, in the place of the result; b"" for none."""
    return orjson.dumps({SERVER_MESSAGE: error.server_message}) if error is not None and error.server_message else b""


def _outcome_of(failure: DuvoError) -> tuple[CallState, CallError]:
    if isinstance(failure, CallError):
        return next((state for state, kind in _ERRORS.items() if isinstance(failure, kind)), CallState.FAILED), failure
    if isinstance(failure, SealKeyUnknown):
        sentence = f"{failure.sentence} The tool has not run."
        return CallState.FAILED, ConnectionNotReady(sentence, code=failure.code, retry_after=failure.retry_after)
    if isinstance(failure, OAuthError):
        retry_after = 15 if isinstance(failure, ProviderUnavailable) else None
        sentence = f"The connection is not signed in: {failure.sentence}"
        return CallState.FAILED, ConnectionNotReady(sentence, code="credential_not_ready", retry_after=retry_after)
    if isinstance(failure, mcp_client.Forbidden) and (scopes := challenges.missing_scopes(failure.www_authenticate)):
        sentence = f"The tool needs the permission “{scopes}”, which the connection's sign-in does not have."
        return CallState.FAILED, CallFailed(sentence, code="insufficient_scope")
    if isinstance(failure, mcp_client.TimedOut):
        return CallState.TIMED_OUT, CallTimedOut(failure.sentence)
    if isinstance(failure, mcp_client.McpError) and failure.outcome_unknown:
        if isinstance(failure, mcp_client.BadAnswer):
            ran = f"{failure.sentence} The tool has run: check what it did before you try again."
            return CallState.FAILED, AnswerUnusable(ran)
        if isinstance(failure, mcp_client.ConnectionLost):
            return CallState.OUTCOME_UNKNOWN, OutcomeUnknown()
        may = f"{failure.sentence} The tool may have run: check before you try again."
        return CallState.OUTCOME_UNKNOWN, OutcomeUnknown(may)
    if isinstance(failure, Refused | Unreachable):
        return CallState.FAILED, CallFailed(failure.sentence, code=failure.code)
    return CallState.FAILED, CallFailed(
        failure.sentence, code=f"upstream_{failure.code}", retry_after=getattr(failure, "retry_after", None)
    )


def breaker_signal(failure: BaseException | None) -> limits.BreakerSignal:
    """Return what the breaker learns of a run: whether the server answered, failed or was not reached, or neither."""
    if failure is None:
        return limits.BreakerSignal.ANSWERED
    if isinstance(failure, Unreachable) and failure.code == "pool_full":
        return limits.BreakerSignal.NEITHER  # nobody has asked the server: too many calls wait for it here
    if isinstance(failure, Unreachable | mcp_client.ConnectionLost):
        return limits.BreakerSignal.TRANSPORT_FAILED
    if isinstance(failure, mcp_client.ServerFailed):
        broken = failure.status >= _BAD_GATEWAY
        return limits.BreakerSignal.SERVER_FAILED if broken else limits.BreakerSignal.ANSWERED
    if isinstance(failure, mcp_client.TimedOut):
        return limits.BreakerSignal.TRANSPORT_FAILED if failure.kind == "connect" else limits.BreakerSignal.NEITHER
    return limits.BreakerSignal.ANSWERED if isinstance(failure, mcp_client.McpError) else limits.BreakerSignal.NEITHER
