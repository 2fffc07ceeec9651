"""Each migration from a named one on is safe while the version before runs, and keeps no call waiting."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations import Migration, operations
from django.db.models import Q

from connections.expanding import AddConstraintAside, AddIndexAside, default_of
from connections.models import Connection, Matter
from tests.conftest import House
from tests.versions import lint, previous
from tools.models import McpSession

# What was made before these rules is history.
FROM = {"connections": "0016", "oauth": "0004", "tools": "0007"}
NEW = sorted(key for key in previous.loader().disk_migrations if key[0] in previous.OURS and key[1] >= FROM[key[0]])
POSTGRESQL = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="Versions run side by side on PostgreSQL only."
)


@pytest.mark.parametrize("key", NEW, ids="/".join)
def test_a_migration_is_safe_while_the_version_before_runs(key: tuple[str, str]) -> None:
    migration = previous.loader().disk_migrations[key]
    before = previous.loader().project_state(key, at_end=False)
    assert list(lint.faults(migration, before)) == []
    assert (import_module(migration.__module__).__doc__ or "").strip(), "say why it is safe"


NAME = models.CharField(max_length=10)
BAD: dict[str, Any] = {
    "db_default": operations.AddField("call", "extra", NAME),
    "plain column": operations.AddField("call", "other", models.ForeignKey("tools.Tool", models.CASCADE, null=True)),
    "write null": operations.AlterField("call", "started_at", models.DateTimeField()),
    "old type": operations.AlterField("call", "attempts", models.CharField(max_length=9)),
    "AddIndexAside": operations.AddIndex("call", models.Index(fields=["state"], name="x")),
    "AddConstraintAside": operations.AddConstraint("call", models.CheckConstraint(condition=Q(attempts=1), name="x")),
    "atomic = False": AddIndexAside("call", models.Index(fields=["state"], name="x")),
    "only checks": AddConstraintAside("call", models.UniqueConstraint(fields=["state"], name="x")),
    "nobody_uses": operations.RemoveField("call", "traceparent"),
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_not_safe_is_seen(words: str) -> None:
    migration = Migration("9999_bad", "tools")
    migration.operations = [BAD[words]]
    assert any(words in fault for fault in lint.faults(migration, previous.state()))


def test_what_is_safe_is_let_pass() -> None:
    migration = Migration("9999_good", "tools")
    migration.atomic = False
    migration.operations = [
        operations.CreateModel("New", [("id", models.BigAutoField(primary_key=True)), ("name", NAME)]),
        operations.AddIndex("new", models.Index(fields=["name"], name="x")),
        operations.AddField("call", "extra", models.CharField(max_length=10, db_default="")),
        operations.AlterField("call", "tool_name", models.CharField(max_length=400)),
        AddIndexAside("call", models.Index(fields=["state"], name="y")),
        AddConstraintAside("call", models.CheckConstraint(condition=Q(attempts__gte=0), name="z")),
    ]
    assert list(lint.faults(migration, previous.state())) == []


# --- the database that they make ------------------------------------------------------------------------------------


def columns() -> dict[tuple[str, str], tuple[bool, bool]]:
    """Whether each column may be null, and whether it has a default."""
    query = "SELECT table_name, column_name, is_nullable = 'YES', column_default IS NOT NULL"
    with connection.cursor() as cursor:
        cursor.execute(f"{query} FROM information_schema.columns WHERE table_schema = 'public' AND is_identity = 'NO'")
        return {(table, column): (null, default) for table, column, null, default in cursor.fetchall()}


def ours(registry: Any = apps) -> list[Any]:
    every = registry.get_models(include_auto_created=True)
    return [model for model in every if model._meta.app_label in previous.OURS]


@POSTGRESQL
def test_what_has_a_default_has_it_in_the_database(db: None) -> None:
    """So that a version that does not know a column, or no longer, inserts rows all the same."""
    there = columns()
    lacking = [
        f"{model.__name__}.{field.name}: give it a db_default"
        for model in ours()
        for field in model._meta.local_concrete_fields
        if (default_of(field) is not None or field.has_db_default())
        and there[model._meta.db_table, field.column] == (False, False)
    ]
    assert lacking == []


@POSTGRESQL
def test_the_version_before_inserts_without_what_it_does_not_know(db: None) -> None:
    there = columns()
    known = {
        (model._meta.db_table, field.column)
        for model in ours(previous.state().apps)
        for field in model._meta.local_concrete_fields
    }
    tables = {table for table, _ in known}
    missing = [key for key, how in there.items() if key[0] in tables and key not in known and how == (False, False)]
    assert missing == []


@POSTGRESQL
def test_the_version_before_finds_what_it_reads_and_writes(db: None) -> None:
    now = {
        (model._meta.db_table, field.column): field for model in ours() for field in model._meta.local_concrete_fields
    }
    for model in ours(previous.state().apps):
        for field in model._meta.local_concrete_fields:
            new = now[model._meta.db_table, field.column]
            assert new.null >= field.null, f"{model.__name__}.{field.name} may not be null any more"
            same = new.db_type(connection) == field.db_type(connection)
            assert same or lint.grows(field, new), f"{model.__name__}.{field.name} is of another type"


@POSTGRESQL
def test_deletions_of_the_version_before_reach_the_tables_that_it_does_not_know(acme: House) -> None:
    """The rows go, or forget what was deleted, whoever deletes: here somebody who knows none of these tables."""
    one = acme.connection("Orders")
    session = McpSession.objects.create(tenant=acme.tenant, connection=one, server_key="k", revision=1)
    matter = Matter.objects.create(connection=one, kind="connection.unreachable")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM connections_connection WHERE id = %s", [one.pk])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert not Connection.objects.filter(pk=one.pk).exists()
    assert not Matter.objects.filter(pk=matter.pk).exists()
    session.refresh_from_db()
    assert session.connection_id is None


FIRST_TABLES = {  # of the first migrations: every version knows them
    f"{app}_{name}"
    for app in previous.OURS
    for name, model in (
        (name, model)
        for (of, name), model in previous.loader().graph.make_state(nodes=[(app, "0001_initial")]).models.items()
        if of == app
    )
}


@POSTGRESQL
def test_deletions_reach_every_table_that_was_added(db: None) -> None:
    query = """
        SELECT conrelid::regclass::text, attname, confdeltype FROM pg_constraint
        JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] WHERE contype = 'f'
    """
    with connection.cursor() as cursor:
        cursor.execute(query)
        does = {(table, column): mark.decode() if isinstance(mark, bytes) else mark for table, column, mark in cursor}
    marks = {models.CASCADE: "c", models.SET_NULL: "n"}
    for model in ours():
        if model._meta.db_table in FIRST_TABLES or model._meta.auto_created:
            continue
        for field in model._meta.local_concrete_fields:
            if not getattr(field, "db_constraint", True):  # nothing hinders a deletion
                continue
            if (wanted := marks.get(getattr(field.remote_field, "on_delete", None))) is not None:
                found = does[model._meta.db_table, field.column]
                assert found == wanted, f"{model.__name__}.{field.name}: use deletes_reach (connections/expanding.py)"
