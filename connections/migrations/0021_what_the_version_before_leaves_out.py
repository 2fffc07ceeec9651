"""Columns of the tables before get their defaults in the database, and deletions of the previous version reach them.

Safe while the previous version runs, as that of which this is a repetition: what is there already is left alone.
"""

from importlib import import_module

from django.db import migrations

from connections.expanding import defaults_in_database, deletes_reach

FIRST = import_module('connections.migrations.0015_what_other_versions_leave_out').FIRST


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0020_staff_visits'),
    ]

    operations = [
        migrations.RunPython(defaults_in_database('connections'), migrations.RunPython.noop),
        migrations.RunPython(deletes_reach('connections', but=FIRST), migrations.RunPython.noop),
    ]
