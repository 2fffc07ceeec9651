"""Checks that are due: taken off their rows as fast as servers answer, in turn, each once, and with little work."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from connections import shares
from connections.models import AuditEvent, Connection, Notice, StateMove, Tenant
from tests.conftest import House
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.tools.catalog.due import admitted, many
from tests.tools.conftest import eventually
from tools.catalog import listing, probing
from tools.catalog.checker import WAKE, Checker
from tools.models import Probe, Tool

Probed = Callable[[Connection], Probe]
PATIENCE = 60.0  # seconds


@pytest.fixture
def start(transactional_db: None, open_egress: None, broker: Redis) -> Iterator[Callable[..., Checker]]:
    """Start checkers as processes of a worker would; they end with the test."""
    started: list[Checker] = []

    def begin(places: int = 16) -> Checker:
        checker = Checker(places)
        started.append(checker)
        checker.wake()
        return checker

    yield begin
    Connection.objects.update(enabled=False)  # so that no check goes on
    for checker in started:
        checker.stop(PATIENCE)
        eventually(lambda one=checker: not one._awake, "the end of its thread")


def of_other_organizations(tenants: int, each: int, url: str) -> int:
    """Make organizations with connections whose check is due; return how many there are in all."""
    houses = Tenant.objects.bulk_create(Tenant(name=f"house {n}", slug=f"house-{n}") for n in range(tenants))
    since = timezone.now() - timedelta(hours=1)
    rows = [
        Connection(tenant=house, name=f"c{n}", slug=f"c{n}", server_url=url, next_probe_at=since)
        for house in houses
        for n in range(each)
    ]
    return len(Connection.objects.bulk_create(rows))


# --- how many -------------------------------------------------------------------------------------------------------


def test_one_call_is_enough_for_three_hundred(mcp_server: StartServer, start: Callable[..., Checker]) -> None:
    in_all = of_other_organizations(60, 5, mcp_server("modern").url)
    start()
    eventually(lambda: Probe.objects.filter(outcome="passed").count() == in_all, "every check", PATIENCE)
    again = sorted(Connection.objects.values_list("next_probe_at", flat=True))
    assert again[0] > timezone.now()
    assert again[-1] - again[0] > timedelta(seconds=60), "they do not come back together"


def test_processes_side_by_side_check_each_connection_once(
    mcp_server: StartServer, start: Callable[..., Checker]
) -> None:
    in_all = of_other_organizations(20, 3, mcp_server("modern").url)
    for _ in range(3):
        start(places=4)
    eventually(lambda: Probe.objects.exclude(outcome="running").count() >= in_all, "every check", PATIENCE)
    assert set(Counter(Probe.objects.values_list("connection", flat=True)).values()) == {1}


def test_who_has_no_place_left_calls_another_process(
    mcp_server: StartServer, start: Callable[..., Checker], broker: Redis
) -> None:
    of_other_organizations(5, 1, mcp_server("modern").url)
    start(places=2)
    eventually(lambda: broker.lrange("probes", 0, -1), "the call")
    assert WAKE in str(broker.lrange("probes", 0, -1))


# --- whose turn it is -----------------------------------------------------------------------------------------------


def test_of_five_hundred_due_connections_of_rival_no_more_than_its_share_is_taken(
    acme: House, rival: House, broker: Redis
) -> None:
    theirs = many(rival, 500)
    [mine] = many(acme, 1)
    taken = [pk for _ in range(3) for pk in admitted()]
    assert taken == [theirs[0].pk, mine.pk, *(row.pk for row in theirs[1 : shares.MOST])]


def test_servers_that_never_answer_take_no_place_from_others(
    acme: House, rival: House, mcp_server: StartServer, start: Callable[..., Checker]
) -> None:
    slow = mcp_server("modern")
    slow.behave(kinds.only_modern, kinds.only_on("tools/list", kinds.trickles))
    many(rival, 30, slow.url)
    mine = many(acme, 10, mcp_server("modern").url)
    start(places=shares.MOST + 1)
    eventually(lambda: Probe.objects.filter(outcome="passed").count() == len(mine), "acme's checks", PATIENCE)
    eventually(lambda: slow.count("tools/list") == shares.MOST, "rival's share")
    assert Connection.objects.filter(tenant=rival.tenant).exclude(probe_lease_until=None).count() == shares.MOST


def test_what_falls_free_in_a_process_goes_to_the_same_organization_if_nobody_else_waits(
    acme: House, mcp_server: StartServer, start: Callable[..., Checker]
) -> None:
    mine = many(acme, 5 * shares.MOST, mcp_server("modern").url)
    start()
    eventually(lambda: Probe.objects.filter(outcome="passed").count() == len(mine), "every check", PATIENCE)


# --- its end --------------------------------------------------------------------------------------------------------


def test_a_process_that_ends_begins_no_check_and_waits_for_those_under_way(
    acme: House, mcp_server: StartServer, start: Callable[..., Checker]
) -> None:
    server, answer = mcp_server("modern"), threading.Event()

    async def waits(*_: object) -> bool:
        await asyncio.to_thread(answer.wait, PATIENCE)
        return False

    server.behave(kinds.only_on("tools/list", waits), kinds.only_modern)
    many(acme, shares.MOST + 3, server.url)
    checker = start()
    eventually(lambda: server.count("tools/list") == shares.MOST, "its checks at the server")
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(checker.stop, PATIENCE)
        eventually(lambda: checker._stopping, "the end")
        answer.set()
        ended.result(PATIENCE)
    assert Probe.objects.filter(outcome="passed").count() == Probe.objects.count() == shares.MOST


# --- what one costs -------------------------------------------------------------------------------------------------

WRITES = re.compile(r'^(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"')


def test_a_check_that_finds_nothing_new_reads_and_writes_little(
    acme: House, mcp_server: StartServer, probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_FORGOTTEN_ONCE_IN", 10**9)
    connection = acme.connection(url=mcp_server("modern").url)
    probed(connection)
    before = told()
    with CaptureQueriesContext(database) as captured:
        report = probing.probe(connection.pk)
    assert report is not None
    assert report.outcome == "passed"
    statements = [query["sql"] for query in captured.captured_queries]
    writes = Counter(match[1] for match in map(WRITES.match, statements) if match)
    expected = {"connections_connection": 2, "tools_probe": 1, "tools_checkday": 1}
    assert writes == expected, "its lease; its report with its day, and when the next is due"
    assert len(statements) <= 14, statements
    assert told() == before


def told() -> list[object]:
    """Everything that people could be told of, and when tools were last seen."""
    return [
        AuditEvent.objects.count(), StateMove.objects.count(), Notice.objects.count(),
        *Tool.objects.order_by("pk").values_list("last_seen_at", flat=True),
        *Connection.objects.values_list("updated_at", "credential_since", "reachability_since", "tools_since"),
    ]  # fmt: skip


def test_what_is_listed_still_is_written_down_once_an_hour(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    connection = acme.connection(url=mcp_server("modern").url)
    probed(connection)
    Tool.objects.update(last_seen_at=timezone.now() - listing._SEEN_FOR)
    probed(connection)
    assert all(tool.last_seen_at > timezone.now() - timedelta(minutes=5) for tool in connection.tools.all())


def test_a_slow_server_is_shown_while_it_keeps_the_check_waiting(
    acme: House, mcp_server: StartServer, start: Callable[..., Checker]
) -> None:
    server = mcp_server("modern")
    server.behave(kinds.only_modern, kinds.only_on("tools/list", kinds.trickles))
    connection = acme.connection(url=server.url)
    start()
    report = eventually(lambda: connection.probes.filter(outcome="running").first(), "the report")
    assert [stage["stage"] for stage in report.stages][-1] == "protocol"
