"""Pages, API and housekeeping read of the tables that grow without end only what they show or move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, User
from tests.conftest import House
from tests.copies import repeated
from tests.plans import most_read
from tools import tasks
from tools.calls import idempotency, retention
from tools.models import Assignment, Call, Probe, Tool

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite plans by other rules."),
]

SignedIn = Callable[[User | None], Client]
MANY = 3_000  # calls, checks and events of each organization, one a minute
TIMES = 10  # that what they are comes again
RARE = 39  # the number of a tool that was called once
PART = timedelta(minutes=MANY // TIMES)
FEW = 300  # rows that a page with 50 of them, or a task with nothing to do, may read of one table


class Crowd:
    """Two organizations with many rows, of which few are anything special."""

    def __init__(self, *houses: House) -> None:
        self.now = timezone.now()
        self.connections: list[Connection] = []
        self.assignments: list[Assignment] = []
        self.tools: list[Tool] = []
        for house in houses:
            self._fill(house)
        with database.cursor() as cursor:
            cursor.execute("ANALYZE")

    def _fill(self, house: House) -> None:
        assignment = house.assignment()
        made = [house.connection(f"Server {number}") for number in range(20)]
        tools = Tool.objects.bulk_create(
            Tool(
                connection=connection, name=f"t{number}", public_name=f"{connection.slug}__t{number}", definition={},
                digest="d", approved_digest="d", approved_definition={}, approved_at=self.now,
            )
            for connection in made
            for number in range(20)
        )  # fmt: skip
        moments = list(self._moments())
        calls = [self._call(house, assignment, tools, number, at) for number, at in moments]
        repeated(calls, TIMES, ["created_at", "started_at", "finished_at"], PART)
        rare = tools[RARE]  # one call among thousands
        Call.objects.filter(pk=calls[7].pk).update(tool=rare, connection=rare.connection, tool_name=rare.public_name)
        repeated(
            [
                Probe(connection=made[number % 20], outcome="passed", started_at=at, finished_at=at)
                for number, at in moments
            ],
            TIMES, ["started_at", "finished_at"], PART,
        )  # fmt: skip
        repeated(
            [
                AuditEvent(
                    tenant=house.tenant, at=at, actor="ann" if number else "zoe", action="connection.changed",
                    object_type="connection", object_id=str(made[number % 20].pk), object_label="x",
                )
                for number, at in moments
            ],
            TIMES, ["at"], PART,
        )  # fmt: skip
        self.connections += made
        self.assignments.append(assignment)
        self.tools += tools

    def _moments(self) -> Iterator[tuple[int, Any]]:
        yield from ((number, self.now - PART + timedelta(minutes=number)) for number in range(MANY // TIMES))

    def _call(self, house: House, assignment: Assignment, tools: list[Tool], number: int, at: Any) -> Call:
        failed, tool = number == 0, tools[number % 2 if number % 10 else number // 10]
        return Call(
            tenant=house.tenant, assignment=assignment, connection=tool.connection, tool=tool,
            tool_name=tool.public_name, state="failed" if failed else "succeeded", error_code="x" if failed else "",
            sealed_arguments="x", sealed_result="" if failed else "x", created_at=at, started_at=at,
            finished_at=at + timedelta(seconds=1),
        )  # fmt: skip


@pytest.fixture
def crowd(acme: House, rival: House) -> Crowd:
    return Crowd(acme, rival)


def test_pages_read_what_they_show(crowd: Crowd, acme: House, superuser: User, signed_in: SignedIn) -> None:
    reviewer = User.objects.create_user("reviewer@duvo.example", is_reviewer=True)
    connection, assignment = crowd.connections[0].pk, crowd.assignments[0].pk
    calls, events = "/admin/tools/call/", "/admin/connections/auditevent/"
    of_all = [
        calls, f"{calls}?p=2", f"{calls}?state__exact=succeeded", f"{calls}?state__exact=failed",
        f"{calls}?state__exact=timed_out", f"{calls}?state__exact=queued", f"{calls}?state__exact=running",
        f"{calls}?state__exact=awaiting_approval", f"{calls}?state__exact=input_required",
        f"{calls}?connection__id__exact={connection}", f"{calls}?assignment__id__exact={assignment}",
        f"{calls}?assignment__id__exact={assignment}&state__exact=failed",
        "/admin/tools/probe/", f"/admin/tools/probe/?connection__id__exact={connection}",
        "/admin/tools/probe/?outcome__exact=running", "/admin/tools/probe/?outcome__exact=failed",
        events, f"{events}?p=2",
    ]  # fmt: skip
    of_superuser = [f"{calls}?organization={acme.tenant.pk}&state__exact=failed"]
    for user, addresses in (
        (acme.admin, of_all),
        (superuser, [*of_all, *of_superuser]),
        (reviewer, ["/admin/tools/probe/"]),
    ):
        client = signed_in(user)
        for address in addresses:
            answers: list[Any] = []
            read, sql = most_read(lambda: answers.append(client.get(address)))  # noqa: B023 - it is called at once
            assert answers[0].status_code == 200, address
            assert read < FEW, (user, address, read, sql)


def test_the_api_reads_what_it_shows(crowd: Crowd, acme: House) -> None:
    token, member = acme.token(crowd.assignments[0]), acme.member_token(acme.admin)
    rare = crowd.tools[RARE].public_name
    connection = crowd.connections[0].pk
    for address, bearer in (
        ("/v1/calls", token), ("/v1/calls?state=succeeded", token), ("/v1/calls?state=failed", token),
        ("/v1/calls?state=timed_out", token), ("/v1/calls?state=running", token), (f"/v1/calls?tool={rare}", token),
        ("/v1/calls?tool=nobodys", token), ("/v1/audit-events", member),
        (f"/v1/audit-events?object_id={connection}", member),
    ):  # fmt: skip
        answers: list[Any] = []
        headers = {"Authorization": f"Bearer {bearer}"}
        read, sql = most_read(lambda: answers.append(Client().get(address, headers=headers)))  # noqa: B023 - as above
        assert answers[0].status_code == 200, address
        assert read < FEW, (address, read, sql)


def test_calls_of_a_deleted_tool_are_found_by_its_name(crowd: Crowd, acme: House) -> None:
    gone, headers = crowd.tools[RARE], {"Authorization": f"Bearer {acme.token(crowd.assignments[0])}"}
    Tool.objects.filter(pk=gone.pk).delete()
    answers: list[Any] = []
    read, sql = most_read(lambda: answers.append(Client().get(f"/v1/calls?tool={gone.public_name}", headers=headers)))
    assert [call["tool"] for call in answers[0].json()["results"]] == [gone.public_name]
    assert read < FEW, (read, sql)


@pytest.mark.parametrize(
    "task",
    ["sweep_calls", "dispatch_task_polls", "dispatch_session_ends", "count_open_calls", "dispatch_bulletins"],
)
def test_housekeeping_reads_nothing_that_has_ended(crowd: Crowd, task: str) -> None:
    read, sql = most_read(getattr(tasks, task).run, ("tools_call",))
    assert read < FEW, (read, sql)


def test_keys_are_released_without_a_look_at_other_calls(crowd: Crowd, acme: House) -> None:
    Call.objects.filter(pk__in=Call.objects.values("pk")[:200]).update(idempotency_key="")
    read, sql = most_read(lambda: idempotency.forget(crowd.now), ("tools_call",))
    assert read < 10, (read, sql)


def test_a_purge_reads_the_oldest_calls_alone(crowd: Crowd, acme: House) -> None:
    before = crowd.now - timedelta(minutes=MANY - 100)
    read, sql = most_read(lambda: retention._purge_batch(acme.tenant, before, 500), ("tools_call",))
    assert read < FEW, (read, sql)
    assert acme.tenant.calls.count() == MANY - 100
