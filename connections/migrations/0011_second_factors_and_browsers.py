"""Required second factors, where people are signed in, and organizations' providers. The previous version reads none."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0010_invitations'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='require_second_factor',
            field=models.BooleanField(db_default=False, default=False, help_text='Members set one up before they see anything else.', verbose_name='second factor required'),
        ),
        migrations.CreateModel(
            name='BrowserSession',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=40, unique=True)),
                ('name', models.CharField(blank=True, max_length=80)),
                ('address', models.CharField(blank=True, max_length=45)),
                ('began_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('user', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='browsers', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-seen_at'],
            },
        ),
        migrations.CreateModel(
            name='Company',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('issuer', models.CharField(max_length=2048)),
                ('client_id', models.CharField(max_length=255, verbose_name='client ID')),
                ('sealed_secret', models.TextField(editable=False)),
                ('default_role', models.CharField(choices=[('admin', 'Admin'), ('member', 'Member'), ('auditor', 'Auditor')], default='member', max_length=10, verbose_name='role of who comes in')),
                ('required', models.BooleanField(default=False, verbose_name='nobody comes in without it')),
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='company', to='connections.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='CompanyIdentity',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=255)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('blocked_at', models.DateTimeField(null=True)),
                ('company', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='identities', to='connections.company')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='MailDomain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=253, unique=True)),
                ('company', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='domains', to='connections.company')),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.AddConstraint(
            model_name='company',
            constraint=models.CheckConstraint(condition=models.Q(('default_role__in', ['admin', 'member', 'auditor'])), name='who_comes_in_has_a_known_role'),
        ),
        migrations.AddConstraint(
            model_name='companyidentity',
            constraint=models.UniqueConstraint(fields=('company', 'subject'), name='a_subject_of_a_provider_is_one_person'),
        ),
    ]
