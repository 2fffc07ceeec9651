"""The public half of a signing key stands beside it, and a connection says how large an answer may be."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from connections import sealing, signing_keys
from connections.errors import SealBroken


def publish(apps: Any, schema_editor: Any) -> None:
    """Keep the public half of the keys that are stored; one that is too large by now is not published any more."""
    keys = apps.get_model("connections", "Credential").objects.filter(kind="oauth_signing_key")
    for row in keys.select_related("connection"):
        context = f"{row.connection.tenant_id}/credential/{row.id}"
        try:
            row.public_half = signing_keys.public_half(str(sealing.unseal(row.sealed, context=context)))
        except (SealBroken, signing_keys.BadKey):
            continue
        row.save(update_fields=["public_half"])


class Migration(migrations.Migration):
    dependencies = [("connections", "0005_life_of_a_call")]

    operations = [
        migrations.AddField("credential", "public_half", models.JSONField(default=dict)),
        migrations.RunPython(publish, migrations.RunPython.noop),
        migrations.AddField(
            "connection",
            "max_answer",
            models.PositiveIntegerField("largest answer", default=2_000_000, db_default=2_000_000),
        ),
    ]
