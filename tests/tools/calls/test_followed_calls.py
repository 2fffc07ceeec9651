"""A call that a worker makes and its caller follows: what it asks of the database and of Redis, and what is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
import redis.asyncio.connection
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created
from django.utils import timezone

from connections import egress
from connections.models import Connection, Tenant
from tests.conftest import House
from tests.tools.conftest import Shop, eventually
from tools import callers
from tools.calls import ledger, lines, looking, offers, pubsub, queued, watching
from tools.calls.looking import Asked
from tools.calls.turns import Turns
from tools.models import AccessToken, Assignment, Call
from tools.models.call_states import CallState

LATER = {"Prefer": "respond-async"}
KEEP = timedelta(minutes=1)
NOBODY_LOOKS = 600.0  # seconds

_LOOK = " ".join(looking._LOOK.split()).partition(" AS ")[0]

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="On SQLite there are no lines.")


def make_queued() -> list[Call]:
    """Take what is queued and run it, as a worker does; return what was taken."""

    async def work() -> list[Call]:
        line = lines.Line()
        try:
            calls = await Turns(8).take_on(line, {}, timezone.now(), KEEP)
        finally:
            await line.close()
        await asyncio.gather(*(queued.run(call) for call in calls))
        return calls

    if connection.vendor == "postgresql":
        return egress.run(work())
    taken = Turns(8).take({}, timezone.now(), KEEP)
    for call in taken:
        egress.run(queued.run(call))
    return taken


def follow(shop: Shop) -> str:
    """Make a call without waiting for it, follow it, and return all that the stream tells."""
    call = shop.call("echo", {"text": "x"}, headers=LATER).json()["id"]
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(shop.api.get, f"/v1/calls/{call}/events")
        eventually(lambda: any(UUID(call) in watch.waiting for watch in list(watching._watches.values())), "a follower")
        make_queued()
        return stream.result(30).text


async def soon(found: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not found():  # noqa: ASYNC110 - other processes, too, make it true
            await asyncio.sleep(0.01)


# --- what it costs --------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """What was asked: statements of lines, statements of Django's connections, and commands of Redis."""

    of_lines: list[str] = field(default_factory=list)
    of_django: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Count what this process asks in all of its threads and event loops."""
    counted, me, ask = Counted(), threading.current_thread(), lines.Line.ask
    both = redis.connection.AbstractConnection, redis.asyncio.connection.AbstractConnection

    async def asked(line: lines.Line, statement: str, values: Any) -> lines.Rows:
        counted.of_lines.append(" ".join(statement.split()))
        return await ask(line, statement, values)

    def executed(execute: Any, sql: str, *rest: Any) -> Any:
        counted.of_django.append(sql)
        return execute(sql, *rest)

    def watch(connection: Any, **_: Any) -> None:
        if threading.current_thread() is not me and executed not in connection.execute_wrappers:
            connection.execute_wrappers.append(executed)

    def sent(kind: Any) -> Any:
        send = kind.send_command

        def counts(self: Any, *words: Any, **more: Any) -> Any:
            if threading.current_thread() is not me:
                counted.commands.append(words[0])
            return send(self, *words, **more)

        return counts

    connection_created.connect(watch, weak=False)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(lines.Line, "ask", asked)
            for kind in both:
                patch.setattr(kind, "send_command", sent(kind))
            yield counted
    finally:
        connection_created.disconnect(watch)


@on_postgresql
def test_a_followed_call_takes_eight_statements_and_few_commands(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shared with all the calls of that moment. Whoever adds one here pays it for every call of everybody."""
    monkeypatch.setattr(watching, "POLL_EVERY", NOBODY_LOOKS)
    follow(shop)  # now everything is known that is kept
    with counting(monkeypatch) as counted:
        told = follow(shop)
    assert '"state":"succeeded"' in told
    assert [statement.partition(" AS ")[0] for statement in counted.of_lines] == [
        "WITH opened",
        _LOOK,
        "WITH RECURSIVE tenants(id)",
        "WITH due",
        "WITH claimed",
        "WITH sent",
        "WITH ended",
        _LOOK,
    ]
    # The token is looked up when what is known of it is older than a second, on a busy machine.
    assert [statement for statement in counted.of_django if "tools_accesstoken" not in statement] == []
    # Admitted, followed, not followed any more; begun and ended; and what the call before has left.
    assert counted.commands.count("EVALSHA") <= 6
    assert counted.commands.count("PUBLISH") == 2, "workers are woken, and the end is told"
    connecting = {"HELLO", "CLIENT"}  # of a connection that was made just then
    assert set(counted.commands) - connecting == {"EVALSHA", "PUBLISH"}


# --- what is known from minutes ago is checked ----------------------------------------------------------------------


def suspend(shop: Shop) -> None:
    Tenant.objects.update(suspended_at=timezone.now())


def deny(shop: Shop) -> None:
    shop.connection.tools.filter(name="echo").update(policy="deny")


def revoke(shop: Shop) -> None:
    AccessToken.objects.get(assignment=shop.assignment).revoke()


