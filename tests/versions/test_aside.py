"""Indexes and checks that are added while everybody works, and a `migrate` that lets others go first."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations.state import ProjectState
from django.db.models import Q
from django.db.utils import IntegrityError

from connections.expanding import AddConstraintAside, AddIndexAside, drop_index_of
from duvo import stack
from tests.conftest import found
from tests.servers import postgres
from tests.versions import previous

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="Versions run side by side on PostgreSQL only."
)


def run(operation: AddIndexAside | AddConstraintAside) -> None:
    before: ProjectState = previous.state()
    after = before.clone()
    operation.state_forwards("connections", after)
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("connections", editor, before, after)


def one(query: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


def test_an_index_is_built_while_others_write_also_after_a_try_that_failed(transactional_db: None) -> None:
    found("acme")
    index = AddIndexAside("tenant", models.Index(fields=["created_at"], name="aside"))
    try:
        run(index)
        run(index)  # as after an interruption
        assert one("SELECT indisvalid FROM pg_index WHERE indexrelid = 'aside'::regclass") == (True,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX IF EXISTS aside")


def test_the_index_of_a_foreign_key_alone_goes_and_the_one_that_takes_its_place_stays(transactional_db: None) -> None:
    there = (
        "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE indexdef LIKE '%(connection_id%'"
    )
    of_calls = f"{there} AND tablename = 'tools_call'"
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX tools_call_connection_id_0123abcd ON tools_call (connection_id)")
    assert one(of_calls) == ("call_of_connection tools_call_connection_id_0123abcd",)
    for _ in range(2):  # as after an interruption
        with connection.schema_editor(atomic=False) as editor:
            drop_index_of("tools", "call", "connection")(apps, editor)
    assert one(of_calls) == ("call_of_connection",)


def test_a_check_holds_for_new_rows_and_is_validated_then(transactional_db: None) -> None:
    found("acme")
    check = AddConstraintAside("tenant", models.CheckConstraint(condition=~Q(name="nobody"), name="aside"))
    try:
        run(check)
        run(check)  # as after an interruption
        assert one("SELECT convalidated FROM pg_constraint WHERE conname = 'aside'") == (True,)
        with pytest.raises(IntegrityError):
            found("nobody")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE connections_tenant DROP CONSTRAINT IF EXISTS aside")


def manage(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=stack.BASE_DIR, env=os.environ | {"DATABASE_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def test_migrate_keeps_nobody_waiting_for_a_table_that_is_in_use(tmp_path: Path) -> None:
    """A long read holds the table; others must not queue up behind the migration that waits for it."""
    with postgres.cluster() as cluster:
        with manage(cluster.url, "migrate", "connections", previous.MIGRATIONS[0][1]) as first:
            first.communicate(timeout=240)
        assert first.returncode == 0
        longest, said = 0.0, list[str]()
        with (
            psycopg.connect(cluster.url) as reader,
            psycopg.connect(cluster.url, autocommit=True) as other,
            manage(cluster.url, "migrate") as migrating,
        ):
            assert migrating.stdout is not None
            reader.execute("SELECT 1 FROM connections_tenant")
            listening = threading.Thread(target=said.extend, args=(migrating.stdout,))
            listening.start()
            deadline = time.monotonic() + 240
            while not any("uses a table at this moment; try 2" in line for line in said):
                began = time.monotonic()
                other.execute("SELECT 1 FROM connections_tenant")
                longest = max(longest, time.monotonic() - began)
                assert time.monotonic() < deadline, said
                assert migrating.poll() is None, said
                time.sleep(0.02)
            reader.rollback()
            assert migrating.wait(240) == 0, said
            listening.join()
        assert longest < 10, "others waited behind the migration"
