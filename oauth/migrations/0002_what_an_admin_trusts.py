"""Discoveries and sign-ins keep what an admin said to trust when they were made."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='discovery',
            name='assumed_pkce',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='discovery',
            name='authorization_server',
            field=models.CharField(blank=True, db_default='', default='', max_length=2048),
        ),
        migrations.AddField(
            model_name='signin',
            name='assumed_pkce',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='signin',
            name='authorization_server',
            field=models.CharField(blank=True, db_default='', default='', max_length=2048),
        ),
    ]
