"""What `manage.py restored` does: look whether database, folder and keys belong together, then go on from there.

A backup is a moment of the past. Calls, mails and webhook messages that waited in it have probably been sent since, so
none of them is sent now.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from connections import seal_report, sealed_files
from connections.notices import delivering
from tools.calls import owner_mail, restoring
from tools.models import StoredContent


def hindrances() -> Iterator[str]:
    """Give each reason why the product must not start like this; nothing is changed."""
    if (others := _others()) > 0:
        yield f"{others} other connections use this database: stop web processes, workers and beat first."
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield "The database is of an older version: run `manage.py migrate` first."
        return
    for key in seal_report.keys([]):
        if key.place is None:
            count = sum(key.sealed.values())
            yield f"{count} values are sealed with the key {key.id}, which is not in SEAL_KEYS: add that key."
    if not sealed_files.set_up() and StoredContent.objects.exclude(file="").exists():
        yield "Contents of results lie in files, and RESULT_FOLDER is not set."


def lost_files() -> tuple[int, int]:
    """Return how many stored contents should be files, and how many of these files are not there."""
    names = StoredContent.objects.exclude(file="").values_list("file", flat=True).iterator()
    there = [sealed_files.storage().exists(name) for name in names]
    return len(there), there.count(False)


def go_on(now: datetime) -> Iterator[str]:
    """End or drop what waited when the backup was made, and say what that was."""
    for state, count in sorted(restoring.end_open(now).items()):
        yield f"{count} calls were {state.replace('_', ' ')}: they end with the code `restored`."
    dropped = delivering.drop_waiting() + owner_mail.drop_waiting()
    yield f"{dropped} mails and webhook messages waited: they are not sent."


def _others() -> int:
    """Return how many others are connected to this database."""
    if connection.vendor != "postgresql":
        return 0
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        cursor.execute(query + " AND backend_type = 'client backend'")
        return int(cursor.fetchone()[0])
