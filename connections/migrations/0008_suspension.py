"""Organizations can be suspended, say how long a token lives, and people's passwords have an age."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0007_origins"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="max_token_days",
            field=models.PositiveSmallIntegerField(default=365, verbose_name="days that an API token lives"),
        ),
        migrations.AddField(
            model_name="tenant",
            name="suspended_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="tenant",
            name="suspended_reason",
            field=models.CharField(blank=True, editable=False, max_length=300),
        ),
        migrations.AddField(
            model_name="user",
            name="password_changed_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
