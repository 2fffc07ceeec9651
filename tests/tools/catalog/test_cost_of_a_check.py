"""A check that finds nothing new reads and writes little, and pages still show how far a slow one is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection as database
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from connections import shares
from connections.models import AuditEvent, Connection, Notice, StateMove, Tenant
from tests.conftest import House
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.tools.conftest import eventually
from tools import tasks
from tools.catalog import listing, probing
from tools.models import Probe, Tool

Probed = Callable[[Connection], Probe]
WRITES = re.compile(r'^(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"')


def told() -> list[object]:
    """Everything that people could be told of, and when tools were last seen."""
    return [
        AuditEvent.objects.count(), StateMove.objects.count(), Notice.objects.count(),
        *Tool.objects.order_by("pk").values_list("last_seen_at", flat=True),
        *Connection.objects.values_list("updated_at", "credential_since", "reachability_since", "tools_since"),
    ]  # fmt: skip


@pytest.mark.django_db
def test_one_that_finds_nothing_new_writes_its_report_and_when_the_next_is_due(
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
    expected = {"connections_connection": 2, "tools_probe": 2, "tools_checkday": 1}
    assert writes == expected, "its lease, and the end of one that died; its report with its day, and the next"
    assert len(statements) <= 14, statements
    assert told() == before


@pytest.mark.django_db
def test_what_is_listed_still_is_written_down_once_an_hour(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    connection = acme.connection(url=mcp_server("modern").url)
    probed(connection)
    Tool.objects.update(last_seen_at=timezone.now() - listing._SEEN_FOR)
    probed(connection)
    assert all(tool.last_seen_at > timezone.now() - timedelta(minutes=5) for tool in connection.tools.all())


def test_a_slow_server_is_shown_while_it_keeps_the_check_waiting(
    transactional_db: None, acme: House, mcp_server: StartServer, open_egress: None
) -> None:
    server = mcp_server("modern")
    server.behave(kinds.only_modern, kinds.only_on("tools/list", kinds.trickles))
    connection = acme.connection(url=server.url)

    def check() -> Probe | None:
        try:
            return probing.probe(connection.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(check)
        try:
            report = eventually(lambda: connection.probes.filter(outcome="running").first(), "the report")
            assert [stage["stage"] for stage in report.stages][-1] == "protocol"
        finally:
            Connection.objects.update(enabled=False)  # so that the check ends
        assert ended.result(probing.LONGEST) is not None


@pytest.mark.django_db
def test_a_tick_sends_as_many_as_the_queue_has_room_for(broker: Redis) -> None:
    """However many are due: 6,000 connections were the ceiling of the interval when a tick sent a hundred at most."""
    houses = Tenant.objects.bulk_create(Tenant(name=f"house {n}", slug=f"house-{n}") for n in range(350))
    since = timezone.now() - timedelta(hours=1)
    Connection.objects.bulk_create(
        Connection(tenant=house, name=f"c{n}", slug=f"c{n}", server_url="https://x.example/mcp", next_probe_at=since)
        for house in houses
        for n in range(2)
    )
    tasks.dispatch_probes()
    assert broker.llen("probes") == shares.MOST_WAITING
    tasks.dispatch_probes()
    assert broker.llen("probes") == shares.MOST_WAITING, "what waits is not sent again, and nothing more"
    broker.ltrim("probes", 0, shares.MOST_WAITING - 51)
    tasks.dispatch_probes()
    assert broker.llen("probes") == shares.MOST_WAITING
    assert Connection.objects.due(timezone.now()).count() == 150
