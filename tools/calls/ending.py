"""What has ended for a call that is still open: its asker, its tool, its connection, its organization.

    of        why nothing more may be sent for a call, or None; nothing else decides that for one call
    check     raises that, wherever something is about to be sent: approved, answered, made
    sweep     ends the open calls for which something has ended, and which no process has in hand
    to_interrupt  which of the calls that run in this process are to be interrupted now
    revoke    revokes a token and ends the calls that were made with it

What a person ended (a revoked token, a denied tool, a disabled connection) interrupts what is under way. What only
expired or waits for a review (an expired token, a tool set aside) stops what would be sent next: a request that was
sent may come to its end. Calls of a suspended organization wait; only those under way are interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis import RedisError

from connections.models import PERSONAL, Connection
from tools.calls import acting, pubsub
from tools.errors import (
    ActingRefused,
    CallError,
    ConnectionNotReady,
    Ended,
    OrganizationSuspended,
    OutcomeUnknown,
    ToolDenied,
    ToolNotFound,
    ToolReplaced,
)
from tools.models import AccessToken, Assignment, Call, Policy, Tool
from tools.models.call_states import UNDER_WAY, CallState
from tools.models.calls import CallQuerySet

CONNECTION_DISABLED = "connection_disabled"
_SWEPT_AT_ONCE = 500
_GRANTS = Assignment.tools.through.objects
_HEAVY = (
    "sealed_arguments", "sealed_result", "sealed_question", "sealed_answers", "sealed_progress",
    "tool__definition", "tool__approved_definition", "assignment__instructions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class End:
    """Why nothing more may be sent for a call."""

    code: str
    sentence: str
    decided: bool = True  # by a person: what is under way is interrupted, too
    held: bool = False  # only suspended: a call that waits is not ended, and waits on
    tells_server: bool = True  # whether its server is sent `tasks/cancel` for a task, once


def of(call: Call) -> End | None:
    """Return what has ended for an open call, as the rows are now; None when nothing has."""
    row = _with_related(Call.objects.filter(pk=call.pk)).first()
    return _why(row, timezone.now()) if row is not None else None


def check(call: Call) -> None:
    """Raise OrganizationSuspended, or Ended with the code of what has ended."""
    if (end := of(call)) is not None:
        raise error_of(end)


def check_or_stop(call: Call) -> None:
    """Raise as `check` does, and end the call, unless it only waits."""
    if (end := of(call)) is not None:
        if not end.held:
            stop(call, end, timezone.now())
        raise error_of(end)


def error_of(end: End) -> CallError:
    """Return the error for a caller."""
    return OrganizationSuspended(end.sentence) if end.held else Ended(end.sentence, code=end.code)


def stop(call: Call, end: End, now: datetime) -> bool:
    """End an open call, and cancel its task where that is allowed; False if it has ended or changed meanwhile."""
    same = Call.objects.filter(pk=call.pk, state=call.state, attempts=call.attempts)
    if call.sent_at is None and call.state in (CallState.QUEUED, CallState.AWAITING_APPROVAL):
        stopped = same.end(CallState.FAILED, end.code, f"{end.sentence} Nothing was sent.", now)
    else:
        stopped = same.end(CallState.CANCELLED, end.code, in_part(end), now)
        if stopped and end.tells_server and Call.objects.filter(pk=call.pk).exclude(sealed_task="").exists():
            cancel_task(call.pk)
    if stopped:
        pubsub.publish(call.pk)
    return bool(stopped)


def end_as_replaced(call: Call, row: CallQuerySet, other: ToolReplaced) -> ToolReplaced:
    """End a call that would go to another tool or server than it was opened for, and return the error that says so."""
    now = timezone.now()
    if call.sealed_task:
        sentence = f"{other.sentence} Its server works on it as a task: the tool may have run."
        row.end(CallState.OUTCOME_UNKNOWN, OutcomeUnknown.code, sentence, now)
    else:
        sentence = f"{other.sentence} Nothing was sent."
        row.end(CallState.FAILED, other.code, sentence, now)
    return ToolReplaced(sentence)


def in_part(end: End) -> str:
    """Return the sentence for a call that was under way."""
    return f"{end.sentence} The tool may have run in part."


def sweep(now: datetime, calls: CallQuerySet | None = None) -> int:
    """End the open calls (default: of all) in no process's hand for which something has ended; return how many."""
    rows = Call.objects.all() if calls is None else calls
    in_hand = Q(state__in=UNDER_WAY, lease_until__isnull=False)
    found = rows.filter(_decided() | _ran_out(now), finished_at=None, tenant__suspended_at=None).exclude(in_hand)
    with transaction.atomic():
        ids = list(found.unlocked().order_by("created_at").values_list("pk", flat=True)[:_SWEPT_AT_ONCE])
    stopped = 0
    for call in _with_related(Call.objects.filter(pk__in=ids)) if ids else ():  # mostly there is none
        end = _why(call, now)
        if end is not None and not end.held:
            stopped += stop(call, end, now)
    return stopped


def to_interrupt(call_ids: Iterable[UUID], now: datetime) -> dict[UUID, End]:
    """Return those of the calls under way that a person has ended, each with what has ended.

    A call without a row belonged to an organization that was deleted.
    """
    ids, suspended = set(call_ids), Q(tenant__suspended_at__isnull=False)
    deleted = ids - set(Call.objects.filter(pk__in=ids).values_list("pk", flat=True))
    found = Call.objects.filter(_decided() | suspended, pk__in=ids, finished_at=None)
    ends = {call.pk: _why(call, now) for call in _with_related(found)}
    gone = End(Ended.code, "The organization was deleted.", tells_server=False)
    return dict.fromkeys(deleted, gone) | {
        call_id: end for call_id, end in ends.items() if end is not None and end.decided
    }


