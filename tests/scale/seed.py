"""The rows of a large platform, made in the database itself: uneven over organizations and time, as real ones are.

The database's superuser does it, without triggers and checks of foreign keys: the events of a call are made here, with
the times that they had.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from random import Random
from typing import Any

import psycopg

from tests.scale import statements
from tests.scale.progress import through
from tests.scale.size import Size

SLICE = 20_000  # calls of one statement
_TEXTS = 64  # sealed texts of each kind: nothing compresses them, as nothing compresses sealed ones


def sow(database_url: str, size: Size) -> None:
    """Fill the tables, and have the planner know them."""
    as_superuser = database_url.replace("//duvo@", "//postgres@", 1)
    with psycopg.connect(as_superuser, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET work_mem = '256MB'")
        connection.execute("SET synchronous_commit = off")
        connection.execute("SELECT setseed(0.25)")
        for statement in statements.BEFORE:
            connection.execute(statement)
        _texts(connection)
        given = vars_of(size)
        for statement in through(statements.STOCK, "platform"):
            connection.execute(statement, given)
        for first in through(range(0, size.calls, SLICE), "calls"):
            slice_ = {"first": first, "last": min(first + SLICE, size.calls) - 1}
            connection.execute(statements.CALLS, given | slice_)
        for statement in through(statements.AFTER, "the rest"):
            connection.execute(statement, given)
        for statement in through(["VACUUM (ANALYZE)"], "vacuum"):
            connection.execute(statement)


def vars_of(size: Size) -> dict[str, Any]:
    """Return what the statements are told."""
    return {
        "calls": size.calls, "connections": size.connections, "tenants": size.tenants, "tools_each": size.tools_each,
        "days": size.days, "probes_each": size.probes_each, "events": size.events, "first": 0, "last": 0,
        "of_the_first": size.of_the_first, "definition": json.dumps(_definition()), "stages": json.dumps(_stages()),
    }  # fmt: skip


def _texts(connection: psycopg.Connection[Any]) -> None:
    chance = Random(7)
    with connection.cursor() as cursor:
        for kind, sizes in (("arguments", (90, 900)), ("result", (150, 3_000))):
            rows = [
                (kind, number, b64encode(secrets.token_bytes(chance.randint(*sizes))).decode())
                for number in range(_TEXTS)
            ]
            cursor.executemany("INSERT INTO scale_text VALUES (%s, %s, %s)", rows)


def _definition() -> dict[str, Any]:
    words = "Finds the orders that fit what is given, the newest first, with their positions and where they are now."
    one = {"type": "string", "description": words, "maxLength": 200}
    names = ("customer", "country", "since", "until", "state", "carrier")
    return {
        "name": "find",
        "description": f"{words} {words} {words}",
        "inputSchema": {"type": "object", "properties": dict.fromkeys(names, one), "required": ["customer"]},
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }


def _stages() -> list[dict[str, Any]]:
    sentence = "The server answered as the standard says, within the time that it has."
    names = ("address", "dns", "tcp", "tls", "protocol", "authorization", "tools")
    return [{"stage": name, "outcome": "passed", "sentence": sentence, "milliseconds": 12} for name in names]
