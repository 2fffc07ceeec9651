"""How many clients of one assignment follow calls: by streams of events, and by waiting. Over all processes."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Literal
from uuid import uuid4

import httpx2
import pytest

from tests.conftest import House
from tests.loopback import NO_TLS
from tests.tools.conftest import Shop, eventually
from tools.calls import limits
from tools.errors import LimitReached
from tools.models import Call

LATER = {"Prefer": "respond-async"}
WAITS = {"Prefer": "wait=30"}


def take_seats(shop: Shop, kind: str, many: int) -> None:
    """Follow as another process of the product does."""

    async def join() -> None:
        for _ in range(many):
            slot = limits.FollowerSlot(kind, shop.assignment.pk, shop.assignment.tenant_id)  # type: ignore[arg-type]
            await limits.acquire_follower(slot, lease=60)

    asyncio.run(join())


@pytest.fixture
def queued(shop: Shop) -> Call:
    """A call that nobody makes."""
    assert shop.call("echo", {"text": "x"}, headers=LATER).status_code == 202
    return shop.row


def test_an_assignment_has_fifty_streams_at_a_time_and_one_that_is_closed_makes_room(shop: Shop, queued: Call) -> None:
    take_seats(shop, "streams", 49)
    address = f"{shop.api.base}/v1/calls/{queued.pk}/events"
    headers = {"Authorization": f"Bearer {shop.api.token}"}
    with ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30))
        stream = stack.enter_context(client.stream("GET", address, headers=headers))
        assert stream.status_code == 200
        refused = shop.api.get(f"/v1/calls/{queued.pk}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "streams")
        assert refused.headers["retry-after"]

    def again() -> bool:
        with (
            httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30) as client,
            client.stream("GET", address, headers=headers) as it,
        ):
            return it.status_code == 200

    assert eventually(again, "a place")


def test_an_assignment_waits_for_two_hundred_calls_at_a_time(shop: Shop, queued: Call, acme: House) -> None:
    take_seats(shop, "waiters", 200)
    address = f"/v1/calls/{queued.pk}"
    refused = shop.api.get(address, headers=WAITS)
    assert (refused.status_code, refused.json()["code"]) == (429, "waiters")
    assert shop.api.get(address).status_code == 200
    shop.set_tool("echo", policy="ask")
    assert shop.call("echo", {"text": "y"}, headers=WAITS).status_code == 429
    assert Call.objects.count() == 1  # it was not made: whoever is refused may ask again
    assert shop.call("add", {"a": 1, "b": 2}, headers=WAITS).status_code == 200  # it is made here, and has its place
    other = shop.api.as_(acme.token(acme.assignment("Another")))
    assert other.call("orders__add", {"a": 1, "b": 2}, headers=WAITS).status_code == 200
    assert shop.api.post(f"{address}/cancel").json()["state"] == "cancelled"


async def test_a_seat_is_kept_by_taking_it_again_and_falls_free_when_it_is_not(broker: None) -> None:
    assignment, tenant = uuid4(), uuid4()
    seats = [limits.FollowerSlot("streams", assignment, tenant) for _ in range(50)]
    for seat in seats:
        await limits.acquire_follower(seat, lease=60)
    with pytest.raises(LimitReached):
        await limits.acquire_follower(limits.FollowerSlot("streams", assignment, tenant), lease=60)
    await limits.acquire_follower(seats[0], lease=0)
    await limits.acquire_follower(limits.FollowerSlot("streams", assignment, tenant), lease=60)


@pytest.mark.parametrize(("kind", "each", "most"), [("waiters", 200, 1_000), ("streams", 50, 500)])
async def test_many_assignments_do_not_give_rival_the_connections_of_everybody(
    broker: None, kind: Literal["waiters", "streams"], each: int, most: int
) -> None:
    rival, acme = uuid4(), uuid4()
    slots = []
    for _ in range(most // each):
        assignment = uuid4()
        slots += [limits.FollowerSlot(kind, assignment, rival) for _ in range(each)]
    await asyncio.gather(*(limits.acquire_follower(slot, lease=60) for slot in slots))
    with pytest.raises(LimitReached) as refusal:
        await limits.acquire_follower(limits.FollowerSlot(kind, uuid4(), rival), lease=60)
    assert refusal.value.code == f"organization_{kind}"
    await limits.acquire_follower(slots[0], lease=60)  # one that is taken again is no new one
    await limits.acquire_follower(limits.FollowerSlot(kind, uuid4(), acme), lease=60)
    limits.release_follower(slots[0])
    await limits.acquire_follower(limits.FollowerSlot(kind, uuid4(), rival), lease=60)
