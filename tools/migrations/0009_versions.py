"""Versions of definitions know their size, so that their history can be bounded."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models


def measure(apps: Any, editor: Any) -> None:
    """Measure the versions that are there."""
    size = "octet_length(definition::text)" if editor.connection.vendor == "postgresql" else "length(definition)"
    editor.execute(f"UPDATE tools_toolversion SET size = {size}")  # noqa: S608 - ours


class Migration(migrations.Migration):
    """Add the size."""

    dependencies = [("tools", "0008_ending")]

    operations = [
        migrations.AddField("toolversion", "size", models.PositiveIntegerField(db_default=0)),
        migrations.RunPython(measure, migrations.RunPython.noop, elidable=True),
    ]
