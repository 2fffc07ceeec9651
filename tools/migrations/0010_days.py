"""Use is counted by the days of the organization's time zone. The previous version counts them, and new rows, in UTC."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0021_what_the_version_before_leaves_out'),
        ('tools', '0006_calls_of_an_assignment'),
    ]

    operations = [
        migrations.AddField(
            model_name='usemark',
            name='zone',
            field=models.CharField(db_default='UTC', default='UTC', max_length=64),
        ),
        migrations.AddField(
            model_name='usemark',
            name='zone_since',
            field=models.DateField(null=True),
        ),
    ]
