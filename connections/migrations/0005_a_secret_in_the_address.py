"""A server's key may be part of its address: it is a secret of its own. The previous version never writes that word."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0004_an_admin_may_know_better'),
    ]

    operations = [
        migrations.AlterField(
            model_name='credential',
            name='kind',
            field=models.CharField(choices=[('api_key', 'API key'), ('headers', 'Custom headers'), ('extra_headers', 'Extra headers'), ('address_secret', 'Secret in the address'), ('oauth_client_secret', 'Client secret'), ('oauth_signing_key', 'Signing key')], max_length=25),
        ),
    ]
