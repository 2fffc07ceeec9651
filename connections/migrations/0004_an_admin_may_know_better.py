"""An admin may name the authorization server to trust, and say that PKCE is supported though not announced."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0003_all_tools_may_be_set_aside'),
    ]

    operations = [
        migrations.AddField(
            model_name='connection',
            name='oauth_assume_pkce',
            field=models.BooleanField(db_default=False, default=False, verbose_name='PKCE is supported though not announced'),
        ),
        migrations.AddField(
            model_name='connection',
            name='oauth_authorization_server',
            field=models.CharField(blank=True, db_default='', default='', max_length=2048, verbose_name='authorization server'),
        ),
    ]
