"""Many rows of one table, most of them written by the database: to build thousands of models takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import connection
from django.db.models import Model


def repeated(rows: Sequence[Model], times: int, moments: Sequence[str], step: timedelta) -> None:
    """Store rows of one model, and copies of them so that there are `times` of each. PostgreSQL only.

    Each copy has a key of its own, and its `moments` are one `step` earlier than those of the copy before.
    """
    model = type(rows[0])
    model._base_manager.bulk_create(rows)
    table = connection.ops.quote_name(model._meta.db_table)
    earlier = "".join(f", '{moment}', base.{connection.ops.quote_name(moment)} - n * %(step)s" for moment in moments)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} SELECT copy.* FROM {table} base, generate_series(1, %(times)s - 1) n, LATERAL"  # noqa: S608
            f" jsonb_populate_record(base, jsonb_build_object('id', gen_random_uuid(){earlier})) copy"
            " WHERE base.id = ANY(%(rows)s)",
            {"times": times, "step": step, "rows": [row.pk for row in rows]},
        )
