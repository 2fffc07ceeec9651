"""Find the queued calls of an organization without walking through those of the others."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tools", "0009_versions")]
    operations = [
        migrations.AddIndex(
            model_name="call",
            index=models.Index(
                fields=["tenant", "lease_until"], name="call_queued", condition=models.Q(("state", "queued"))
            ),
        ),
    ]
