"""Use is counted by the days of the organization's time zone, and checks of connections by day, too.

Safe while the previous version runs: it counts use in UTC until it is replaced, and knows nothing of the table, whose
rows the database deletes with the connections that it deletes.
"""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

from connections.expanding import deletes_reach

FIRST = import_module('tools.migrations.0005_what_other_versions_leave_out').FIRST


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0021_what_the_version_before_leaves_out'),
        ('tools', '0008_accounts_and_logins'),
    ]

    operations = [
        migrations.AddField(
            model_name='usemark',
            name='zone',
            field=models.CharField(db_default='UTC', default='UTC', max_length=64),
        ),
        migrations.AddField(
            model_name='usemark',
            name='zone_since',
            field=models.DateField(null=True),
        ),
        migrations.CreateModel(
            name='CheckDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(db_index=True)),
                ('checks', models.PositiveIntegerField(db_default=0, default=0)),
                ('failed', models.PositiveIntegerField(db_default=0, default=0)),
                ('durations', models.JSONField(db_default=[], default=list)),
                ('connection', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='check_days', to='connections.connection')),
            ],
            options={
                'ordering': ['day'],
                'constraints': [models.UniqueConstraint(fields=('connection', 'day'), name='a_connection_has_one_row_a_day')],
            },
        ),
        migrations.RunPython(deletes_reach('tools', but=FIRST), migrations.RunPython.noop),
    ]
