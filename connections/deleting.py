"""Deleting rows that others write to at this moment, and work whose rows are deleted meanwhile.

A check, a call, a sign-in, a renewal or a notice may be under way for whatever is deleted. The deletion goes through,
what the work wrote last goes with it, and the work ends quietly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.db.models import CASCADE, Model, QuerySet

Value = TypeVar("Value")
Row = TypeVar("Row", bound=Model)
_TRIES: Final = 5
_AT_ONCE: Final = 500
MOST_AT_ONCE: Final = 2_000  # rows of one table that a deletion takes along while a person waits for it
_FOREIGN_KEY: Final = "23503"  # SQLSTATE of PostgreSQL
_DEADLOCKS: Final = frozenset({"40P01", "40001"})
_NOTHING_SAVED: Final = "did not affect any rows"  # Django's words for a row that is gone


def delete(rows: Model | QuerySet[Any]) -> None:
    """Delete a row, or a set of rows, with what belongs to it, as `carry_out` does."""
    key = rows.pk if isinstance(rows, Model) else None

    def work() -> None:
        if isinstance(rows, Model):
            rows.pk = key  # after a try in vain: Django takes it from a deleted row
        rows.delete()

    carry_out(work)


def let_go(rows: QuerySet[Any]) -> None:
    """Have what will only forget these rows forget them now, some hundred at a time; outside of a transaction.

    What they are is said by the attribute `lets_go` of a model with very many rows: by the name of a foreign key, the
    columns that become null with it, of rows that nobody works on any more. One statement for all of them would hold
    its locks for as long as it takes, and may take longer than any statement may.
    """
    keys = list(rows.order_by().values_list("pk", flat=True))
    for relation in rows.model._meta.related_objects:  # noqa: SLF001 - Django's public API, whatever its name
        of, name = relation.related_model, relation.field.name
        settled, columns = getattr(of, "lets_go", {}).get(name, (None, ()))
        if settled is None:
            continue
        referring = of._base_manager.filter(settled, **{f"{name}__in": keys}).order_by()  # noqa: SLF001 - public, too
        while True:
            batch = list(referring.values_list("pk", flat=True)[:_AT_ONCE])
            forgotten = of._base_manager.filter(pk__in=batch)  # noqa: SLF001 - public, too
            carry_out_beside(partial(forgotten.update, **dict.fromkeys(columns)))
            if len(batch) < _AT_ONCE:  # what ends meanwhile is left to the deletion
                break


def takes_long(rows: QuerySet[Any]) -> bool:
    """Tell whether rows take more of one table along than a person should wait for, directly or by one row between."""
    return any(
        further[: MOST_AT_ONCE + 1].count() > MOST_AT_ONCE
        for own in _taken_along(rows)
        for further in (own, *_taken_along(own))
    )


def counts(rows: QuerySet[Any]) -> dict[str, int]:
    """Return how many rows go directly with these, by what they are called: counted by the database, none is read."""
    found = {str(own.model._meta.verbose_name_plural): own.count() for own in (rows, *_taken_along(rows))}  # noqa: SLF001 - public, too
    return {what: number for what, number in found.items() if number}


def _taken_along(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    for relation in rows.model._meta.related_objects:  # noqa: SLF001 - public, too
        if relation.on_delete is CASCADE:
            others = relation.related_model._base_manager  # noqa: SLF001 - public, too
            yield others.filter(**{f"{relation.field.name}__in": rows.order_by()}).order_by()


def carry_out(work: Callable[[], Value]) -> Value:
    """Run a deletion in a transaction; what is added to the rows meanwhile is deleted, too.

    A transaction that waits for us while we wait for it costs another try, not the deletion.
    """
    for left in reversed(range(_TRIES)):
        try:
            with transaction.atomic():
                value = work()
                _check_constraints()
                return value
        except (IntegrityError, OperationalError) as error:
            if not left or not (is_gone(error) or _sqlstate(error) in _DEADLOCKS):
                raise
    raise AssertionError  # the last try returns or raises


def waited_for_each_other(error: BaseException) -> bool:
    """Whether the database has ended a transaction because it and another one waited for each other."""
    return _sqlstate(error) in _DEADLOCKS


def carry_out_beside(work: Callable[[], Value]) -> Value:
    """Run in a transaction what a deletion may wait for while it waits for the deletion: that costs another try."""
    for left in reversed(range(_TRIES)):
        try:
            with transaction.atomic():
                return work()
        except OperationalError as error:
            if not left or _sqlstate(error) not in _DEADLOCKS:
                raise
    raise AssertionError  # the last try returns or raises


def unlocked(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Return those rows that nobody has locked at this moment, as a deletion may for seconds; in a transaction only.

    An UPDATE asks for the conditions again: a row may have changed between the look at it and its lock.
    """
    every = rows.model._base_manager  # noqa: SLF001 - Django's public API
    these = every.filter(pk__in=rows.order_by().values("pk"))  # rows of joined tables are not locked
    free = these.select_for_update(no_key=True, skip_locked=True)
    return rows.filter(pk__in=free.values("pk"))


@contextmanager
def may_vanish(rows: QuerySet[Any]) -> Iterator[None]:
    """Let the work inside end quietly if its rows are deleted meanwhile; every other error is raised."""
    try:
        yield
    except (DatabaseError, ObjectDoesNotExist):
        if rows.exists():
            raise


def is_gone(error: BaseException | None) -> bool:
    """Whether an error of the database says that a row that was to be changed or referred to is gone."""
    if isinstance(error, IntegrityError):
        return _sqlstate(error) == _FOREIGN_KEY or "FOREIGN KEY" in str(error)
    return isinstance(error, DatabaseError) and _NOTHING_SAVED in str(error)


def _sqlstate(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _check_constraints() -> None:
    """Find now what else refers to the deleted rows; later nothing can, as their locks are held to the commit.

    SQLite has one writer at a time, so nothing was added.
    """
    if connection.vendor == "postgresql":
        connection.check_constraints()
