"""Writes rows with one statement, on a connection that belongs to the event loop: nothing waits for a thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

import orjson

from tools.calls import lines, versions
from tools.calls.ledger.by_django import COLUMNS, ENDED, FIXED, IS_OPEN, OPEN, UNLESS_THERE, values_of
from tools.calls.ledger.rows import Claim, Entry, Opening, Outcome, Sending


def _type(name: str) -> str:
    if name.endswith(("_at", "_until")):
        return "timestamptz"
    if name == "waits_for_login":
        return "boolean"
    return "uuid" if name == "id" or (name.endswith("_id") and name != "request_id") else "text"


_SEALED: Final = "sealed_arguments"
_TYPES: Final = {name: _type(name) for name in (*COLUMNS, "version") if name != _SEALED}
_CLAIM: Final = {"attempt": "int"} | {name: _type(name) for name in Claim.__slots__ if name != "attempt"}
_SENDING: Final = {"id": "uuid", "attempt": "int", "sent_at": "timestamptz"}
_OUTCOME: Final = {
    "id": "uuid", "attempt": "int", "state": "text", "error_code": "text", "error_sentence": "text",
    "finished_at": "timestamptz",
}  # fmt: skip
_SAME: Final = "tools_call.id = ANY(%s::uuid[]) AND tools_call.id = r.id AND tools_call.attempts = r.attempt"


def _rows(types: dict[str, str], sealed: str = "") -> str:
    """Return rows of JSON, with a second parameter for a column that is `sealed`: it may be megabytes."""
    columns = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    if not sealed:
        return f"json_to_recordset(%s::json) AS r({columns})"
    both = f"json_to_recordset(%s::json) AS ({columns}), unnest(%b::text[])"
    return f"ROWS FROM ({both}) AS r({', '.join(types)}, {sealed})"


def _opened(*, sign_ins: bool) -> str:
    return f"""opened AS (
        {OPEN} {", ".join(f"r.{name}" for name in COLUMNS)}, {", ".join(FIXED.values())}
        FROM {_rows(_TYPES, _SEALED)}
        WHERE {versions.still_so(lambda name: f"r.{name}", sign_ins=sign_ins)} {UNLESS_THERE} RETURNING id
    )"""


def _claimed(*, sign_ins: bool, alone: bool) -> str:
    return f"""claimed AS (
        UPDATE "tools_call" SET state = 'running', started_at = r.started_at, lease_until = r.lease_until,
            account = r.account
        FROM {_rows(_CLAIM)}{f", {lines.QUICKLY}" if alone else ""}
        WHERE {_SAME} AND tools_call.state = 'queued'
            AND {versions.still_so(lambda name: f"r.{Claim.MEANS.get(name, name)}", sign_ins=sign_ins)}
        RETURNING tools_call.id
    )"""  # noqa: S608 - the names are ours


_SENT: Final = f"""sent AS (
    UPDATE tools_call SET sent_at = r.sent_at FROM {_rows(_SENDING)}
    WHERE {_SAME} AND tools_call.state = 'running'
    RETURNING tools_call.id
)"""  # noqa: S608 - the names are ours
_ENDED: Final = f"""ended AS (
    UPDATE tools_call SET state = r.state, sealed_result = r.sealed, error_code = r.error_code,
        error_sentence = r.error_sentence, finished_at = r.finished_at, {ENDED}
    FROM {_rows(_OUTCOME, "sealed")}
    WHERE {_SAME} AND tools_call.{IS_OPEN}
    RETURNING tools_call.id
)"""  # noqa: S608 - the names are ours


@cache
def statement(*, opens: bool, ends: bool, sign_ins: bool, claims: bool = False, sends: bool = False) -> str:
    """Return the statement that opens, claims, sends or ends calls, or several; what it does not do costs nothing."""
    parts = {
        "opened": _opened(sign_ins=sign_ins) if opens else "",
        # A claim that a crash of the database takes back lets nothing be sent, so it need not wait for the disk.
        "claimed": _claimed(sign_ins=sign_ins, alone=not (opens or sends or ends)) if claims else "",
        "sent": _SENT if sends else "",
        "ended": _ENDED if ends else "",
    }
    does = {name: part for name, part in parts.items() if part}
    found = " UNION ALL ".join(f"SELECT id FROM {name}" for name in does)  # noqa: S608 - the names are ours
    return f"WITH {', '.join(does.values())} {found}"


class Line(lines.Line):
    """One connection on which rows are written."""

    async def commit(self, entries: Sequence[Entry]) -> set[UUID]:
        """Write the rows in one transaction; return the ids of those that were written.

        Raises Django's errors, NotConnected among them.
        """
        openings = [values_of(one.row, one.sealed) for one in entries if isinstance(one.row, Opening)]
        claims = [one.row.values() for one in entries if isinstance(one.row, Claim)]
        sendings = [one.row.values() for one in entries if isinstance(one.row, Sending)]
        ended = [one for one in entries if isinstance(one.row, Outcome)]
        outcomes = [_values_of(one.row) for one in ended if isinstance(one.row, Outcome)]
        sign_ins = any(versions.has_sign_in(row["version"]) for row in (*openings, *claims))
        write = statement(
            opens=bool(openings), claims=bool(claims), sends=bool(sendings), ends=bool(outcomes), sign_ins=sign_ins
        )
        values: list[Any] = []
        if openings:
            sealed = [opening.pop(_SEALED) for opening in openings]
            values += [orjson.dumps(openings).decode(), sealed]
        for moves in filter(None, (claims, sendings)):
            values += [orjson.dumps(moves).decode(), [move["id"] for move in moves]]
        if outcomes:
            ids = [outcome["id"] for outcome in outcomes]
            values += [orjson.dumps(outcomes).decode(), [one.sealed for one in ended], ids]
        return {call_id for (call_id,) in await self.ask(write, values)}


def _values_of(row: Outcome) -> dict[str, Any]:
    return {
        "id": row.id, "attempt": row.attempt, "state": row.state, "error_code": row.error_code,
        "error_sentence": row.error_sentence, "finished_at": row.finished_at,
    }  # fmt: skip
