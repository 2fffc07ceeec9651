"""Whether a person has shown that the address with which they sign in is theirs."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0016_lists_of_many_events'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='address_proved',
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
    ]
