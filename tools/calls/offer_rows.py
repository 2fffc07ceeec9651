"""Reads the rows that offers are made of, with their version: many offers in one statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import connection as database
from django.db.models import Model, prefetch_related_objects

from connections.models import Connection, Credential, Tenant
from tools.calls import versions
from tools.calls.versions import column, table
from tools.models import AccessToken, Assignment, Tool

Key = tuple[UUID, UUID | None, str]  # assignment, token, and the public name of a tool

_NO_TOKEN: Final = UUID(int=0)
# Besides what is checked: what refusals say, and the definition that the digest stands for.
_MORE: Final[dict[type[Model], tuple[str, ...]]] = {
    Connection: ("credential_sentence", "reachability_reason", "reachability_sentence"),
    Tool: ("approved_definition",),
}


def _names(model: type[Model]) -> list[str]:
    """Return what is read of a row, in the order in which Django takes values."""
    wanted = {*versions.CHECKED[model], *_MORE.get(model, ())}
    return [field.name for field in model._meta.concrete_fields if field.name in wanted]  # noqa: SLF001 - Django's documented name


# Of the token only its version counts.
_READ: Final = {alias: _names(model) for alias, model in versions.MADE_OF.items() if alias != "t"}
_SELECT: Final = f"""
    SELECT q.number, {versions.VERSION}, a.scope = 'all' OR {versions.GRANTED},
        (SELECT count(*) FROM {table(Credential, "k")} WHERE k.connection_id = c.id),
        {", ".join(column(alias, versions.MADE_OF[alias], name) for alias in _READ for name in _READ[alias])}
    FROM q
    JOIN {table(Assignment, "a")} ON a.id = q.assignment_id
    JOIN {table(Tenant, "o")} ON o.id = a.tenant_id
    LEFT JOIN {table(AccessToken, "t")} ON t.id = q.token_id AND t.assignment_id = a.id
    LEFT JOIN (
        {table(Connection, "c")} JOIN {table(Tool, "u")} ON u.connection_id = c.id
    ) ON c.tenant_id = o.id AND u.public_name = q.name
"""  # noqa: S608 - the names are ours


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one offer, and the version that they had; `tool` is None where there is none.

    `granted` says whether the assignment was given the tool.
    """

    version: str
    granted: bool
    assignment: Assignment
    tool: Tool | None


def read(keys: Collection[Key]) -> dict[Key, Rows]:
    """Return what is found for each key; nothing for an assignment that is gone."""
    asked = list(keys)
    values = [
        part for number, (who, token, name) in enumerate(asked) for part in (number, who, token or _NO_TOKEN, name)
    ]
    with database.cursor() as cursor:
        places = ", ".join(["(%s, %s, %s, %s)"] * len(asked))
        begin = f"WITH q(number, assignment_id, token_id, name) AS (VALUES {places})"
        cursor.execute(f"{begin} {_SELECT}", [_adapted(value) for value in values])
        found = {asked[row[0]]: _rows(row[1], bool(row[2]), row[3], row[4:]) for row in cursor.fetchall()}
    with_secrets = [
        rows.tool.connection for rows in found.values() if rows.tool is not None and _has_secrets(rows.tool)
    ]
    if with_secrets:
        prefetch_related_objects(with_secrets, "credentials")
    return found


def _rows(version: str, granted: bool, secrets: int, values: Sequence[Any]) -> Rows:
    made: dict[str, Any] = {}
    for alias, begin, end, names, converters in _parts(database.vendor):
        own = [_converted(value, converter) for value, converter in zip(values[begin:end], converters, strict=True)]
        made[alias] = versions.MADE_OF[alias].from_db(database.alias, names, own) if own[0] is not None else None
    assignment, tool = made["a"], made["u"]
    assignment.tenant = made["o"]
    if tool is not None:
        tool.connection = made["c"]
        tool.connection.tenant = made["o"]
        if not secrets:
            tool.connection._prefetched_objects_cache = {"credentials": []}  # noqa: SLF001 - as prefetching nothing would
    return Rows(version, granted, assignment, tool)


def _has_secrets(tool: Tool) -> bool:
    return not hasattr(tool.connection, "_prefetched_objects_cache")


Part = tuple[str, int, int, list[str], list[list[Any]]]


@cache
def _parts(vendor: str) -> list[Part]:
    """Return which of the columns are whose, and how the database's values become those of fields."""
    parts, begin = list[Part](), 0
    for alias, names in _READ.items():
        fields: list[Any] = [versions.MADE_OF[alias]._meta.get_field(name) for name in names]  # noqa: SLF001 - Django's documented name
        columns = [field.get_col(alias) for field in fields]
        converters = [
            [(each, one) for each in (*database.ops.get_db_converters(one), *one.get_db_converters(database))]
            for one in columns
        ]
        parts.append((alias, begin, begin + len(names), [field.attname for field in fields], converters))
        begin += len(names)
    return parts


def _converted(value: Any, converters: list[Any]) -> Any:
    for convert, expression in converters:
        value = convert(value, expression, database)
    return value


def _adapted(value: Any) -> Any:
    return value.hex if isinstance(value, UUID) and not database.features.has_native_uuid_field else value
