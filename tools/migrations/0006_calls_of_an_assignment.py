"""The index of an assignment's calls without their ids: only the primary key finds a call by its id, so PostgreSQL
cannot choose to read a whole other index for it while the table is small.
"""

from django.db import migrations, models

from connections.expanding import AddIndexAside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tools', '0005_what_other_versions_leave_out'),
    ]

    operations = [
        AddIndexAside(
            model_name='call',
            index=models.Index(fields=['assignment', '-created_at'], name='call_of_assignment'),
        ),
        migrations.RemoveIndex(
            model_name='call',
            name='call_by_assignment',
        ),
    ]
