"""An organization may be deleted by a worker. Safe while the previous version runs: to it, it is suspended."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0021_what_the_version_before_leaves_out'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='deletion_begun_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
