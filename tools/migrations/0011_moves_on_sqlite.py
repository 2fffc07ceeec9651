"""The triggers on calls again: SQLite makes a table anew for a column, and lets go what hung on it."""

from importlib import import_module

from django.db import migrations

TRIGGERS = import_module("tools.migrations.0005_moves_of_calls").SQLITE


def keep_again(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        with schema_editor.connection.cursor() as cursor:
            for trigger in TRIGGERS:
                cursor.execute(trigger.replace("CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS"))


class Migration(migrations.Migration):
    dependencies = [("tools", "0010_queued_calls_by_tenant")]
    operations = [migrations.RunPython(keep_again, migrations.RunPython.noop)]
