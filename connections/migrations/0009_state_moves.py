"""The moves of the states of connections. The previous version neither reads nor writes them."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0008_bulletins'),
    ]

    operations = [
        migrations.CreateModel(
            name='StateMove',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('of', models.CharField(max_length=12)),
                ('was', models.CharField(max_length=21)),
                ('state', models.CharField(max_length=21)),
                ('reason', models.CharField(blank=True, max_length=60)),
                ('sentence', models.CharField(blank=True, max_length=300)),
                ('lasted', models.DurationField()),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='state_moves', to='connections.connection')),
            ],
            options={
                'ordering': ['-at', '-id'],
                'indexes': [models.Index(fields=['connection', '-at'], name='moves_of_a_connection')],
            },
        ),
    ]
