"""Quotas of organizations."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add the quotas, and how much is stored."""

    dependencies = [("connections", "0008_suspension")]

    operations = [
        *(
            migrations.AddField("tenant", name, models.PositiveIntegerField(label, default=default))
            for name, label, default in [
                ("max_connections", "connections", 200),
                ("max_assignments", "assignments", 500),
                ("max_tokens", "API tokens", 1_000),
                ("max_open_calls", "open calls", 10_000),
                ("max_stored", "MB stored", 5_000),
            ]
        ),
        migrations.AddField("tenant", "stored_bytes", models.PositiveBigIntegerField(default=0, editable=False)),
    ]
