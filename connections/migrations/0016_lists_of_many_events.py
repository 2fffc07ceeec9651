"""Indexes in the order in which lists show audit events: of an organization, and of one object. Safe while the previous
version runs: it knows nothing of indexes.
"""

import django.db.models.deletion
from django.db import migrations, models

from connections.expanding import AddIndexAside, drop_index_of


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0015_what_other_versions_leave_out'),
    ]

    operations = [
        AddIndexAside(
            model_name='auditevent',
            index=models.Index(fields=['tenant', '-at'], name='event_of_tenant'),
        ),
        AddIndexAside(
            model_name='auditevent',
            index=models.Index(fields=['object_id', '-at'], name='event_of_object'),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunPython(drop_index_of('connections', 'auditevent', 'tenant'), migrations.RunPython.noop)
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='auditevent',
                    name='tenant',
                    field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='audit_events', to='connections.tenant'),
                ),
            ],
        ),
    ]
