"""Which account at the provider a sign-in is. The previous version neither reads nor writes it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('oauth', '0002_what_an_admin_trusts'),
    ]

    operations = [
        migrations.AddField(
            model_name='signin',
            name='account',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='signin',
            name='account_before',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='signin',
            name='account_id',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
    ]
