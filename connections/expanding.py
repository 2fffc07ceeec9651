"""What migrations are made of so that the version before works on: no long lock, and a default for all it leaves out.

    AddIndexAside        builds an index while the table is written to
    drop_index_of        drops the index that a foreign key had for itself, once another begins with its column
    AddConstraintAside   adds a check at once for new rows, then looks at the old ones without keeping anybody waiting
    defaults_in_database gives each column that has a default in Python the same in the database: a version that does
                         not know the column, or no longer, inserts rows all the same
    deletes_reach        has the database delete what belongs to a row, or forget the row: a version that does not know
                         a table deletes rows that others of that table name

All but plain `AddField` need a migration with `atomic = False`; each may be run again after it was interrupted. They
are for PostgreSQL, where versions run side by side. On SQLite they do what Django's own do, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db.migrations import AddConstraint, AddIndex
from django.db.models import CASCADE, SET_NULL, Field, Model
from django.utils import timezone

Step = Callable[[Any, Any], None]
_LITERALS: dict[Any, str] = {timezone.now: "now()", list: "'[]'", dict: "'{}'"}
_ON_DELETE = {CASCADE: ("c", "CASCADE"), SET_NULL: ("n", "SET NULL")}


class AddIndexAside(AddIndex):
    """Add an index with CREATE INDEX CONCURRENTLY; what a try that was interrupted has left is removed first."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Build it."""
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        schema_editor.add_index(model, self.index, concurrently=True)


class AddConstraintAside(AddConstraint):
    """Add a check constraint NOT VALID, which takes a moment, and validate it, which locks no writer out."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Add it, then look at the rows that are there."""
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        table, name = (schema_editor.quote_name(word) for word in (model._meta.db_table, self.constraint.name))  # noqa: SLF001
        schema_editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
        schema_editor.execute(f"{self.constraint.create_sql(model, schema_editor)} NOT VALID", params=None)
        schema_editor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def drop_index_of(app_label: str, model_name: str, field_name: str) -> Step:
    """Return the step that drops the index of a foreign key alone, which Django names by a digest.

    An `AlterField` would do it too, but check the foreign key of every row anew, and have SQLite make the table anew.
    """

    def drop(apps: Any, schema_editor: Any) -> None:
        model = apps.get_model(app_label, model_name)
        table, column = model._meta.db_table, model._meta.get_field(field_name).column  # noqa: SLF001
        with schema_editor.connection.cursor() as cursor:
            found = schema_editor.connection.introspection.get_constraints(cursor, table)
        aside = "CONCURRENTLY " if schema_editor.connection.vendor == "postgresql" else ""
        for name, one in found.items():
            if one["index"] and one["columns"] == [column] and name.startswith(table):  # others have names of their own
                schema_editor.execute(f"DROP INDEX {aside}IF EXISTS {schema_editor.quote_name(name)}")

    return drop


def defaults_in_database(app_label: str) -> Step:
    """Return the step that gives every column of these models that has a default one in the database."""

    def give(apps: Any, schema_editor: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        quote = schema_editor.quote_name
        for model in _models(apps, app_label):
            for field in model._meta.local_concrete_fields:  # noqa: SLF001
                if (default := default_of(field)) is not None:
                    table, column = quote(model._meta.db_table), quote(field.column)  # noqa: SLF001
                    schema_editor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {default}")

    return give


def default_of(field: Field[Any, Any]) -> str | None:
    """Return the default, as SQL, of a column that may not be null and has one in Python only; None for others."""
    if field.primary_key or field.null or field.has_db_default() or field.is_relation:
        return None
    if not field.has_default():
        return "''" if field.blank and field.empty_strings_allowed else None
    if field.default in _LITERALS:
        return _LITERALS[field.default]
    value = field.get_prep_value(field.get_default())
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, int) else "'{}'".format(str(value).replace("'", "''"))


def deletes_reach(app_label: str, *, but: Iterable[str] = ()) -> Step:
    """Return the step that has deletions reach the rows of these models in the database, `but` of some."""

    def reach(apps: Any, schema_editor: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        while schema_editor.deferred_sql:  # the foreign keys of a table that this very migration has made
            schema_editor.execute(schema_editor.deferred_sql.pop(0))
        for model in _models(apps, app_label):
            if str(model._meta.model_name) in but:  # noqa: SLF001
                continue
            for field in model._meta.local_concrete_fields:  # noqa: SLF001
                on_delete = getattr(field.remote_field, "on_delete", None)
                if on_delete in _ON_DELETE:
                    table, column = model._meta.db_table, str(field.column)  # noqa: SLF001
                    _have_it_reach(schema_editor, table, column, *_ON_DELETE[on_delete])

    return reach


def _have_it_reach(schema_editor: Any, table: str, column: str, mark: str, words: str) -> None:
    quote = schema_editor.quote_name
    for name, definition in _foreign_keys(schema_editor.connection, table, column, mark):
        key, _, rest = definition.partition(" DEFERRABLE")
        anew = f"{key} ON DELETE {words} DEFERRABLE{rest} NOT VALID".replace(" NOT VALID NOT VALID", " NOT VALID")
        # The two in one statement: there is no moment without the constraint.
        schema_editor.execute(
            f"ALTER TABLE {quote(table)} DROP CONSTRAINT {quote(name)}, ADD CONSTRAINT {quote(name)} {anew}"
        )
        schema_editor.execute(f"ALTER TABLE {quote(table)} VALIDATE CONSTRAINT {quote(name)}")


def _foreign_keys(connection: Any, table: str, column: str, mark: str) -> list[tuple[str, str]]:
    """Return name and definition of the foreign keys of a column that do something else at a deletion."""
    query = """
        SELECT conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
        JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] AND array_length(conkey, 1) = 1
        WHERE contype = 'f' AND conrelid = %s::regclass AND attname = %s AND confdeltype <> %s
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [table, column, mark])
        return list(cursor.fetchall())


def _models(apps: Any, app_label: str) -> list[type[Model]]:
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label == app_label and model._meta.managed  # noqa: SLF001
    ]
