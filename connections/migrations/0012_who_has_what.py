"""Who has which thing of the inbox. The previous version neither reads nor writes it."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0011_second_factors_and_browsers'),
    ]

    operations = [
        migrations.CreateModel(
            name='Handling',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=400)),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('member', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='handlings', to='connections.membership')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='handlings', to='connections.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant', 'key'), name='one_person_has_a_thing_of_the_inbox')],
            },
        ),
    ]
