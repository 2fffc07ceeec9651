"""What else people are told of, and who wants to hear what. The previous version reads none of it."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0007_heartbeats'),
    ]

    operations = [
        migrations.AddField(
            model_name='membership',
            name='unmailed',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AddField(
            model_name='tenant',
            name='unposted',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.CreateModel(
            name='Bulletin',
            fields=[
                ('deliver_at', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('emailed_to', models.JSONField(default=list)),
                ('emailed_at', models.DateTimeField(null=True, verbose_name='mailed')),
                ('delivered_at', models.DateTimeField(null=True, verbose_name='webhook taken')),
                ('trouble', models.CharField(blank=True, max_length=300)),
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('connection.sign_in', 'Sign-ins that will end or have ended'), ('call.awaiting_approval', 'Calls that wait for an approval'), ('call.input_required', 'Calls that wait for an answer'), ('tools.to_review', 'Tools that wait for a review'), ('connection.unreachable', 'Connections that cannot be reached'), ('connection.recovered', 'Connections that can be reached again')], max_length=30)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='bulletins', to='connections.tenant')),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='Matter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('connection.sign_in', 'Sign-ins that will end or have ended'), ('call.awaiting_approval', 'Calls that wait for an approval'), ('call.input_required', 'Calls that wait for an answer'), ('tools.to_review', 'Tools that wait for a review'), ('connection.unreachable', 'Connections that cannot be reached'), ('connection.recovered', 'Connections that can be reached again')], max_length=30)),
                ('call_id', models.UUIDField(null=True)),
                ('name', models.CharField(blank=True, max_length=64)),
                ('caller', models.CharField(blank=True, max_length=100)),
                ('server', models.CharField(blank=True, max_length=300)),
                ('until', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('resolved_at', models.DateTimeField(null=True)),
                ('bulletin', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='matters', to='connections.bulletin')),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='matters', to='connections.connection')),
            ],
            options={
                'ordering': ['created_at', 'id'],
            },
        ),
        migrations.AddIndex(
            model_name='bulletin',
            index=models.Index(condition=models.Q(('deliver_at__isnull', False)), fields=['deliver_at'], name='bulletin_due'),
        ),
        migrations.AddIndex(
            model_name='bulletin',
            index=models.Index(fields=['tenant', 'kind', '-created_at'], name='bulletin_last'),
        ),
        migrations.AddIndex(
            model_name='matter',
            index=models.Index(condition=models.Q(('resolved_at', None)), fields=['kind'], name='matter_open'),
        ),
        migrations.AddConstraint(
            model_name='matter',
            constraint=models.UniqueConstraint(condition=models.Q(('call_id', None), ('resolved_at', None)), fields=('connection', 'kind'), name='a_matter_of_a_connection_is_open_once'),
        ),
        migrations.AddConstraint(
            model_name='matter',
            constraint=models.UniqueConstraint(condition=models.Q(('call_id__isnull', False), ('resolved_at', None)), fields=('call_id', 'kind'), name='a_matter_of_a_call_is_open_once'),
        ),
    ]
