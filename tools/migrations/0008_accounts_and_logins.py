"""With which account at the provider a call was made, and whether it may wait for a login.

Safe while the previous version runs: both have a default in the database, and a call that waits for a login has no
`lease_until`, so that no worker of the previous version takes it.
"""

from importlib import import_module

from django.db import migrations, models


def keep(apps, schema_editor):
    """SQLite makes the table anew for a new column, and forgets its triggers."""
    if schema_editor.connection.vendor == "sqlite":
        import_module("tools.migrations.0001_initial").keep(apps, schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('tools', '0007_lists_of_many_calls'),
    ]

    operations = [
        migrations.AddField(
            model_name='call',
            name='account',
            field=models.CharField(blank=True, db_default='', max_length=200),
        ),
        migrations.AddField(
            model_name='call',
            name='waits_for_login',
            field=models.BooleanField(db_default=False),
        ),
        migrations.RunPython(keep, migrations.RunPython.noop),
    ]