def invalid_tokens(token_ids: Iterable[UUID], now: datetime) -> set[UUID]:
    """Return those of the tokens that are no longer valid: who waits with one gets nothing more."""
    ids = set(token_ids)
    live = AccessToken.objects.live(now).filter(pk__in=ids)
    suspended = Q(assignment__tenant__suspended_at__isnull=False) | Q(membership__tenant__suspended_at__isnull=False)
    return ids - set(live.exclude(suspended).values_list("pk", flat=True))


def revoke(token: AccessToken, *, calls_go_on: bool = False) -> int:
    """Revoke a token and, unless `calls_go_on`, end the open calls made with it; return how many those were."""
    open_calls = Call.objects.filter(token=token, finished_at=None)
    began = open_calls.count()
    token.revoke(calls_go_on=calls_go_on)
    sweep(timezone.now(), open_calls)
    for call_id in open_calls.filter(state__in=UNDER_WAY).values_list("pk", flat=True):
        pubsub.publish(call_id)  # its process reads the row at once, and interrupts it
    return 0 if calls_go_on else began


# --- why ---


def _with_related(calls: CallQuerySet) -> CallQuerySet:
    related = calls.select_related("tenant", "assignment", "token", "connection", "tool")
    return related.defer(*_HEAVY).order_by("created_at")


def _why(call: Call, now: datetime) -> End | None:
    """Return what has ended for a call, the farthest reaching first."""
    if call.tenant.suspended_at is not None:
        return End(OrganizationSuspended.code, OrganizationSuspended().sentence, held=True, tells_server=False)
    each = (_asker_gone(call, now), _target_gone(call), _tool_aside(call), _in_nobodys_name(call))
    ends = [end for end in each if end is not None]
    if not ends:
        return None
    # A person's decision comes before what only expired; and if one end forbids it, nothing is sent to the server.
    first = next((end for end in ends if end.decided), ends[0])
    return replace(first, tells_server=all(end.tells_server for end in ends))


def _asker_gone(call: Call, now: datetime) -> End | None:
    assignment, token = call.assignment, call.token
    if assignment is None:
        return End(Ended.code, "The assignment that asked for it was deleted.", tells_server=False)
    if not assignment.enabled:
        return End(Ended.code, "The assignment that asked for it is disabled.")
    if token is None and call.token_id is not None:  # only revoked and expired tokens are ever deleted
        return End(Ended.code, "The token that asked for it was revoked or has expired.")
    if token is None:  # the call is older than the field `token`
        return None
    spared = token.calls_go_on and call.state != CallState.AWAITING_APPROVAL
    if token.revoked_at is not None and not spared:
        return End(Ended.code, "The token that asked for it was revoked.")
    if token.expires_at is not None and token.expires_at <= now and not spared:
        return End(Ended.code, "The token that asked for it has expired.", decided=False)
    return None


def _target_gone(call: Call) -> End | None:
    if call.connection is None or call.tool is None:
        return End(ToolNotFound.code, "The connection of its tool was deleted.", tells_server=False)
    if not call.connection.enabled:
        return End(CONNECTION_DISABLED, "The connection is disabled.", tells_server=False)
    chosen = call.assignment is not None and call.assignment.scope == Assignment.Scope.CHOSEN
    if chosen and not _GRANTS.filter(assignment=call.assignment_id, tool=call.tool_id).exists():
        return End(ToolNotFound.code, "The tool was taken away from the assignment.")
    return None


def _tool_aside(call: Call) -> End | None:
    tool: Tool | None = call.tool
    if tool is None or tool.availability.usable:
        return None
    denied = tool.policy == Policy.DENY
    return End(ToolDenied.code if denied else tool.availability.code, tool.availability.sentence, decided=denied)


def _in_nobodys_name(call: Call) -> End | None:
    if call.connection is None or call.assignment is None or not call.connection.is_personal:
        return None
    try:
        acting.check(call.token_id, call.assignment)
    except (ActingRefused, ConnectionNotReady) as refusal:
        return End(refusal.code, refusal.sentence, tells_server=False)
    return None


# --- the same as conditions, to find the few calls that `_why` is to check ---


def _decided() -> Q:
    acts = AccessToken.objects.acting().filter(pk=OuterRef("token"))
    personal = Q(connection__in=Connection.objects.filter(PERSONAL))
    granted = _GRANTS.filter(assignment=OuterRef("assignment"), tool=OuterRef("tool"))
    return (
        Q(assignment=None)
        | Q(assignment__enabled=False)
        | Q(token__revoked_at__isnull=False) & ~_spared()
        | Q(connection=None)
        | Q(connection__enabled=False)
        | Q(tool=None)
        | Q(tool__policy=Policy.DENY)
        | Q(assignment__scope=Assignment.Scope.CHOSEN) & ~Exists(granted)
        | personal & ~Exists(acts)
    )


def _ran_out(now: datetime) -> Q:
    set_aside = ~Q(tool__approved_digest=F("tool__digest")) | ~Q(tool__broken="") | Q(tool__gone_at__isnull=False)
    return Q(token__expires_at__lte=now) & ~_spared() | set_aside


def _spared() -> Q:
    """Calls that go on although their token was revoked; without this the sweep would find them again each time."""
    return Q(token__calls_go_on=True) & ~Q(state=CallState.AWAITING_APPROVAL)


def cancel_task(call_id: UUID) -> None:
    """Have a worker send `tasks/cancel` for a call."""
    try:
        current_app.send_task("tools.cancel_task", kwargs={"call_id": str(call_id)}, retry=False)
    except (OperationalError, OSError, RedisError):
        return  # the server finishes a task that nobody wants
