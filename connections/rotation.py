"""Sealing everything anew with the first of SEAL_KEYS, while the product runs.

A model whose columns hold seals names them in `sealed_fields`, one whose columns name sealed files in
`sealed_file_fields`; both say what the seals are bound to in `seal_context`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db.models import Model, Q, QuerySet

from connections import sealed_files, sealing
from connections.errors import SealBroken, SealKeyUnknown
from connections.people import second_factor

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


def sealed_file_columns() -> list[tuple[type[Model], str]]:
    """Return every column that names sealed files."""
    return [(model, field) for model in apps.get_models() for field in getattr(model, "sealed_file_fields", ())]


def rotate() -> Iterator[Progress]:
    """Re-seal what an older key sealed, in small steps, and yield the progress after each.

    A row that changes meanwhile is left alone: its writer has sealed it with the first key. Two runs, also at the same
    time, do no harm; after an interruption, the next run continues.
    """
    for model, field in sealed_columns():
        yield from _rotate(model, field, _sealed_with_older_keys(model, field), _reseal)
    for model, field in sealed_file_columns():
        yield from _rotate(model, field, _in_files_of_older_keys(model, field), _reseal_file)
    yield from _rotate(Authenticator, "data", _second_factors_of_older_keys(), _reseal_second_factor)


def _rotate(
    model: type[Model], field: str, old: QuerySet[Model], reseal: Callable[[type[Model], Model, str], bool]
) -> Iterator[Progress]:
    progress = Progress(f"{model._meta.label}.{field}", total=old.count())  # noqa: SLF001 - Django's documented name
    yield progress
    last = None
    while keys := list((old.filter(pk__gt=last) if last else old).values_list("pk", flat=True)[:_AT_ONCE]):
        for key in keys:  # one at a time, as one may hold megabytes
            row = old.filter(pk=key).first()
            if row is None or reseal(model, row, field):
                progress.done += 1
            else:
                progress.broken += 1
        last = keys[-1]
        yield progress


def _sealed_with_older_keys(model: type[Model], field: str) -> QuerySet[Model]:
    current = Q(**{f"{field}__startswith": sealing.current_prefix()})
    return model._default_manager.exclude(current).exclude(**{field: ""}).order_by("pk")  # noqa: SLF001


def _reseal(model: type[Model], row: Model, field: str) -> bool:
    before: str = getattr(row, field)
    context: str = row.seal_context  # type: ignore[attr-defined]
    try:
        after = sealing.seal_bytes(sealing.unseal_bytes(before, context=context), context=context)
    except (SealBroken, SealKeyUnknown):
        return False
    model._default_manager.filter(pk=row.pk, **{field: before}).update(**{field: after})  # noqa: SLF001
    return True


def _in_files_of_older_keys(model: type[Model], field: str) -> QuerySet[Model]:
    current = Q(**{f"{field}__endswith": sealed_files.current_suffix()})
    return model._default_manager.exclude(current).exclude(**{field: ""}).order_by("pk")  # noqa: SLF001


def _reseal_file(model: type[Model], row: Model, field: str) -> bool:
    before: str = getattr(row, field)
    context: str = row.seal_context  # type: ignore[attr-defined]
    try:
        data = sealed_files.read(before, context=context)
    except (SealBroken, SealKeyUnknown):
        return False
    after = sealed_files.write(before.rpartition("-")[0], data, context=context)
    model._default_manager.filter(pk=row.pk, **{field: before}).update(**{field: after})  # noqa: SLF001
    return True


def _second_factors_of_older_keys() -> QuerySet[Model]:
    """Return those whose secret, which lies among other data, an older key has sealed."""
    old = Q()
    for name in second_factor.SEALED:
        older = ~Q(**{f"data__{name}__startswith": sealing.current_prefix()})
        old |= Q(**{f"data__{name}__isnull": False}) & older
    rows: QuerySet[Model] = Authenticator.objects.filter(old).order_by("pk")
    return rows


def _reseal_second_factor(model: type[Model], row: Model, field: str) -> bool:
    before: dict[str, Any] = getattr(row, field)
    after = dict(before)
    try:
        for name in second_factor.SEALED:
            if name in before:
                secret = sealing.unseal_bytes(before[name], context=second_factor.CONTEXT)
                after[name] = sealing.seal_bytes(secret, context=second_factor.CONTEXT)
    except (SealBroken, SealKeyUnknown):
        return False
    model._default_manager.filter(pk=row.pk, **{field: before}).update(**{field: after})  # noqa: SLF001
    return True
