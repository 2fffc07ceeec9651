"""What a call was opened for is kept with it, and no plain digest of what is sealed is kept any more."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import OuterRef, Subquery, Value
from django.db.models.functions import Coalesce


def fill(apps: Any, schema_editor: Any) -> None:
    """Take open calls to be for what is there now; the bodies of keys are compared by their arguments from here on."""
    calls = apps.get_model("tools", "Call").objects
    tools = apps.get_model("tools", "Tool").objects.filter(pk=OuterRef("tool"))
    calls.filter(finished_at=None).update(
        tool_digest=Coalesce(Subquery(tools.values("approved_digest")), Value("")),
        server_url=Coalesce(Subquery(tools.values("connection__server_url")), Value("")),
    )
    calls.exclude(body_digest="").update(body_digest="")


class Migration(migrations.Migration):
    """Two columns more, one less."""

    dependencies = [("tools", "0006_fewer_indexes_of_calls"), ("connections", "0007_origins")]

    operations = [
        migrations.AddField("call", "tool_digest", models.CharField(blank=True, db_default="", max_length=64)),
        migrations.AddField("call", "server_url", models.CharField(blank=True, db_default="", max_length=2048)),
        migrations.RemoveField("storedcontent", "digest"),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
