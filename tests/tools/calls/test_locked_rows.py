"""Whoever has rows of one organization locked, as a deletion may for seconds, keeps no other organization waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from connections import egress
from connections.models import Connection
from tests.conftest import House
from tests.processes import database_url
from tests.tools.conftest import OpenShop, Shop, eventually
from tools import callers
from tools.calls import exchanging, ledger, life, polling
from tools.calls.sessions import ending, keeping
from tools.catalog import probing
from tools.models import AccessToken, Call, McpSession, StoredContent, StreamReader
from tools.models.call_states import AskedIn, CallState

pytestmark = pytest.mark.skipif(
    os.environ["DATABASE_URL"].startswith("sqlite"), reason="SQLite locks the whole database, and for a moment only."
)
SOON = 3.0  # seconds; a lock is waited for for ten


@contextmanager
def held(table: str, key: UUID) -> Iterator[None]:
    """Keep a row locked as somebody who deletes it does."""
    with closing(psycopg.connect(database_url())) as other:
        other.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [key])  # noqa: S608 - our tables
        yield
        other.rollback()  # else the row stays locked until the server hears that nobody is there any more


@pytest.fixture
def shops(transactional_db: None, open_shop: OpenShop, acme: House, rival: House) -> tuple[Shop, Shop]:
    """A shop of acme's, and one of rival's."""
    return open_shop(house=acme), open_shop(house=rival)


def under_way(shop: Shop, lease_until: datetime) -> Call:
    """A call of which a process has said that it runs; no worker is here."""
    made = shop.call("echo", {"text": "x"}, headers={"Prefer": "respond-async"}).json()
    now = timezone.now()
    Call.objects.filter(pk=made["id"]).update(
        state=CallState.RUNNING, started_at=now, sent_at=now, lease_until=lease_until
    )
    return Call.objects.get(pk=made["id"])


def test_calls_of_others_are_opened_and_ended_while_a_connection_of_one_is_deleted(
    shops: tuple[Shop, Shop],
) -> None:
    mine, theirs = shops
    for shop in shops:
        assert shop.call("echo", {"text": "x"}).status_code == 200
    with ThreadPoolExecutor(8) as callers:
        with held("connections_connection", theirs.connection.pk):
            waiting = [callers.submit(theirs.call, "echo", {"text": "x"}) for _ in range(4)]
            for _ in range(5):
                began = timezone.now()
                assert mine.call("echo", {"text": "x"}).status_code == 200
                assert (timezone.now() - began).total_seconds() < SOON
            assert not any(one.done() for one in waiting)
        assert [one.result().status_code for one in waiting] == [200] * 4, "and they go on when it is over"
    assert not Call.objects.filter(finished_at=None).exists()


def test_outcomes_with_contents_of_one_keep_no_other_waiting(shops: tuple[Shop, Shop]) -> None:
    mine, theirs = (under_way(shop, timezone.now() + timedelta(seconds=30)) for shop in shops)
    content = StoredContent(call=theirs, number=0, media_type="text/plain", size=1, sealed="x")

    def outcome(call: Call, *contents: StoredContent) -> ledger.Outcome:
        return ledger.Outcome(
            call.pk, call.attempts, CallState.SUCCEEDED, call.tenant_id, b"{}", "", "", timezone.now(), contents
        )

    with ThreadPoolExecutor(1) as thread:
        with held("tools_call", theirs.pk):
            ended = thread.submit(egress.run, ledger.write(outcome(theirs, content)))
            eventually(waits_for_a_lock, "the lock")
            assert egress.run(asyncio.wait_for(ledger.write(outcome(mine)), SOON))  # noqa: TID251 - nobody cancels this
            assert not ended.done()
        assert ended.result()
    assert StoredContent.objects.get().call == theirs


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


def test_leases_of_others_are_renewed_while_a_call_of_one_is_locked(shops: tuple[Shop, Shop]) -> None:
    mine, theirs = (under_way(shop, timezone.now() + timedelta(seconds=1)) for shop in shops)
    alive = [(call.pk, call.attempts) for call in (theirs, mine)]
    steps = [exchanging.Step(call.pk, call.attempts, "sealed") for call in (theirs, mine)]
    with held("tools_call", theirs.pk):
        began = timezone.now()
        told = exchanging.exchange([], True, steps, alive, [])
        assert (timezone.now() - began).total_seconds() < SOON
    assert (told.lost, told.locked) == (set(), {theirs.pk}), "who is locked is not lost, and is tried again"
    now = {call.pk: call for call in Call.objects.all()}
    assert now[mine.pk].lease_until > mine.lease_until
    assert (now[mine.pk].sealed_progress, now[theirs.pk].sealed_progress) == ("sealed", "")
    assert now[theirs.pk].lease_until == theirs.lease_until


def test_a_sweep_ends_the_orphans_of_others_while_one_is_locked(shops: tuple[Shop, Shop]) -> None:
    mine, theirs = (under_way(shop, timezone.now() - timedelta(seconds=1)) for shop in shops)
    with held("tools_call", theirs.pk):
        began = timezone.now()
        life.sweep(timezone.now())
        assert (timezone.now() - began).total_seconds() < SOON
        states = {call.pk: call.state for call in Call.objects.all()}
        assert states == {mine.pk: CallState.OUTCOME_UNKNOWN, theirs.pk: CallState.RUNNING}
    life.sweep(timezone.now())
    assert Call.objects.get(pk=theirs.pk).state == CallState.OUTCOME_UNKNOWN


def test_a_sweep_answers_for_nobody_in_calls_of_others_while_one_is_locked(shops: tuple[Shop, Shop]) -> None:
    mine, theirs = (under_way(shop, timezone.now() + timedelta(minutes=9)) for shop in shops)
    past = timezone.now() - timedelta(seconds=1)
    for call in (theirs, mine):
        question = call.seal({"requests": {"a": {"mode": "form", "message": "Which?"}}, "state": None})
        assert Call.objects.filter(pk=call.pk).ask(AskedIn.STREAM, question, past)
    with held("tools_call", theirs.pk):
        began = timezone.now()
        life.sweep(timezone.now())
        assert (timezone.now() - began).total_seconds() < SOON
        answered = dict(Call.objects.exclude(sealed_answers="").values_list("pk", "waits_until"))
        assert answered == {mine.pk: None}
    life.sweep(timezone.now())
    assert Call.objects.exclude(sealed_answers="").count() == 2


def test_what_has_changed_between_the_look_at_a_row_and_its_lock_is_judged_anew(shops: tuple[Shop, Shop]) -> None:
    """Else progress is written onto a call that has just ended, and it ends twice for who follows it."""
    call = under_way(shops[0], timezone.now() + timedelta(seconds=30))
    looking = "(SELECT pg_advisory_xact_lock_shared(4711) IS NOT NULL)"  # between the snapshot and the lock

    def write() -> int:
        try:
            with transaction.atomic():
                running = Call.objects.filter(pk=call.pk, state=CallState.RUNNING)
                slow = running.extra(where=[looking])  # noqa: S610 - our own words
                return slow.unlocked().update(sealed_progress="late")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread, closing(psycopg.connect(database_url(), autocommit=True)) as gate:
        gate.execute("SELECT pg_advisory_lock(4711)")
        written = thread.submit(write)
        eventually(lambda: is_looked_at(looking), "the look")
        assert Call.objects.filter(pk=call.pk).end(CallState.CANCELLED, "x", "Ended.", timezone.now())
        gate.execute("SELECT pg_advisory_unlock(4711)")
        assert written.result() == 0
    assert Call.objects.get(pk=call.pk).sealed_progress == ""


def test_what_is_due_of_others_is_found_while_rows_of_one_are_locked(shops: tuple[Shop, Shop]) -> None:
    mine, theirs = (under_way(shop, timezone.now() + timedelta(minutes=1)) for shop in shops)
    past, later = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(seconds=1)
    Call.objects.update(poll_at=past)
    Connection.objects.update(next_probe_at=past)
    here, there = (session_of(shop, idle_until=past) for shop in shops)
    began = timezone.now()
    with (
        held("connections_connection", shops[1].connection.pk),
        held("tools_call", theirs.pk),
        held("tools_mcpsession", there.pk),
    ):
        assert probing.due(later) == [shops[0].connection.pk]
        assert polling.due(later) == [mine.pk]
        assert ending.sweep(later) == 1
        assert ending.due(later) == [here.pk]
        assert (timezone.now() - began).total_seconds() < SOON
    assert probing.due(later) == [shops[1].connection.pk], "and theirs stay due"
    assert polling.due(later) == [theirs.pk]
    assert ending.sweep(later) == 1
    assert ending.due(later) == [there.pk]


def test_calls_in_a_session_whose_row_is_locked_at_that_moment_are_counted_later(cart: Shop) -> None:
    """The row of a session is written by every process that uses it: each may find it locked by another."""
    cart.call("put", {"thing": "a"})
    session = eventually(lambda: McpSession.objects.filter(calls=1).first(), "the first call is counted")
    with held("tools_mcpsession", session.pk):
        cart.call("put", {"thing": "b"})
        later = timezone.now() + timedelta(seconds=keeping._TOUCH_EVERY + 2 * keeping.BEAT) + keeping.ALIVE
        eventually(lambda: StreamReader.objects.filter(alive_until__gte=later).exists(), "a beat that would count it")
        assert McpSession.objects.get().calls == 1
    eventually(lambda: McpSession.objects.get().calls == 2, "the second call is counted")


def test_programs_of_others_are_let_in_while_a_token_of_one_is_locked(shops: tuple[Shop, Shop]) -> None:
    AccessToken.objects.update(last_used_at=None)
    mine, theirs = (AccessToken.objects.get(assignment=shop.assignment) for shop in shops)
    with held("tools_accesstoken", theirs.pk):
        began = timezone.now()
        assert callers.principals.get_sync(theirs.digest), "whose use is noted later"
        assert egress.run(asyncio.wait_for(callers.principals.get(mine.digest), SOON))  # noqa: TID251 - nobody cancels this
        assert callers.principals._load([theirs.digest, mine.digest]).keys() == {theirs.digest, mine.digest}
        assert (timezone.now() - began).total_seconds() < SOON
    used = dict(AccessToken.objects.values_list("pk", "last_used_at"))
    assert used[mine.pk] is not None
    assert used[theirs.pk] is None


def test_sessions_of_others_stay_in_use_while_one_is_locked(shops: tuple[Shop, Shop]) -> None:
    later = timezone.now() + timedelta(minutes=9)
    here, there = (session_of(shop, idle_until=later) for shop in shops)
    used = [(session.pk, 1, timedelta(minutes=30)) for session in (there, here)]
    with held("tools_mcpsession", there.pk):
        began = timezone.now()
        written = set[UUID]()
        live, _, _ = keeping._exchange(uuid4(), [here.pk, there.pk], used, written, set())
        assert (timezone.now() - began).total_seconds() < SOON
    assert live.keys() == {here.pk, there.pk}
    assert written == {here.pk}, "and the use of theirs is said later"
    assert McpSession.objects.get(pk=here.pk).idle_until > later
    assert McpSession.objects.get(pk=there.pk).idle_until == later


def session_of(shop: Shop, **members: Any) -> McpSession:
    """A session of the shop's assignment that a process has opened."""
    connection, now = shop.connection, timezone.now()
    return McpSession.objects.create(
        tenant=connection.tenant, assignment=shop.assignment, connection=connection, name="cart", server_key="x",
        revision=connection.revision, opened_at=now, used_at=now, sealed_session="x", **members,
    )  # fmt: skip


def is_looked_at(words: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND position(%s IN query) > 0", [words]
        )
        return cursor.fetchone() is not None
