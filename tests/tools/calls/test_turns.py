"""Whose queued call a worker makes next: a tenant's share of its slots is bounded, whatever the tenant queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from connections.models import Connection
from tests.conftest import House
from tests.processes import StartWorker
from tests.servers import kinds
from tests.servers.running import McpServer
from tests.tools.conftest import Shop, eventually
from tools.calls import turns
from tools.calls.turns import Turns, allocate
from tools.models import Call, Probe
from tools.models.call_states import CallState

PLACES = 8  # of the workers that these tests start
KEEP = timedelta(minutes=1)
A, B, C = (UUID(int=number) for number in (1, 2, 3))


# --- slots, shared out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "held", "slots", "given_out"),
    [
        ([A], {}, 64, {A: 32}),
        ([A, B], {}, 63, {A: 21, B: 21}),
        ([A], {A: 32}, 64, {}),
        ([A, B], {A: 32}, 64, {B: 16}),
        ([A, B, C], {A: 4}, 8, {B: 2, C: 1}),
        ([A], {}, 1, {A: 1}),
        ([A, B], {}, 1, {A: 1}),
        ([A], {B: 1}, 1, {}),
        ([], {}, 8, {}),
    ],
)
def test_nobody_gets_more_than_is_left_for_the_others(
    waiting: list[UUID], held: dict[UUID, int], slots: int, given_out: dict[UUID, int]
) -> None:
    assert allocate(waiting, held, slots) == Counter(given_out)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(1, 64))
def test_however_many_come_who_holds_fewest_is_never_behind(counts: list[int], slots: int) -> None:
    held, free = dict[UUID, int](), slots
    for number, count in enumerate(counts):
        held[UUID(int=number)] = min(count, free)
        free -= held[UUID(int=number)]
    waiting = list(held)
    given_out = allocate(waiting, held, slots)
    assert given_out.total() <= free
    after = {tenant: held[tenant] + given_out[tenant] for tenant in waiting}
    left = free - given_out.total()
    assert min(after.values()) >= left, "whoever may have another place has got it"
    served = [after[tenant] for tenant in given_out]
    assert not served or max(served) <= min(after.values()) + 1


# --- rows -----------------------------------------------------------------------------------------------------------


def queue(house: House, count: int, *, due: float = -1) -> list[UUID]:
    """Leave so many calls in the queue, due this many seconds from now, in this order."""
    now = timezone.now() + timedelta(seconds=due)
    rows = [
        Call(tenant=house.tenant, tool_name="x", sealed_arguments="x", lease_until=now + timedelta(milliseconds=number))
        for number in range(count)
    ]
    Call.objects.bulk_create(rows)
    return [row.pk for row in rows]


@pytest.mark.smoke
@pytest.mark.django_db
def test_acmes_one_call_is_taken_before_rivals_hundred(acme: House, rival: House) -> None:
    theirs = queue(rival, 100, due=-60)
    [mine] = queue(acme, 1)
    now = timezone.now()
    worker = Turns(8)
    taken = worker.take({}, now, KEEP)
    assert mine in [call.pk for call in taken]
    assert [call.pk for call in taken if call.tenant_id == rival.tenant.pk] == theirs[: len(taken) - 1], "oldest first"
    assert len(taken) < 8, "who comes next finds a place"
    [second] = queue(acme, 1)
    assert worker.take(Counter(call.tenant_id for call in taken), now, KEEP)[0].pk == second


@pytest.mark.smoke
@pytest.mark.django_db
def test_a_worker_with_one_place_serves_everybody_in_turn(acme: House, rival: House) -> None:
    queue(rival, 5, due=-60)
    queue(acme, 5)
    worker = Turns(1)
    served = [worker.take({}, timezone.now(), KEEP)[0].tenant_id for _ in range(6)]
    assert Counter(served) == {acme.tenant.pk: 3, rival.tenant.pk: 3}
    assert all(first != second for first, second in pairwise(served))


@pytest.mark.smoke
@pytest.mark.django_db
def test_what_one_worker_has_taken_no_other_takes_until_it_counts_as_lost(acme: House) -> None:
    queue(acme, 3)
    queue(acme, 1, due=30)
    now = timezone.now()
    first = Turns(64).take({}, now, KEEP)
    assert len(first) == 3, "what is put off is not due"
    assert Turns(64).take({}, now, KEEP) == []
    assert set(Call.objects.values_list("state", flat=True)) == {CallState.QUEUED}
    again = Turns(64).take({}, now + KEEP, KEEP)
    assert len(again) == 4, "its worker died before it began"


@pytest.mark.smoke
@pytest.mark.django_db
def test_places_of_who_has_no_more_go_to_the_others(acme: House, rival: House) -> None:
    queue(acme, 1)
    queue(rival, 30)
    taken = Counter(call.tenant_id for call in Turns(30).take({}, timezone.now(), KEEP))
    assert taken == {acme.tenant.pk: 1, rival.tenant.pk: 15}


def test_a_long_queue_costs_no_more_than_a_short_one(acme: House, rival: House) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("The plan is PostgreSQL's.")
    queue(rival, 3000)
    queue(acme, 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tools_call")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {turns._WAITING}", [timezone.now()])
        [[[plan]]] = cursor.fetchall()

    def read(node: dict[str, Any]) -> float:
        below = sum(read(child) for child in node.get("Plans", ()))
        return below or node["Actual Rows"] * node["Actual Loops"]

    assert read(plan["Plan"]) < 20, "it goes from organization to organization"


# --- the attack -----------------------------------------------------------------------------------------------------


def test_forty_calls_of_rival_that_never_end_leave_acmes_calls_as_they_are(
    shop: Shop,
    rival: House,
    mcp_server: Callable[..., McpServer],
    probed: Callable[[Connection], Probe],
    start_worker: StartWorker,
) -> None:
    slow = mcp_server("modern")
    assert probed(rival.connection("Trickle", slow.url)).outcome == "passed"
    slow.behave(kinds.only_modern, kinds.only_on("tools/call", kinds.hangs))
    theirs = shop.api.as_(rival.token())
    later = {"headers": {"Prefer": "respond-async"}}
    for _ in range(40):
        assert theirs.call("trickle__echo", {"text": "x"}, **later).status_code == 202
    start_worker()
    eventually(lambda: slow.count("tools/call") >= PLACES // 2, "rival's share")
    mine = [shop.call("echo", {"text": str(number)}, **later).json()["id"] for number in range(10)]
    eventually(lambda: Call.objects.filter(pk__in=mine, state="succeeded").count() == 10, "acme's calls")
    assert slow.count("tools/call") == PLACES // 2, "and rival's share has not grown"
    assert Call.objects.filter(tenant=rival.tenant, state="running").count() == PLACES // 2


def test_a_row_that_nobody_told_of_is_found(shop: Shop, start_worker: StartWorker) -> None:
    tool = shop.connection.tools.get(name="echo")
    call = Call(
        tenant=shop.connection.tenant, assignment=shop.assignment, connection=shop.connection,
        tool=tool, tool_name="orders__echo", lease_until=timezone.now(),
        tool_digest=tool.approved_digest, server_url=shop.connection.server_url,
    )  # fmt: skip
    call.sealed_arguments = call.seal({"text": "x"})
    start_worker()
    first = Call.objects.create(
        tenant=shop.connection.tenant, tool_name="gone", sealed_arguments="x", lease_until=timezone.now()
    )
    eventually(lambda: Call.objects.filter(pk=first.pk, state="failed").exists(), "a worker at work")
    call.save()
    eventually(lambda: Call.objects.filter(pk=call.pk, state="succeeded").exists(), "its end")
