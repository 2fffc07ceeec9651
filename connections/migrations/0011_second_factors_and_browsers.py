"""Which organizations require a second factor, and where people are signed in. The previous version reads neither."""

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
    ]
