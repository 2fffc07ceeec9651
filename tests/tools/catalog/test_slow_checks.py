"""Servers that answer for ever: a check ends all the same, and holds up nobody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import connections
from django.utils import timezone
from redis import Redis

from connections import checking, shares
from connections.checking import CHECKS
from connections.models import Connection
from tests import reading
from tests.conftest import House
from tests.processes import WORKER_PATIENCE, Processes
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tests.tools.conftest import eventually
from tools import tasks
from tools.catalog import probing
from tools.models import Probe

Probed = Callable[[Connection], Probe]


@pytest.fixture
def checker() -> Iterator[Callable[[Connection], Future[Probe | None]]]:
    """Checks in a thread, as a worker would."""
    with ThreadPoolExecutor(1) as thread:

        def check(connection: Connection) -> Probe | None:
            try:
                return probing.probe(connection.pk)
            finally:
                connections.close_all()

        yield lambda connection: thread.submit(check, connection)


@pytest.fixture
def trickling(mcp_server: StartServer) -> McpServer:
    """A server that keeps every listing waiting."""
    server = mcp_server("modern")
    server.behave(kinds.only_modern, kinds.only_on("tools/list", kinds.trickles))
    return server


@pytest.mark.parametrize("method", ["server/discover", "tools/list"])
def test_a_check_ends_whatever_clocks_the_connection_has(
    acme: House, mcp_server: StartServer, probed: Probed, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(probing, "LONGEST", 1.0)
    server = mcp_server("modern")
    server.behave(kinds.only_on(method, kinds.trickles), kinds.only_modern)
    connection = acme.connection(url=server.url, call_timeout=3600, idle_timeout=3600)
    report = probed(connection)
    assert (report.outcome, report.reason) == ("failed", "took_too_long")
    assert report.stages[-1]["sentence"] == "The check took longer than 1 seconds."
    assert connection.probe_lease_until is None
    assert connection.next_step


def test_the_longest_check_is_a_minute() -> None:
    assert probing.LONGEST == 60
    assert timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT - 1) < probing.LEASE, "no second check beside a first"


@pytest.mark.parametrize("end", ["deleted", "disabled", "changed"])
def test_a_check_that_nobody_wants_any_more_stops(
    acme: House, trickling: McpServer, open_egress: None, transactional_db: None, checker: Any, end: str
) -> None:
    connection = acme.connection(url=trickling.url)
    check = checker(connection)
    eventually(lambda: trickling.count("tools/list"), "the check at the server")
    if end == "deleted":
        connection.delete()
    elif end == "disabled":
        connection.set_enabled(False)
    else:
        Connection.objects.filter(pk=connection.pk).update(revision=2, next_probe_at=timezone.now())
    report = check.result(20)
    assert (report.outcome, report.reason) == ("failed", "interrupted")
    if end != "deleted":
        connection.refresh_from_db()
        assert connection.probe_lease_until is None
        assert connection.probe_failures == 0, "it says nothing of the server"
        assert connection.reachability_state == "reachable"
    assert Connection.objects.due(timezone.now()).exists() == (end == "changed")


# --- shares ---------------------------------------------------------------------------------------------------------


def many(house: House, count: int, url: str = "https://mcp.example.com/mcp") -> list[Connection]:
    """So many connections whose check is due, the first for the longest."""
    since = timezone.now() - timedelta(hours=1)
    rows = [
        Connection(
            tenant=house.tenant, name=f"c{number}", slug=f"c{number}", server_url=url,
            next_probe_at=since + timedelta(seconds=number),
        )
        for number in range(count)
    ]  # fmt: skip
    return Connection.objects.bulk_create(rows)


def sent(broker: Redis) -> list[str]:
    """The connections whose checks wait in the queue, in their order."""
    return [arguments["connection_id"] for _, arguments in reading.messages(broker, "probes")][::-1]


def test_five_hundred_due_connections_of_rival_send_no_more_than_its_share(
    acme: House, rival: House, broker: Redis
) -> None:
    theirs = many(rival, 500)
    [mine] = many(acme, 1)
    for _ in range(3):
        tasks.dispatch_probes()
    waiting = sent(broker)
    assert sorted(waiting) == sorted(str(row.pk) for row in (*theirs[: shares.MOST], mine))
    assert Connection.objects.due(timezone.now()).count() == 500 - shares.MOST


def test_what_the_version_before_sends_for_is_checked_while_both_run(acme: House, broker: Redis) -> None:
    [mine] = many(acme, 1)
    current_app.tasks["tools.check_due"].run()
    assert sent(broker) == [str(mine.pk)]


def test_a_place_that_falls_free_is_taken_at_once(acme: House, broker: Redis) -> None:
    rows = many(acme, shares.MOST + 1)
    tasks.dispatch_probes()
    assert sent(broker) == [str(row.pk) for row in rows[: shares.MOST]]
    with CHECKS.held(rows[0].pk):
        assert not dispatched(broker), "not before the work has ended"
    assert dispatched(broker) == ["tools.dispatch_probes"]
    tasks.dispatch_probes()
    assert sent(broker)[-1] == str(rows[-1].pk)
    for row in rows[1:]:
        CHECKS.release(row.pk)
    assert dispatched(broker) == ["tools.dispatch_probes"], "nobody waited this time"


def dispatched(broker: Redis) -> list[str]:
    """The tasks that wait in the queue `housekeeping`."""
    waiting: Any = broker.lrange("housekeeping", 0, -1)
    return [json.loads(message)["headers"]["task"] for message in waiting]


def test_what_a_person_asks_for_takes_a_place_too(acme: House, broker: Redis) -> None:
    rows = many(acme, shares.MOST + 1)
    Connection.objects.update(next_probe_at=timezone.now() + timedelta(hours=1))
    for row in rows:
        checking._send(row.tenant_id, row.pk)
        checking._send(row.tenant_id, row.pk)
    assert sent(broker) == [str(row.pk) for row in rows[: shares.MOST]], "each once"


def test_other_kinds_of_work_share_the_same_places(acme: House, rival: House, broker: Redis) -> None:
    work = shares.Work(task="oauth.attend_sign_in", dispatcher="oauth.dispatch_renewals")
    for row in many(rival, shares.MOST):
        assert CHECKS.admits(rival.tenant.pk, row.pk)
    assert not work.admits(rival.tenant.pk, rival.tenant.pk)
    assert work.admits(acme.tenant.pk, acme.tenant.pk)
    CHECKS.release(rival.tenant.connections.first().pk)
    assert dispatched(broker) == ["oauth.dispatch_renewals"], "those are called who were refused"


@pytest.mark.usefixtures("db")
def test_without_redis_everybody_is_admitted(acme: House, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert all(CHECKS.admits(acme.tenant.pk, row.pk) for row in many(acme, shares.MOST + 1))


@pytest.mark.smoke
def test_rows_are_admitted_tenant_by_tenant(acme: House, rival: House) -> None:
    theirs, mine = many(rival, 5), many(acme, 2)
    found = shares.admitted(Connection.objects.all(), None, tenant="tenant", when="next_probe_at", most=5)
    assert set(found[:2]) == {theirs[0].pk, mine[0].pk}
    assert set(found[2:4]) == {theirs[1].pk, mine[1].pk}
    assert found[4] == theirs[2].pk


def test_checks_that_never_end_leave_acmes_check_and_the_sweeper_as_they_are(
    acme: House, rival: House, trickling: McpServer, mcp_server: StartServer, processes: Processes
) -> None:
    many(rival, 20, trickling.url)
    mine = acme.connection(url=mcp_server("modern").url)
    common = ["celery", "--quiet", "--app", "duvo", "worker", "--without-gossip", "--without-mingle", "--queues"]
    processes.start(*common, "probes", "--pool", "threads", "--concurrency", str(shares.MOST + 1), "-n", "probes@%h")
    processes.start(*common, "housekeeping", "--pool", "threads", "--concurrency", "1", "-n", "housekeeping@%h")
    current_app.send_task("tools.dispatch_probes")
    eventually(
        lambda: Probe.objects.filter(connection=mine, outcome="passed").exists(), "acme's check", WORKER_PATIENCE
    )
    eventually(lambda: trickling.count("tools/list") == shares.MOST, "rival's share")
    Connection.objects.filter(pk=mine.pk).update(next_probe_at=timezone.now())
    current_app.send_task("tools.dispatch_probes")
    eventually(lambda: Probe.objects.filter(connection=mine, outcome="passed").count() == 2, "the next one")
    assert trickling.count("tools/list") == shares.MOST
    assert Connection.objects.filter(tenant=rival.tenant).exclude(probe_lease_until=None).count() == shares.MOST
