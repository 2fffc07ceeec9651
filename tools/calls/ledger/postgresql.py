"""Writes rows with one statement, on a connection that belongs to the event loop: nothing waits for a thread."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from django.conf import settings
from django.db import OperationalError, connection

from tools.calls import versions
from tools.calls.ledger.by_django import COLUMNS, ENDED, FIXED, IS_OPEN, OPEN, UNLESS_THERE, values_of
from tools.calls.ledger.rows import Entry, Opening, Outcome


def _type(name: str) -> str:
    if name.endswith(("_at", "_until")):
        return "timestamptz"
    return "uuid" if name == "id" or (name.endswith("_id") and name != "request_id") else "text"


_SEALED: Final = "sealed_arguments"
_TYPES: Final = {name: _type(name) for name in (*COLUMNS, "version") if name != _SEALED}
_LONGEST: Final = 60.0  # seconds of a statement where the settings set no limit
_LONGER: Final = 5.0
_OUTCOME: Final = {
    "id": "uuid", "attempt": "int", "state": "text", "error_code": "text", "error_sentence": "text",
    "finished_at": "timestamptz",
}  # fmt: skip


def _rows(types: dict[str, str], sealed: str) -> str:
    """Return the rows of two parameters, what is small as JSON and what is sealed as an array: it may be megabytes."""
    small = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    return (
        f"ROWS FROM (json_to_recordset(%s::json) AS ({small}), unnest(%b::text[])) AS r({', '.join(types)}, {sealed})"
    )


def _opened(*, sign_ins: bool) -> str:
    return f"""opened AS (
        {OPEN} {", ".join(f"r.{name}" for name in COLUMNS)}, {", ".join(FIXED.values())}
        FROM {_rows(_TYPES, _SEALED)}
        WHERE {versions.still_so(lambda name: f"r.{name}", sign_ins=sign_ins)} {UNLESS_THERE} RETURNING id
    )"""


_ENDED: Final = f"""ended AS (
    UPDATE tools_call SET state = r.state, sealed_result = r.sealed, error_code = r.error_code,
        error_sentence = r.error_sentence, finished_at = r.finished_at, {ENDED}
    FROM {_rows(_OUTCOME, "sealed")}
    WHERE tools_call.id = ANY(%s::uuid[]) AND tools_call.id = r.id AND tools_call.attempts = r.attempt
        AND tools_call.{IS_OPEN}
    RETURNING tools_call.id
)"""  # noqa: S608 - the names are ours


@cache
def statement(*, opens: bool, ends: bool, sign_ins: bool) -> str:
    """Return the statement that opens calls, or ends some, or both; what it does not do costs nothing."""
    parts = {"opened": _opened(sign_ins=sign_ins) if opens else "", "ended": _ENDED if ends else ""}
    does = {name: part for name, part in parts.items() if part}
    found = " UNION ALL ".join(f"SELECT id FROM {name}" for name in does)  # noqa: S608 - the names are ours
    return f"WITH {', '.join(does.values())} {found}"


# A statement is planned once. PostgreSQL would plan it for tables as large as they are at that moment; whatever they
# become, each row is looked up by its key.
_PLAN: Final = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off",
        "enable_mergejoin": "off", "enable_material": "off", "enable_bitmapscan": "off", "jit": "off",
    }.items()
)  # fmt: skip


class NotConnected(OperationalError):
    """The database could not be reached; it was tried just now."""


class Line:
    """One connection to PostgreSQL, made when it is needed."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def commit(self, entries: Sequence[Entry]) -> set[UUID]:
        """Write the rows in one transaction; return the ids of those that were written.

        Raises Django's errors, NotConnected among them.
        """
        openings = [values_of(one.row, one.sealed) for one in entries if isinstance(one.row, Opening)]
        outcomes = [_values_of(one.row) for one in entries if isinstance(one.row, Outcome)]
        sign_ins = any(versions.has_sign_in(opening["version"]) for opening in openings)
        write = statement(opens=bool(openings), ends=bool(outcomes), sign_ins=sign_ins)
        values: list[Any] = []
        if openings:
            sealed = [opening.pop(_SEALED) for opening in openings]
            values += [orjson.dumps(openings).decode(), sealed]
        if outcomes:
            sealed = [one.sealed for one in entries if isinstance(one.row, Outcome)]
            values += [orjson.dumps(outcomes).decode(), sealed, [outcome["id"] for outcome in outcomes]]
        line = await self._connected()
        patience = asyncio.get_running_loop().call_later(_patience(), _cut, line)
        try:
            with connection.wrap_database_errors:
                found = await line.execute(write, values)
                return {call_id for (call_id,) in await found.fetchall()}
        finally:
            patience.cancel()

    async def close(self) -> None:
        """Give the connection back to the database."""
        line, self._connection = self._connection, None
        if line is not None:
            with suppress(psycopg.Error):
                await line.close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            parameters = connection.get_connection_params()
            del parameters["cursor_factory"]
            parameters["options"] = f"{parameters.get('options', '')} {_PLAN}"
            if parameters["prepare_threshold"] is not None:  # which says that something between us cannot do it
                parameters["prepare_threshold"] = 0
            try:
                self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            except psycopg.OperationalError as failure:
                raise NotConnected(str(failure)) from failure
        return self._connection


def _patience() -> float:
    """Return after how many seconds a server that ends long statements by itself must have died."""
    return (settings.DATABASE_STATEMENT_TIMEOUT or _LONGEST) + _LONGER


def _cut(line: psycopg.AsyncConnection[Any]) -> None:
    """Cut the connection: who waits for an answer gets an error, where cancelling would ask the server, and wait."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(line.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


def _values_of(row: Outcome) -> dict[str, Any]:
    return {
        "id": row.id, "attempt": row.attempt, "state": row.state, "error_code": row.error_code,
        "error_sentence": row.error_sentence, "finished_at": row.finished_at,
    }  # fmt: skip
