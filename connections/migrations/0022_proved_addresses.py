"""Whether a person has shown that the address with which they sign in is theirs."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0015_what_other_versions_leave_out'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='address_proved',
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
    ]