def disable(shop: Shop) -> None:
    Connection.objects.update(enabled=False)


def approve_another(shop: Shop) -> None:
    shop.connection.tools.filter(name="echo").update(approved_digest="x" * 64, digest="x" * 64)


def ask_first(shop: Shop) -> None:
    shop.connection.tools.filter(name="echo").update(policy="ask")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("change", "state", "code"),
    [
        (suspend, "queued", ""),
        (deny, "failed", "tool_denied"),
        (revoke, "failed", "asker_gone"),
        (disable, "failed", "connection_disabled"),
        (approve_another, "failed", "tool_replaced"),
        (ask_first, "failed", "approval_refused"),
    ],
)
def test_what_was_changed_since_is_seen_though_the_offer_is_kept(
    shop: Shop, change: Any, state: str, code: str
) -> None:
    shop.call("echo", {"text": "x"}, headers=LATER)
    make_queued()
    assert shop.row.state == "succeeded"
    shop.call("echo", {"text": "y"}, headers=LATER)
    call = Call.objects.get(state="queued")
    change(shop)
    egress.run(queued.run(call))
    call.refresh_from_db()
    assert (call.state, call.error_code) == (state, code)
    assert shop.server.executions("echo") == 1


@pytest.mark.smoke
def test_a_limit_that_was_raised_since_counts_at_once(shop: Shop) -> None:
    Connection.objects.update(max_rate=1)
    offers.forget()
    assert shop.call("echo", {"text": "x"}).status_code == 200
    shop.call("echo", {"text": "x"}, headers=LATER)
    call = Call.objects.get(state="queued")
    egress.run(queued.run(call))
    call.refresh_from_db()
    assert call.state == "queued"
    Connection.objects.update(max_rate=1_000_000)  # the next is allowed within a moment
    egress.run(queued.run(call))
    call.refresh_from_db()
    assert call.state == "succeeded"


@pytest.mark.smoke
def test_a_claim_of_another_attempt_or_of_what_is_no_longer_queued_is_not_written(shop: Shop) -> None:
    shop.call("echo", {"text": "x"}, headers=LATER)
    [call] = Turns(8).take({}, timezone.now(), KEEP)
    offer = egress.run(queued._kept_offer(call))
    assert offer is not None

    def claim(**members: Any) -> bool:
        now = timezone.now()
        known = {
            "id": call.pk, "attempt": 1, "tenant_id": call.tenant_id, "assignment_id": shop.assignment.pk,
            "token_id": call.token_id, "connection_id": shop.connection.pk, "tool_id": call.tool_id,
            "version": offer.version, "account": "", "started_at": now, "lease_until": now + KEEP,
        }  # fmt: skip
        return egress.run(ledger.write(ledger.Claim(**known | members)))

    assert not claim(attempt=2)
    assert not claim(version=f"{offer.version};")
    assert claim()
    assert not claim(), "somebody was quicker"
    assert not egress.run(ledger.write(ledger.Sending(call.pk, 2, call.tenant_id, timezone.now())))
    assert shop.row.sent_at is None
    assert egress.run(ledger.write(ledger.Sending(call.pk, 1, call.tenant_id, timezone.now())))
    assert (shop.row.state, shop.row.sent_at is None) == ("running", False)
    assert Call.objects.filter(pk=call.pk).end(CallState.CANCELLED, "cancelled", "Nobody wants it.", timezone.now())
    late = ledger.Sending(call.pk, 1, call.tenant_id, timezone.now())
    assert not egress.run(ledger.write(late)), "what has ended is not sent"


