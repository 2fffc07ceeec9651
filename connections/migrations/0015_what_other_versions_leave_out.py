"""Columns get their defaults in the database too, and deletions reach the tables that a version does not know.

Safe while the previous version runs: it gives every column that it knows, and deletes what it knows before it deletes
what that belongs to. Each statement takes its lock for a moment and for itself.
"""

from django.db import migrations

from connections.expanding import defaults_in_database, deletes_reach

FIRST = ("auditevent", "connection", "credential", "membership", "notice", "tenant", "user")  # every version knows them


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0014_personal_credentials'),
    ]

    operations = [
        migrations.RunPython(defaults_in_database('connections'), migrations.RunPython.noop),
        migrations.RunPython(deletes_reach('connections', but=FIRST), migrations.RunPython.noop),
    ]
