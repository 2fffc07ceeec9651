"""The tables of sign-ins."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('connections', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Discovery',
            fields=[
                ('connection', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='discovery', serialize=False, to='connections.connection')),
                ('server_url', models.CharField(max_length=2048)),
                ('looked_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('steps', models.JSONField(default=list)),
                ('found', models.JSONField(default=dict)),
                ('rung', models.CharField(blank=True, max_length=20)),
                ('reason', models.CharField(blank=True, max_length=60)),
                ('sentence', models.CharField(max_length=500)),
            ],
        ),
        migrations.CreateModel(
            name='Registration',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('issuer', models.CharField(max_length=2048)),
                ('redirect_uri', models.CharField(max_length=2048)),
                ('kind', models.CharField(choices=[('preregistered', 'Client ID from Advanced settings'), ('cimd', 'Client ID metadata document'), ('dcr', 'Dynamic client registration')], max_length=15)),
                ('client_id', models.CharField(max_length=2048)),
                ('sealed_secret', models.TextField(blank=True)),
                ('auth_method', models.CharField(max_length=25)),
                ('secret_expires_at', models.DateTimeField(null=True)),
                ('made_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('retired_at', models.DateTimeField(null=True)),
                ('retired_because', models.CharField(blank=True, max_length=60)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='registrations', to='connections.connection')),
            ],
            options={
                'ordering': ['-made_at'],
            },
        ),
        migrations.CreateModel(
            name='PendingAuthorization',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('state_digest', models.CharField(max_length=64, unique=True)),
                ('session_digest', models.CharField(max_length=64)),
                ('server_url', models.CharField(max_length=2048)),
                ('basis', models.CharField(db_default='', max_length=64)),
                ('server', models.JSONField()),
                ('resource', models.CharField(blank=True, max_length=2048)),
                ('scopes', models.CharField(blank=True, max_length=4000)),
                ('sealed_verifier', models.TextField()),
                ('again', models.BooleanField(default=False)),
                ('expires_at', models.DateTimeField()),
                ('consumed_at', models.DateTimeField(null=True)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='pending_authorizations', to='connections.connection')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('registration', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='oauth.registration')),
            ],
        ),
        migrations.CreateModel(
            name='SignIn',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('grant', models.CharField(choices=[('authorization_code', 'A person signs in'), ('client_credentials', 'Client credentials: nobody signs in')], default='authorization_code', max_length=20)),
                ('server_url', models.CharField(max_length=2048)),
                ('server', models.JSONField()),
                ('resource', models.CharField(blank=True, max_length=2048)),
                ('scopes', models.CharField(blank=True, max_length=4000)),
                ('sealed', models.TextField(blank=True)),
                ('renewable', models.BooleanField(default=False)),
                ('generation', models.PositiveIntegerField(default=1)),
                ('signed_in_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('obtained_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(null=True)),
                ('renew_at', models.DateTimeField(null=True)),
                ('not_before', models.DateTimeField(null=True)),
                ('renewed_at', models.DateTimeField(null=True)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('lease', models.UUIDField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('refused_at', models.DateTimeField(null=True)),
                ('missing_scopes', models.CharField(blank=True, max_length=4000)),
                ('step_ups', models.PositiveSmallIntegerField(default=0)),
                ('ended_at', models.DateTimeField(null=True)),
                ('ended_because', models.CharField(blank=True, max_length=60)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sign_ins', to='connections.connection')),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('person', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('registration', models.ForeignKey(on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='oauth.registration')),
            ],
            options={
                'ordering': ['signed_in_at'],
            },
        ),
        migrations.AddConstraint(
            model_name='registration',
            constraint=models.UniqueConstraint(condition=models.Q(('retired_at', None)), fields=('connection', 'issuer', 'redirect_uri'), name='a_connection_has_one_registration_in_use_per_issuer_and_redirect_uri'),
        ),
        migrations.AddIndex(
            model_name='signin',
            index=models.Index(fields=['ended_at', 'renew_at'], name='sign_in_due'),
        ),
        migrations.AddConstraint(
            model_name='signin',
            constraint=models.UniqueConstraint(fields=('connection', 'owner'), name='a_connection_has_one_sign_in_per_owner', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='signin',
            constraint=models.CheckConstraint(condition=models.Q(('ended_at', None), models.Q(('renew_at', None), ('sealed', '')), _connector='OR'), name='an_ended_sign_in_keeps_no_token'),
        ),
    ]
