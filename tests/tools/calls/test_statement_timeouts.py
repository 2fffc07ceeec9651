"""A database that takes too long is told to people and programs in a sentence, and holds nobody for good."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import Client
from redis import Redis

from connections import refused_writes, statement_timeouts
from connections.models import User
from tests.conftest import PASSWORD, House
from tests.processes import database_url
from tests.tools.conftest import OpenShop
from tools.calls import lines
from tools.models import Call

SignedIn = Callable[[User | None], Client]


@contextmanager
def locked(table: str) -> Iterator[None]:
    """Keep a table to oneself, in a session of one's own."""
    with closing(psycopg.connect(database_url())) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


def clocks() -> tuple[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
        return cursor.fetchone()


@pytest.fixture
def impatient(transactional_db: None) -> Iterator[None]:
    """Let new connections wait a fifth of a second for a lock."""
    options = connections.settings["default"]["OPTIONS"]
    before = options["options"]
    options["options"] = before.replace("lock_timeout=10s", "lock_timeout=200ms")
    connection.close()
    connection.close_pool()
    yield
    options["options"] = before
    connection.close()
    connection.close_pool()


@pytest.fixture
def only_reads(transactional_db: None) -> Iterator[Callable[[], None]]:
    """Have new connections only read from now on, as those to a standby do."""
    options = connections.settings["default"]["OPTIONS"]
    before = options["options"]

    def begin() -> None:
        options["options"] = f"{before} -c default_transaction_read_only=on"
        anew()

    def anew() -> None:
        connection.close()
        connection.close_pool()
        with closing(psycopg.connect(database_url(), autocommit=True)) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
            )

    yield begin
    options["options"] = before
    anew()  # also those that event loops have
    for thread in threading.enumerate():
        if thread.name == "refused-writes":
            thread.join(10)
    refused_writes.forget()
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.delete(refused_writes.KEY)


@pytest.mark.skipif(os.environ["DATABASE_URL"].startswith("sqlite"), reason="SQLite has no standby")
def test_a_database_that_stores_nothing_is_told_apart_from_one_that_is_away(
    open_shop: OpenShop, only_reads: Callable[[], None], client: Client
) -> None:
    shop = open_shop()
    assert shop.call("echo", {"text": "x"}).status_code == 200
    only_reads()
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
    assert shop.server.executions("echo") == 1
    assert refused_writes.seen()
    page = client.post("/admin/login/", {"username": "admin@acme.example", "password": PASSWORD})
    assert page.status_code == 503
    assert "The database stores nothing" in page.content.decode()


@pytest.mark.skipif(os.environ["DATABASE_URL"].startswith("sqlite"), reason="SQLite has no such clock")
class TestClocks:
    def test_a_connection_begins_with_the_clocks_of_the_settings(self, db: None) -> None:
        assert clocks() == ("30s", "10s")

    def test_housekeeping_takes_its_time_and_leaves_the_clocks_as_they_were(self, transactional_db: None) -> None:
        with statement_timeouts.suspended():
            assert clocks() == ("0", "0")
        assert clocks() == ("30s", "10s")

    def test_a_page_has_less_time_and_only_for_itself(
        self, transactional_db: None, acme: House, signed_in: SignedIn
    ) -> None:
        with statement_timeouts.at_most(statement_timeouts.PAGE_SECONDS):
            assert clocks() == ("10s", "10s")
        assert clocks() == ("30s", "10s")

    def test_a_person_is_told_that_a_page_took_too_long(
        self, transactional_db: None, acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statement_timeouts, "PAGE_SECONDS", 1)
        client = signed_in(acme.admin)
        with locked("tools_probe"):
            answer = client.get("/admin/tools/probe/?outcome__exact=failed")
        assert answer.status_code == 503
        assert "This took too long" in answer.content.decode()
        assert answer.headers["Retry-After"] == "5"
        assert client.get("/admin/tools/probe/?outcome__exact=failed").status_code == 200

    def test_so_is_who_waited_for_a_lock_and_a_program(self, impatient: None, acme: House, signed_in: SignedIn) -> None:
        row, client, token = acme.connection(), signed_in(acme.admin), acme.member_token(acme.admin)
        with locked("connections_connection"):
            pressed = client.post(f"/admin/connections/connection/{row.pk}/check/")
            read = Client().get("/v1/connections", headers={"Authorization": f"Bearer {token}"})
        assert (pressed.status_code, read.status_code) == (503, 503)
        assert "This took too long" in pressed.content.decode()
        assert read.json()["code"] == "database_busy"
        assert client.post(f"/admin/connections/connection/{row.pk}/check/").status_code == 302

    def test_calls_that_cannot_be_written_down_in_time_are_refused_at_once_and_not_one_after_the_other(
        self, impatient: None, open_shop: OpenShop
    ) -> None:
        shop = open_shop()
        assert shop.call("echo", {"text": "x"}).status_code == 200
        with locked("tools_call"), ThreadPoolExecutor(12) as callers:
            answers = list(callers.map(lambda _: shop.call("echo", {"text": "x"}), range(12)))
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "ledger_unavailable")}
        assert shop.server.count("tools/call") == 1
        assert Call.objects.count() == 1
        assert shop.call("echo", {"text": "x"}).status_code == 200

    def test_a_database_that_stops_answering_in_the_middle_of_a_commit_is_given_up(
        self, transactional_db: None, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = open_shop()
        assert shop.call("echo", {"text": "x"}).status_code == 200
        monkeypatch.setattr(lines, "_patience", lambda: 0.5)
        with locked("tools_call"):  # the clocks of the server would let it wait for ten seconds
            answer = shop.call("echo", {"text": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
        monkeypatch.undo()
        assert shop.call("echo", {"text": "x"}).status_code == 200
        assert shop.server.count("tools/call") == 2
