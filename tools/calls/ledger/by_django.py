"""Writes rows one by one through a connection of Django's: all of them on SQLite, outcomes with contents anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from tools.calls import versions
from tools.calls.ledger.rows import Claim, Entry, Opening, Outcome, Row, Sending
from tools.models import Call, StoredContent
from tools.models.call_states import OPEN_STATES

COLUMNS: Final = (
    "id", "tenant_id", "assignment_id", "token_id", "connection_id", "tool_id", "tool_name", "state",
    "sealed_arguments", "request_id", "created_at", "started_at", "sent_at", "lease_until", "waits_until",
    "traceparent", "tool_digest", "server_url", "session_name", "idempotency_key", "body_digest",
    "account", "waits_for_login",
)  # fmt: skip
FIXED: Final = {"sealed_result": "''", "error_code": "''", "error_sentence": "''", "attempts": "1"}
OPEN: Final = f"INSERT INTO tools_call ({', '.join((*COLUMNS, *FIXED))}) SELECT"
# Who waits for the same key, or whose confirmation of a commit was lost, finds the row that is there.
UNLESS_THERE: Final = "ON CONFLICT DO NOTHING"
# Not `finished_at IS NULL`: PostgreSQL would rather walk through its index of open calls than look up the one.
IS_OPEN: Final = f"state IN ({', '.join(repr(str(state)) for state in OPEN_STATES)})"
ENDED: Final = "lease_until = NULL, waits_until = NULL, poll_at = NULL"

_OPEN: Final = f"""
    {OPEN} {", ".join(f"%({name})s" for name in COLUMNS)}, {", ".join(FIXED.values())}
    WHERE {versions.still_so(lambda name: f"%({name})s")} {UNLESS_THERE}
"""
_CLAIM: Final = f"""
    UPDATE tools_call SET state = 'running', started_at = %(started_at)s, lease_until = %(lease_until)s,
        account = %(account)s
    WHERE id = %(id)s AND attempts = %(attempt)s AND state = 'queued'
        AND {versions.still_so(lambda name: f"%({Claim.MEANS.get(name, name)})s")}
"""  # noqa: S608 - the names are ours
_SEND: Final = """
    UPDATE tools_call SET sent_at = %(sent_at)s WHERE id = %(id)s AND attempts = %(attempt)s AND state = 'running'
"""
_FINISH: Final = f"""
    UPDATE tools_call SET state = %s, sealed_result = %s, error_code = %s, error_sentence = %s, finished_at = %s,
        {ENDED}
    WHERE id = %s AND attempts = %s AND {IS_OPEN}
"""  # noqa: S608 - the states are ours


def commit(entries: Sequence[Entry]) -> set[UUID]:
    """Write the rows in one transaction; return the ids of those that were written."""
    with transaction.atomic(), connection.cursor() as cursor:
        return {entry.row.id for entry in entries if _write(cursor, entry)}


def values_of(row: Opening, sealed: str) -> dict[str, Any]:
    """Return what the columns of a new call and the condition on which it is opened are to have."""
    return {
        "id": row.id, "tenant_id": row.tenant_id, "assignment_id": row.assignment_id, "token_id": row.token_id,
        "connection_id": row.connection_id, "tool_id": row.tool_id, "tool_name": row.tool_name, "state": row.state,
        "sealed_arguments": sealed, "request_id": row.request_id, "created_at": row.created_at,
        "started_at": row.started_at, "sent_at": row.started_at, "lease_until": row.lease_until,
        "waits_until": row.waits_until, "traceparent": row.traceparent, "tool_digest": row.tool_digest,
        "server_url": row.server_url, "session_name": row.session_name, "idempotency_key": row.idempotency_key,
        "body_digest": row.body_digest, "account": row.account, "waits_for_login": row.waits_for_login,
        "version": row.version,
    }  # fmt: skip


def _write(cursor: Any, entry: Entry) -> bool:
    row = entry.row
    if isinstance(row, Opening):
        cursor.execute(_OPEN, {name: _adapted(value) for name, value in values_of(row, entry.sealed).items()})
        return bool(cursor.rowcount)
    if isinstance(row, Claim | Sending):
        move = _CLAIM if isinstance(row, Claim) else _SEND
        cursor.execute(move, {name: _adapted(value) for name, value in row.values().items()})
        return bool(cursor.rowcount)
    values = (row.state, entry.sealed, row.error_code, row.error_sentence, row.finished_at, row.id, row.attempt)
    cursor.execute(_FINISH, [_adapted(value) for value in values])
    if not cursor.rowcount:
        return False
    _store(row)
    return True


def _store(row: Outcome) -> None:
    if row.contents:
        StoredContent.objects.bulk_create(row.contents)


def already_there(entries: Sequence[Entry]) -> set[UUID]:
    """Return those of the rows that a commit has written whose confirmation was lost."""
    rows = Call.objects.filter(pk__in=[entry.row.id for entry in entries])
    found = {call.pk: call for call in rows.only("started_at", "sent_at", "finished_at")}
    return {row.id for row in (entry.row for entry in entries) if row.id in found and _is_this(row, found[row.id])}


def _is_this(row: Row, call: Call) -> bool:
    if isinstance(row, Claim):
        return call.started_at == row.started_at
    if isinstance(row, Sending):
        return call.sent_at == row.sent_at
    return isinstance(row, Opening) or call.finished_at == row.finished_at


def _adapted(value: Any) -> Any:
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
