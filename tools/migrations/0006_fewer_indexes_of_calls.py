"""Drop the indexes of calls that others begin with: each costs every call twice."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

moves = import_module("tools.migrations.0005_moves_of_calls")


class Migration(migrations.Migration):
    dependencies = [("tools", "0005_moves_of_calls")]
    operations = [
        migrations.RunPython(moves.let_go, moves.keep),  # SQLite makes the table anew, without its triggers
        migrations.AlterField(
            model_name="call",
            name="assignment",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="calls",
                to="tools.assignment",
            ),
        ),
        migrations.AlterField(
            model_name="call",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="calls",
                to="connections.tenant",
            ),
        ),
        migrations.AlterField(
            model_name="callevent",
            name="call",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="tools.call",
            ),
        ),
        migrations.RunPython(moves.keep, moves.let_go),
    ]
