"""How many rows the statements of a page or a task read: a list that falls back to a scan reads all of its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

LARGE = ("tools_call", "tools_probe", "connections_auditevent", "tools_tool")  # tables that grow with the platform


def most_read(run: Callable[[], object], tables: tuple[str, ...] = LARGE) -> tuple[float, str]:
    """Return the most rows of one of these tables that a statement of `run` reads, and that statement.

    Tables of some thousand rows are read as a whole where that is as quick; as those of a platform they are not.
    """
    noted: list[tuple[str, Any]] = []

    def note(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        noted.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        run()
    read = [(_read(sql, parameters, tables), sql) for sql, parameters in noted if any(table in sql for table in tables)]
    return max(read, default=(0.0, ""))


def _read(sql: str, parameters: Any, tables: tuple[str, ...]) -> float:
    if not sql.startswith(("SELECT", "UPDATE", "WITH", "DELETE", "\n")):
        return 0.0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
        [[[plan]]] = cursor.fetchall()
        transaction.set_rollback(True)
    return _rows(plan["Plan"], tables)


def _rows(node: dict[str, Any], tables: tuple[str, ...]) -> float:
    below = sum(_rows(child, tables) for child in node.get("Plans", ()))
    if node.get("Relation Name") not in tables or node["Node Type"] == "ModifyTable":
        return below
    left_out = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(below + (node["Actual Rows"] + left_out) * node["Actual Loops"])
