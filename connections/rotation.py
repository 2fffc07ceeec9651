"""Sealing everything anew with the first of SEAL_KEYS, while the product runs.

A model whose columns hold seals names them in `sealed_fields` and says what they are bound to in `seal_context`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db.models import Model, Q, QuerySet

from connections import sealing
from connections.errors import SealBroken

_AT_ONCE = 200


@dataclass(slots=True)
class Progress:
    """How far the rotation of one column is: rows to do at its start, done, and those no key opens."""

    column: str
    total: int
    done: int = 0
    broken: int = 0


def sealed_columns() -> list[tuple[type[Model], str]]:
    """Return every column that holds seals."""
    return [(model, field) for model in apps.get_models() for field in getattr(model, "sealed_fields", ())]


def rotate() -> Iterator[Progress]:
    """Re-seal what an older key sealed, in small steps, and yield the progress after each.

    A row that changes meanwhile is left alone: its writer has sealed it with the first key. Running it twice, or
    twice at once, does no harm; an interrupted run goes on where it was.
    """
    for model, field in sealed_columns():
        yield from _rotate_column(model, field)


def _rotate_column(model: type[Model], field: str) -> Iterator[Progress]:
    old = _sealed_with_older_keys(model, field)
    progress = Progress(f"{model._meta.label}.{field}", total=old.count())  # noqa: SLF001 - Django's documented name
    yield progress
    last = None
    while rows := list((old.filter(pk__gt=last) if last else old)[:_AT_ONCE]):
        for row in rows:
            if _reseal(model, row, field):
                progress.done += 1
            else:
                progress.broken += 1
        last = rows[-1].pk
        yield progress


def _sealed_with_older_keys(model: type[Model], field: str) -> QuerySet[Model]:
    current = Q(**{f"{field}__startswith": sealing.current_prefix()})
    return model._default_manager.exclude(current).exclude(**{field: ""}).order_by("pk")  # noqa: SLF001


def _reseal(model: type[Model], row: Model, field: str) -> bool:
    before: str = getattr(row, field)
    context: str = row.seal_context  # type: ignore[attr-defined]
    try:
        after = sealing.seal_bytes(sealing.unseal_bytes(before, context=context), context=context)
    except SealBroken:
        return False
    model._default_manager.filter(pk=row.pk, **{field: before}).update(**{field: after})  # noqa: SLF001
    return True
