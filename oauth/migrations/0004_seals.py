"""Tokens and client secrets are sealed for one server and one issuer; what is stored so far is sealed anew."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from connections import sealing
from connections.errors import SealBroken


def bind(apps: Any, schema_editor: Any) -> None:
    """Seal what is stored anew; what no key opens stays as it is."""
    for row in apps.get_model("oauth", "SignIn").objects.exclude(sealed="").select_related("connection"):
        before = f"{row.connection.tenant_id}/sign-in/{row.id}"
        _seal_anew(row, "sealed", before, f"{before}/{row.server_url}/{row.server.get('issuer', '')}")
    for row in apps.get_model("oauth", "Registration").objects.exclude(sealed_secret="").select_related("connection"):
        before = f"{row.connection.tenant_id}/registration/{row.id}"
        _seal_anew(row, "sealed_secret", before, f"{before}/{row.issuer}")


def _seal_anew(row: Any, field: str, before: str, after: str) -> None:
    try:
        data = sealing.unseal_bytes(getattr(row, field), context=before)
    except SealBroken:
        return
    setattr(row, field, sealing.seal_bytes(data, context=after))
    row.save(update_fields=[field])


class Migration(migrations.Migration):
    """No column changes."""

    dependencies = [("oauth", "0003_what_a_sign_in_is_made_for"), ("connections", "0007_origins")]

    operations = [migrations.RunPython(bind, migrations.RunPython.noop)]
