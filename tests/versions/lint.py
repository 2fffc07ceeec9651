"""What a migration must not do, because the version before still runs, or because calls would wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.migrations import Migration, operations
from django.db.migrations.state import ProjectState
from django.db.models import CheckConstraint

from connections.expanding import AddConstraintAside, AddIndexAside

LARGE = {"call", "callevent", "storedcontent", "auditevent", "statemove"}  # tables with rows for each call
TAKES_AWAY = (operations.RemoveField, operations.DeleteModel, operations.RenameField, operations.RenameModel)


def faults(migration: Migration, before: ProjectState) -> Iterator[str]:
    """Give a sentence for each thing that is not safe; `before` is the state that the migration meets."""
    state = before.clone()
    made: set[str] = set()
    for operation in migration.operations:
        after = state.clone()
        operation.state_forwards(migration.app_label, after)
        if isinstance(operation, operations.CreateModel):
            made.add(operation.name_lower)
        elif getattr(operation, "model_name_lower", "") not in made:
            yield from _faults(operation, migration, state, after)
        state = after


def _faults(operation: Any, migration: Migration, before: ProjectState, after: ProjectState) -> Iterator[str]:
    what = operation.describe()
    match operation:
        case operations.AddField():
            yield from _of_new_column(operation, what)
        case operations.AlterField():
            old, new = (_field(state, migration.app_label, operation) for state in (before, after))
            if old.null and not new.null:
                yield f"{what}: the version before may write null."
            if old.db_type(connection) != new.db_type(connection) and not grows(old, new):
                yield f"{what}: add another column instead; the version before knows the old type."
        case operations.AddIndex() | operations.AddConstraint():
            yield from _of_lock(operation, migration, what)
        case _ if isinstance(operation, TAKES_AWAY) and not getattr(migration, "nobody_uses", ""):
            yield f"{what}: name in `nobody_uses` the release from which on nobody reads or writes it."


def _of_new_column(operation: Any, what: str) -> Iterator[str]:
    field = operation.field
    if not (field.null or field.many_to_many or field.has_db_default()):
        yield f"{what}: give it a db_default, or the version before inserts no row any more."
    if field.is_relation and not field.many_to_many and operation.model_name_lower in LARGE:
        yield f"{what}: a foreign key locks a large table; add a plain column."


def _of_lock(operation: Any, migration: Migration, what: str) -> Iterator[str]:
    if isinstance(operation, AddIndexAside | AddConstraintAside):
        if migration.atomic:
            yield f"{what}: needs `atomic = False`."
        if isinstance(operation, AddConstraintAside) and not isinstance(operation.constraint, CheckConstraint):
            yield f"{what}: only checks can be added so."
    elif isinstance(operation, operations.AddIndex):
        yield f"{what}: use AddIndexAside, or the table is locked while it is built."
    else:
        yield f"{what}: use AddConstraintAside, or the table is locked while each row is looked at."


def _field(state: ProjectState, app_label: str, operation: Any) -> Any:
    return state.apps.get_model(app_label, operation.model_name)._meta.get_field(operation.name)


def grows(old: Any, new: Any) -> bool:
    """Whether a text may only become longer, which rewrites nothing."""
    text = {"CharField", "TextField", "SlugField"}
    if {old.get_internal_type(), new.get_internal_type()} - text:
        return False
    return new.max_length is None or (old.max_length or 0) <= new.max_length
