"""Channels of chats that organizations are told in. The previous version neither reads nor writes them."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0012_who_has_what'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='bulletin',
            options={'ordering': ['-created_at'], 'verbose_name': 'message'},
        ),
        migrations.AddField(
            model_name='bulletin',
            name='posted_at',
            field=models.DateTimeField(null=True, verbose_name='channel told'),
        ),
        migrations.AddField(
            model_name='notice',
            name='posted_at',
            field=models.DateTimeField(null=True, verbose_name='channel told'),
        ),
        migrations.CreateModel(
            name='Channel',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('sealed_url', models.TextField()),
                ('untold', models.JSONField(default=list)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='channels', to='connections.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant',), name='an_organization_has_one_channel')],
            },
        ),
    ]
