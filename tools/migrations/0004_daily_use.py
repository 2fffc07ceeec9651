"""How much was called, by day. The previous version neither reads nor writes it."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0014_personal_credentials'),
        ('tools', '0003_a_description_may_change_by_itself'),
    ]

    operations = [
        migrations.CreateModel(
            name='UseMark',
            fields=[
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='use_mark', serialize=False, to='connections.tenant')),
                ('counted_at', models.DateTimeField()),
                ('purged_before', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='DailyUse',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('day', models.DateField()),
                ('tool', models.CharField(max_length=64)),
                ('connection', models.UUIDField(null=True)),
                ('connection_name', models.CharField(blank=True, max_length=80, verbose_name='connection')),
                ('assignment', models.UUIDField(null=True)),
                ('assignment_name', models.CharField(blank=True, max_length=80, verbose_name='assignment')),
                ('owner', models.BigIntegerField(null=True)),
                ('owner_name', models.CharField(blank=True, max_length=150, verbose_name='owner')),
                ('calls', models.PositiveIntegerField()),
                ('failures', models.PositiveIntegerField()),
                ('open', models.PositiveIntegerField()),
                ('milliseconds', models.PositiveBigIntegerField()),
                ('bytes', models.PositiveBigIntegerField()),
                ('ms_10', models.PositiveIntegerField(default=0)),
                ('ms_20', models.PositiveIntegerField(default=0)),
                ('ms_50', models.PositiveIntegerField(default=0)),
                ('ms_100', models.PositiveIntegerField(default=0)),
                ('ms_200', models.PositiveIntegerField(default=0)),
                ('ms_500', models.PositiveIntegerField(default=0)),
                ('ms_1000', models.PositiveIntegerField(default=0)),
                ('ms_2000', models.PositiveIntegerField(default=0)),
                ('ms_5000', models.PositiveIntegerField(default=0)),
                ('ms_10000', models.PositiveIntegerField(default=0)),
                ('ms_30000', models.PositiveIntegerField(default=0)),
                ('ms_60000', models.PositiveIntegerField(default=0)),
                ('ms_300000', models.PositiveIntegerField(default=0)),
                ('ms_more', models.PositiveIntegerField(default=0)),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='use', to='connections.tenant', verbose_name='organization')),
            ],
            options={
                'verbose_name': 'activity',
                'verbose_name_plural': 'activity',
                'ordering': ['-day', 'tool', 'id'],
                'indexes': [models.Index(fields=['tenant', '-day'], name='use_of_a_tenant'), models.Index(fields=['assignment', '-day'], name='use_of_an_assignment')],
            },
        ),
    ]
