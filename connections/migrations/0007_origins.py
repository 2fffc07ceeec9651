"""Each secret is kept for the server it was entered for; what is stored so far is taken for the present server's."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from connections import egress, sealing
from connections.errors import SealBroken


def keep_origins(apps: Any, schema_editor: Any) -> None:
    """Seal what is stored anew, for the servers that the rows lead to now; what no key opens stays as it is."""
    for row in apps.get_model("connections", "Credential").objects.select_related("connection"):
        origin, before = egress.origin(row.connection.server_url), f"{row.connection.tenant_id}/credential/{row.id}"
        try:
            data = sealing.unseal_bytes(row.sealed, context=before)
        except SealBroken:
            continue
        row.origin, row.sealed = origin, sealing.seal_bytes(data, context=f"{before}/{row.kind}/{origin}/")
        row.save(update_fields=["origin", "sealed"])
    for tenant in apps.get_model("connections", "Tenant").objects.exclude(sealed_webhook_secret=""):
        before = f"{tenant.id}/webhook"
        try:
            data = sealing.unseal_bytes(tenant.sealed_webhook_secret, context=before)
        except SealBroken:
            continue
        context = f"{before}/{egress.origin(tenant.webhook_url)}"
        tenant.sealed_webhook_secret = sealing.seal_bytes(data, context=context)
        tenant.save(update_fields=["sealed_webhook_secret"])


class Migration(migrations.Migration):
    """Two columns, and the seals bound to them."""

    dependencies = [("connections", "0006_what_may_be_read_at_once")]

    operations = [
        migrations.AddField("credential", "origin", models.CharField(blank=True, db_default="", max_length=300)),
        migrations.AddField("credential", "issuer", models.CharField(blank=True, db_default="", max_length=2048)),
        migrations.RunPython(keep_origins, migrations.RunPython.noop),
    ]
