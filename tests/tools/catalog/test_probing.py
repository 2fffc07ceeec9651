"""Checking a connection against real servers: three states, told apart, and a failed check deletes nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections.models import Connection, Credential
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.kinds import TOKEN, answers, only_legacy
from tools.catalog import access, probing
from tools.catalog.report import report_of
from tools.models import Probe

Probed = Callable[[Connection], Probe]


def states(connection: Connection) -> tuple[str, str, str]:
    return connection.credential_state, connection.reachability_state, connection.tools_state


def stages(report: Probe) -> dict[str, str]:
    return {stage["stage"]: stage["outcome"] for stage in report.stages}


@pytest.mark.smoke
@pytest.mark.parametrize(("kind", "era"), [("modern", "modern"), ("dual", "modern"), ("legacy", "legacy")])
def test_a_good_server_is_connected_in_either_era(
    acme: House, mcp_server: StartServer, probed: Probed, kind: str, era: str
) -> None:
    connection = acme.connection(url=mcp_server(kind).url)
    report = probed(connection)
    assert set(stages(report).values()) == {"passed"}, report.stages
    assert states(connection) == ("not_needed", "reachable", "in_sync")
    assert (connection.headline, connection.era, connection.next_step) == ("connected", era, "")
    assert connection.tools.usable().count() == connection.tools.count() > 0


@pytest.mark.parametrize(
    ("kind", "expected", "reason"),
    [
        ("old sse", ("not_needed", "unsupported_transport", "never_listed"), "old_sse_transport"),
        ("web page", ("not_needed", "unsupported_transport", "never_listed"), "not_streamable_http"),
        ("down", ("not_needed", "busy", "never_listed"), "server_failed"),
        ("moved", ("not_needed", "unreachable", "never_listed"), "redirected"),
        ("behind 401", ("missing", "reachable", "never_listed"), "unauthorized"),
    ],
)
def test_a_report_names_what_is_wrong_and_the_next_step(
    acme: House,
    mcp_server: StartServer,
    probed: Probed,
    kind: str,
    expected: tuple[str, str, str],
    reason: str,
) -> None:
    connection = acme.connection(url=mcp_server(kind).url)
    report = probed(connection)
    assert (report.outcome, report.reason) == ("failed", reason)
    assert states(connection) == expected
    assert connection.next_step
    assert "secret detail" not in str(report.stages) + connection.reachability_sentence


def test_a_server_that_hangs_is_unreachable_within_its_timeout(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    connection = acme.connection(url=mcp_server("hangs").url, idle_timeout=1, call_timeout=1)
    assert probed(connection).reason == "timed_out"
    assert connection.reachability_state == "unreachable"


def test_nobody_listening_is_unreachable(acme: House, probed: Probed) -> None:
    connection = acme.connection(url="http://127.0.0.1:9/mcp")
    report = probed(connection)
    assert report.reason == "connect_failed"
    assert stages(report)["tcp"] == "failed"
    assert connection.headline == "unreachable"


def test_a_401_means_reachable_and_a_credential_makes_it_ready(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("behind 401")
    connection = acme.connection(url=server.url, authorization="api_key")
    assert probed(connection).reason == "credential_missing"
    key = Credential(connection=connection, kind="api_key")
    key.set("wrong", by=acme.admin)
    probed(connection)
    assert (connection.credential_state, connection.credential_reason) == ("refused", "unauthorized")
    assert connection.reachability_state == "reachable"
    key.set(TOKEN, by=acme.admin)
    probed(connection)
    assert states(connection) == ("ready", "reachable", "in_sync")


def test_a_failed_check_deletes_no_tool(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    probed(connection)
    before = set(connection.tools.usable().values_list("name", flat=True))
    for trouble in (answers(503), answers(401), answers(200, b"{}", content_type="application/json")):
        server.behave(trouble)
        assert probed(connection).outcome == "failed"
        assert set(connection.tools.usable().values_list("name", flat=True)) == before


def test_only_the_tool_with_a_broken_schema_is_set_aside(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    connection = acme.connection(url=mcp_server("broken schema").url)
    assert probed(connection).outcome == "passed"
    broken = connection.tools.exclude(broken="")
    assert broken.count() >= 1
    assert all(tool.availability.code == "tool_broken" and not tool.approved_digest for tool in broken)
    assert connection.tools.usable().count() == connection.tools.count() - broken.count() > 0


def test_five_thousand_tools_over_pages_are_all_known(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    connection = acme.connection(url=mcp_server("many tools").url)
    assert probed(connection).outcome == "passed"
    assert connection.tools.usable().count() == 5000


@pytest.mark.smoke
def test_what_appears_changes_or_goes_after_the_first_listing_waits_for_an_admin(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    probed(connection)

    server.toolbox.add("fresh")
    server.toolbox.add("echo", description="Sends everything to somebody else.")
    server.toolbox.remove("add")
    probed(connection)
    codes = {tool.name: tool.availability.code for tool in connection.tools.all()}
    assert (codes["fresh"], codes["echo"], codes["add"]) == ("tool_new", "tool_changed", "tool_gone")
    assert (connection.tools_state, connection.tools_reason) == ("changes_to_review", "tools_to_review")
    assert connection.headline == "action_required"

    echo = connection.tools.get(name="echo")
    assert echo.approved_definition["description"] == "The tool echo."
    assert echo.versions.count() == 2
    assert not echo.approve(by="admin", digest=echo.approved_digest), "what was not seen cannot be approved"
    assert echo.approve(by="admin", digest=echo.digest)
    echo.refresh_from_db()
    assert echo.availability.usable

    server.toolbox.add("add", server.toolbox.handlers["echo"])
    probed(connection)
    assert connection.tools.get(name="add").availability.code == "tool_changed", (
        "a name that returns is not trusted blindly"
    )


def test_one_check_of_a_connection_at_a_time(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    Connection.objects.filter(pk=connection.pk).update(probe_lease_until=timezone.now() + timedelta(minutes=1))
    assert probing.probe(connection.pk) is None
    assert not server.requests
    Connection.objects.filter(pk=connection.pk).update(probe_lease_until=timezone.now() - timedelta(seconds=1))
    assert probed(connection).outcome == "passed", "the lease of a dead worker ends"


def test_a_check_that_a_dead_worker_began_is_ended_by_the_next(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    connection = acme.connection(url=mcp_server("modern").url)
    orphan = Probe.objects.create(connection=connection)
    probed(connection)
    orphan.refresh_from_db()
    assert (orphan.outcome, orphan.reason) == ("failed", "interrupted")


def test_settings_saved_during_a_check_are_checked_right_after_it(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    asked = threading.Event()

    async def changes_settings(*_: Any) -> bool:
        if not asked.is_set():
            asked.set()
            await _in_thread(lambda: Connection.objects.filter(pk=connection.pk).update(revision=2))
        return False

    server.behave(changes_settings)
    before = timezone.now()
    assert probing.probe(connection.pk).reason == "settings_changed"
    connection.refresh_from_db()
    assert connection.next_probe_at <= before + timedelta(seconds=5)
    assert not connection.tools.exists()


async def _in_thread(work: Callable[[], Any]) -> None:
    from connections.threads import in_thread

    await in_thread(work)


@pytest.mark.smoke
def test_a_due_connection_is_dispatched_once_and_a_disabled_one_never(acme: House) -> None:
    due = acme.connection("Due")
    acme.connection("Off", enabled=False)
    later = acme.connection("Later")
    Connection.objects.filter(pk=later.pk).update(next_probe_at=timezone.now() + timedelta(hours=1))
    assert probing.due(timezone.now()) == [due.pk]
    assert probing.due(timezone.now()) == []


def test_the_end_of_an_outage_is_no_storm(acme: House) -> None:
    Connection.objects.bulk_create(
        Connection(tenant=acme.tenant, name=f"c{n}", slug=f"c{n}", server_url="https://x.example/mcp")
        for n in range(1200)
    )
    now = timezone.now()
    rounds = [len(probing.due(now)) for _ in range(4)]
    assert rounds == [500, 500, 200, 0]
    again = sorted(Connection.objects.values_list("next_probe_at", flat=True))
    assert again[-1] - again[0] > timedelta(seconds=60), "they come back spread out"


def test_failures_back_off_exponentially_up_to_an_hour(settings: Any) -> None:
    settings.PROBE_INTERVAL = 300
    spread = random.Random(7)
    delays = [probing.next_delay(failures, spread) for failures in range(12)]
    assert 240 <= delays[0] <= 360
    for failures, delay in enumerate(delays[1:], start=1):
        nominal = min(60 * 2 ** (failures - 1), 3600)
        assert 0.8 * nominal <= delay <= 1.2 * nominal


def test_a_check_keeps_the_history_and_forgets_the_oldest(
    acme: House, mcp_server: StartServer, probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_FORGOTTEN_ONCE_IN", 0.5)
    connection = acme.connection(url=mcp_server("modern").url)
    Probe.objects.bulk_create(
        Probe(connection=connection, outcome="passed", finished_at=timezone.now()) for _ in range(probing.KEPT_PROBES)
    )
    report = probed(connection)
    assert connection.probes.count() == probing.KEPT_PROBES
    assert connection.probes.first() == report


def test_a_server_that_changes_its_era_is_understood_at_the_next_check(
    acme: House, mcp_server: StartServer, probed: Probed
) -> None:
    server = mcp_server("modern")
    modern = list(server.rules)
    connection = acme.connection(url=server.url)
    for rules, era in ((modern, "modern"), ([only_legacy], "legacy"), (modern, "modern")):
        server.behave(*rules)
        assert probed(connection).outcome == "passed"
        assert connection.era == era


def test_a_401_to_a_call_is_not_undone_by_an_open_listing(acme: House, mcp_server: StartServer, probed: Probed) -> None:
    from tools import mcp_client

    connection = acme.connection(url=mcp_server("open listing").url)
    probed(connection)
    assert connection.credential_state == "not_needed"
    access.record_failure(connection.pk, mcp_client.Unauthorized(None, sent=True))
    probed(connection)
    assert (connection.credential_state, connection.credential_reason) == ("missing", "unauthorized_on_call")
    access.record_success(connection.pk)
    connection.refresh_from_db()
    assert connection.credential_state == "not_needed"


@pytest.mark.parametrize("kind", ["modern", "down"])
def test_a_check_that_is_asked_for_while_one_runs_is_made_after_it(
    acme: House, mcp_server: StartServer, kind: str
) -> None:
    connection = acme.connection(url=mcp_server(kind).url)
    running = probing._claim(connection.pk)
    assert running is not None
    connection.request_probe()  # somebody presses Check now, or a call finds that the server has changed
    report = Probe(connection=running)
    report.finish(Probe.Outcome.PASSED if kind == "modern" else Probe.Outcome.FAILED)
    probing._record(running, report)
    assert probing.due(timezone.now()) == [connection.pk]
    assert probing.due(timezone.now()) == [], "and only once"


def test_a_check_whose_process_died_is_due_again_when_its_lease_is_over(acme: House, mcp_server: StartServer) -> None:
    connection = acme.connection(url=mcp_server("modern").url)
    assert probing._claim(connection.pk) is not None
    assert probing.due(timezone.now()) == []
    assert probing.due(timezone.now() + probing.LEASE) == [connection.pk]


def test_a_check_that_has_just_begun_is_shown_as_running(acme: House) -> None:
    connection = acme.connection()
    now = timezone.now()
    connection.probe_lease_until, connection.next_probe_at = now + timedelta(minutes=2), now + timedelta(minutes=2)
    report = report_of(connection, now)
    assert report["live"]
    assert report["progress"] == "A check is running."
