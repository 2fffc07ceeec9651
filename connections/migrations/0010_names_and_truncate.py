"""Organizations are told apart by slugs, as their names need not be unique; the audit log cannot be truncated."""

from django.db import migrations, models

from connections import names

TABLE = "connections_auditevent"
TRUNCATE = "audit_events_are_not_truncated"


def give_slugs(apps, schema_editor):
    tenants = apps.get_model("connections", "Tenant").objects
    taken = set()
    for tenant in tenants.order_by("created_at", "pk"):
        number = 1
        while (slug := names.slug_of(tenant.name, number)) in taken:
            number += 1
        taken.add(slug)
        tenants.filter(pk=tenant.pk).update(slug=slug)


def forbid_truncate(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":  # SQLite knows no TRUNCATE: there it is a DELETE
        schema_editor.execute(
            f"CREATE TRIGGER {TRUNCATE} BEFORE TRUNCATE ON {TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION forbid_audit_change()"
        )


def allow_truncate(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER {TRUNCATE} ON {TABLE}")


class Migration(migrations.Migration):
    dependencies = [("connections", "0009_quotas")]
    operations = [
        migrations.RunPython(forbid_truncate, allow_truncate),
        migrations.AlterField("tenant", "name", models.CharField(max_length=100)),
        migrations.AddField("tenant", "slug", models.CharField(max_length=40, editable=False, default=""), preserve_default=False),
        migrations.RunPython(give_slugs, migrations.RunPython.noop),
        migrations.AlterField("tenant", "slug", models.SlugField(max_length=40, unique=True, editable=False)),
        migrations.AlterModelOptions("tenant", {"ordering": ["name", "id"], "verbose_name": "organization"}),
    ]
