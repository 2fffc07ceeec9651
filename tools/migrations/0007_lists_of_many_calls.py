"""Indexes in the order in which lists show calls, checks and tools; those that foreign keys had alone are dropped, as
the new ones begin with the same columns. Safe while the previous version runs: it knows nothing of indexes.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

from connections.expanding import AddIndexAside, drop_index_of

UNSUCCESSFUL = Q(state__in=['failed', 'cancelled', 'timed_out', 'outcome_unknown'])


def without_own_index(model_name, field_name, field):
    """Return the operation after which a foreign key has no index of its own."""
    return migrations.SeparateDatabaseAndState(
        database_operations=[
            migrations.RunPython(drop_index_of('tools', model_name, field_name), migrations.RunPython.noop)
        ],
        state_operations=[migrations.AlterField(model_name=model_name, name=field_name, field=field)],
    )


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0015_what_other_versions_leave_out'),
        ('tools', '0006_calls_of_an_assignment'),
    ]

    operations = [
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['connection', '-created_at'], name='call_of_connection'),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['tool', '-created_at'], name='call_of_tool'),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['-created_at'], name='call_newest'),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['tenant', 'state', '-created_at'], name='call_unsuccessful_of_tenant', condition=UNSUCCESSFUL),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['assignment', 'state', '-created_at'], name='call_unsuccessful_of_assigned', condition=UNSUCCESSFUL),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['state', '-created_at'], name='call_unsuccessful', condition=UNSUCCESSFUL),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['assignment', '-created_at'], name='call_of_deleted_tool', condition=Q(tool__isnull=True)),
        ),
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['created_at'], name='call_with_key', condition=~Q(idempotency_key='')),
        ),
        AddIndexAside(
            model_name='probe',
            index=models.Index(fields=['connection', '-started_at'], name='probe_of_connection'),
        ),
        AddIndexAside(
            model_name='probe',
            index=models.Index(fields=['-started_at'], name='probe_newest'),
        ),
        AddIndexAside(
            model_name='probe',
            index=models.Index(fields=['outcome', '-started_at'], name='probe_not_passed', condition=Q(outcome__in=['running', 'failed'])),
        ),
        AddIndexAside(
            model_name='tool',
            index=models.Index(fields=['public_name', 'id'], name='tool_by_name'),
        ),
        without_own_index('call', 'connection', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='calls', to='connections.connection')),
        without_own_index('call', 'tool', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='calls', to='tools.tool')),
        without_own_index('probe', 'connection', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='probes', to='connections.connection')),
    ]
