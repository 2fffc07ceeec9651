"""The audit log is append-only: a trigger forbids UPDATE and DELETE, on PostgreSQL and on SQLite."""

from django.db import migrations

TABLE = "connections_auditevent"

POSTGRESQL = [
    """
    CREATE FUNCTION forbid_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
    END $$
    """,
    f"""
    CREATE TRIGGER audit_events_are_append_only BEFORE UPDATE OR DELETE ON {TABLE}
    FOR EACH ROW EXECUTE FUNCTION forbid_audit_change()
    """,
]
SQLITE = [
    f"""
    CREATE TRIGGER audit_events_are_append_only_{verb.lower()} BEFORE {verb} ON {TABLE}
    BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
    """
    for verb in ("UPDATE", "DELETE")
]


def forbid_changes(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement)


def allow_changes(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION forbid_audit_change() CASCADE")
    else:
        for verb in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER audit_events_are_append_only_{verb}")


class Migration(migrations.Migration):
    dependencies = [("connections", "0001_initial")]
    operations = [migrations.RunPython(forbid_changes, allow_changes)]
