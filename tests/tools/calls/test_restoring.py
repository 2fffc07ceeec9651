"""A backup that is restored into an empty place: what was open ends, and nothing is sent twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from connections.models import Notice
from duvo import restoring, stack
from tests.conftest import House
from tests.servers import postgres
from tests.tools.calls.test_repeats_and_cancels import orphan
from tests.tools.conftest import Shop
from tools.calls import life
from tools.models import Call

ASYNC = {"headers": {"Prefer": "respond-async"}}
Captured = pytest.CaptureFixture[str]


def states() -> dict[str, tuple[str, str]]:
    return {str(call.pk): (call.state, call.error_code) for call in Call.objects.all()}


def test_what_was_open_ends_and_what_waited_is_not_sent(shop: Shop, acme: House) -> None:
    queued = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    shop.set_tool("echo", policy="ask")
    awaiting = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    running = orphan(shop, lease_until=timezone.now())
    task = orphan(shop, sealed_task="v1.x.y", lease_until=None)
    notice = Notice.objects.create(
        connection=shop.connection, reason="sign_in_ended", sentence="It ended.", deliver_at=timezone.now()
    )
    said = list(restoring.go_on(timezone.now()))
    assert states() == {
        queued: ("outcome_unknown", "restored"),
        awaiting: ("failed", "restored"),
        str(running.pk): ("outcome_unknown", "restored"),
        str(task.pk): ("running", ""),  # asking for what became of it does nothing again
    }
    notice.refresh_from_db()
    assert notice.deliver_at is None
    assert said[-1] == "1 mails and webhook messages waited: they are not sent."
    life.sweep(timezone.now())
    life.resume(queued)
    assert shop.server.executions("echo") == 0


def test_a_key_that_is_missing_is_told_before_anything_is_changed(shop: Shop, settings: Any, capsys: Captured) -> None:
    queued = shop.call("echo", {"text": "x"}, **ASYNC).json()["id"]
    settings.SEAL_KEYS = ["bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleS0="]
    with pytest.raises(CommandError, match=r"sealed with the key .* which is not in SEAL_KEYS"):
        call_command("restored")
    assert states() == {queued: ("queued", "")}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="A backup of SQLite is a copy of its folder.")
def test_a_dump_is_restored_into_an_empty_place(shop: Shop, tmp_path: Path) -> None:
    """With pg_dump and pg_restore, as the help page says: the calls that were made since are not made again."""
    answered = shop.call("echo", {"text": "kept"}).json()["id"]
    queued = shop.call("echo", {"text": "made after the dump"}, **ASYNC).json()["id"]
    with postgres.cluster() as place:
        run(place, "pg_dump", "--format=custom", f"--dbname={database_url()}", f"--file={tmp_path}/dump")
        life.resume(queued)  # the old place goes on
        assert Call.objects.get(pk=queued).state == "succeeded"
        executions = shop.server.executions("echo")
        run(place, "pg_restore", "--no-owner", f"--dbname={place.url}", f"{tmp_path}/dump")
        manage = [sys.executable, "manage.py"]
        environment = os.environ | {"DATABASE_URL": place.url}
        told = subprocess.run(
            [*manage, "restored"], cwd=stack.BASE_DIR, env=environment, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
        assert "1 calls were queued: they end with the code `restored`" in told.stdout
        with psycopg.connect(place.url) as database:
            rows = database.execute("SELECT id::text, state, error_code FROM tools_call").fetchall()
        assert {row[0]: row[1:] for row in rows} == {
            answered: ("succeeded", ""),
            queued: ("outcome_unknown", "restored"),
        }
        assert shop.server.executions("echo") == executions


def database_url() -> str:
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{connection.settings_dict['NAME']}"


def run(place: postgres.Cluster, program: str, *arguments: str) -> None:
    subprocess.run([place.program(program), *arguments], check=True)