def test_a_claim_whose_confirmation_is_lost_is_ours(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ledger.postgresql.Line if connection.vendor == "postgresql" else ledger.writing._Sqlite
    commit, lost = place.commit, list[type]()

    async def hangs_up_after_it(self: Any, entries: Any) -> set[UUID]:
        written: set[UUID] = await commit(self, entries)
        if type(entries[0].row) not in lost:
            lost.append(type(entries[0].row))
            raise OperationalError
        return written

    shop.call("echo", {"text": "x"}, headers=LATER)
    monkeypatch.setattr(place, "commit", hangs_up_after_it)
    make_queued()
    assert lost == [ledger.Claim, ledger.Sending, ledger.Outcome]
    assert (shop.row.state, shop.server.executions("echo")) == ("succeeded", 1)


@on_postgresql
def test_two_workers_that_take_at_one_moment_share(shop: Shop) -> None:
    made = [shop.call("echo", {"text": "x"}, headers=LATER).json()["id"] for _ in range(12)]

    async def take() -> list[Call]:
        line = lines.Line()
        try:
            return await Turns(64).take_on(line, {}, timezone.now(), KEEP)
        finally:
            await line.close()

    async def both() -> list[Call]:
        first, second = await asyncio.gather(take(), take())
        return first + second

    taken = egress.run(both())
    assert sorted(str(call.pk) for call in taken) == sorted(made)


# --- following ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_look_is_at_ones_own_call_only(shop: Shop, acme: House, rival: House) -> None:
    call = UUID(shop.call("echo", {"text": "x"}).json()["id"])
    tenant, assignment, token = shop.assignment.tenant_id, shop.assignment.pk, AccessToken.objects.get().pk
    others = [
        Asked(call, rival.tenant.pk, assignment, token, 0),
        Asked(call, tenant, acme.assignment("Other").pk, token, 0),
        Asked(call, tenant, rival.assignment().pk, token, 0),
        Asked(uuid4(), tenant, assignment, token, 0),
    ]
    mine = [Asked(call, tenant, assignment, token, after) for after in (0, 1, 2, 99)]

    async def at_one_moment() -> list[looking.Look | None]:
        return await asyncio.gather(*map(looking.look, (*others, *mine)))

    *nothing, whole, rest, none, beyond = egress.run(at_one_moment())
    assert nothing == [None] * 4
    assert whole is not None
    assert [event.state for event in whole.events] == ["running", "succeeded"]
    seen = [look for look in (whole, rest, none, beyond) if look is not None]
    assert [(look.over, len(look.events)) for look in seen] == [(True, 2), (True, 1), (True, 0), (True, 0)]
    assert all(look.accepted and look.made_with == token for look in seen)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "change",
    [
        lambda: AccessToken.objects.get().revoke(),
        lambda: AccessToken.objects.update(expires_at=timezone.now()),
        lambda: Assignment.objects.update(enabled=False),
        lambda: Tenant.objects.update(suspended_at=timezone.now()),
    ],
    ids=["revoked", "expired", "disabled", "suspended"],
)
def test_who_is_no_longer_accepted_sees_nothing_at_once(shop: Shop, change: Callable[[], Any]) -> None:
    call = shop.call("echo", {"text": "x"}).json()["id"]
    path = f"/v1/calls/{call}/events"
    assert shop.api.get(path).status_code == 200
    change()
    assert shop.api.get(path).status_code in {401, 403}


def test_an_organization_that_is_resumed_is_served_again(shop: Shop) -> None:
    assert shop.call("echo", {"text": "x"}).status_code == 200
    Tenant.objects.update(suspended_at=timezone.now())
    assert shop.call("echo", {"text": "x"}).status_code == 403
    callers.principals.clear()  # as it is everywhere within a second
    assert shop.call("echo", {"text": "x"}).status_code == 403
    Tenant.objects.update(suspended_at=None)
    callers.principals.clear()
    assert shop.call("echo", {"text": "x"}).status_code == 200


async def test_an_end_that_was_told_just_before_somebody_waits_is_known() -> None:
    call, watch = uuid4(), watching._watch()
    watch.notify(call, CallState.FAILED)
    seen = await watching.until(call, lambda seen: seen.finished, NOBODY_LOOKS)
    assert seen is not None
    assert seen.state == CallState.FAILED


async def test_what_is_published_at_one_moment_is_one_message(broker: redis.Redis) -> None:
    heard, workers = dict[UUID, CallState | None](), list[None]()
    calls, running = [uuid4() for _ in range(300)], uuid4()
    listening = [
        asyncio.ensure_future(pubsub.listen(heard.__setitem__)),
        asyncio.ensure_future(pubsub.listen_for_queued(lambda: workers.append(None))),
    ]
    try:
        await soon(lambda: all(number for _, number in broker.pubsub_numsub(pubsub.CHANNEL, pubsub.QUEUED)))
        before = broker.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"]
        for call in calls:
            pubsub.publish_soon(call, CallState.SUCCEEDED)
            pubsub.notify_workers_soon()
        pubsub.publish_soon(running, CallState.RUNNING)
        await soon(lambda: len(heard) == 301 and workers)
        after = broker.info("commandstats")["cmdstat_publish"]["calls"]
    finally:
        for task in listening:
            task.cancel()
    assert {heard[call] for call in calls} == {CallState.SUCCEEDED}
    assert heard[running] is None, "its row is to be read"
    assert len(workers) == 1
    assert after - before == 2


async def test_while_redis_is_away_nothing_waits_for_it(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    began = asyncio.get_running_loop().time()
    for _ in range(10_000):
        pubsub.publish_soon(uuid4())
    messenger = pubsub._messenger()
    await soon(lambda: messenger._sending is None)
    assert not any(messenger._gathered.values()), "what nobody takes is dropped"
    assert messenger._silent_until > began


def test_an_end_that_could_not_be_written_is_not_told_as_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    write, told = ledger.write, list[Any]()

    async def away(row: ledger.rows.Row) -> bool:
        if isinstance(row, ledger.Outcome):
            raise ledger.LedgerUnavailable
        return await write(row)

    shop.call("echo", {"text": "x"}, headers=LATER)
    monkeypatch.setattr(ledger, "write", away)
    monkeypatch.setattr(pubsub, "publish_soon", lambda *words: told.append(words))
    make_queued()
    assert shop.row.state == "running"
    assert all(words[1:] in {(), (None,)} for words in told)
