"""An admin may let the description of a tool, or lines of it, change without a review."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tools', '0002_sessions_at_servers'),
    ]

    operations = [
        migrations.AddField(
            model_name='tool',
            name='moving',
            field=models.CharField(blank=True, db_default='', default='', max_length=250, verbose_name='what of the description may change by itself'),
        ),
        migrations.AddField(
            model_name='tool',
            name='moving_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tool',
            name='moving_by',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='tool',
            name='moving_for',
            field=models.CharField(blank=True, db_default='', default='', max_length=300),
        ),
    ]
