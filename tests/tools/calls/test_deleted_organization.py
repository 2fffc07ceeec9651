"""An organization that staff delete: what runs for it is interrupted at once, and who waits is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import Client

from connections.models import Tenant, User
from tests.servers.toolbox import Result, Toolbox, schema, text
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.models import Call

SEATS = {"a long poll": "waiters", "a stream": "streams"}
SignedIn = Callable[[User | None], Client]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def seats(kind: str, shop: Shop) -> int:
    """How many follow a call of this shop's assignment."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        return int(client.zcard(f"duvo:limits:{kind}:{shop.assignment.pk}"))


@pytest.mark.parametrize("door", ["the call itself", "a long poll", "a stream"])
def test_what_runs_for_a_deleted_organization_ends_within_moments(
    open_shop: OpenShop, gate: threading.Event, superuser: User, signed_in: SignedIn, door: str
) -> None:
    ended = threading.Event()

    async def wait(_: dict[str, Any], __: Any) -> Result:
        try:
            while not gate.is_set():  # noqa: ASYNC110 - the gate is in another thread
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            ended.set()
            raise
        return text("late")

    box = Toolbox()
    box.add("wait", wait, input_schema=schema())
    shop = open_shop(box)
    with ThreadPoolExecutor(2) as pool:
        wanted = "wait=25" if door == "the call itself" else "wait=0"
        waiting = pool.submit(shop.call, "wait", headers={"Prefer": wanted})
        call = eventually(Call.objects.first, "the call")
        eventually(lambda: box.executions["wait"], "the tool runs")
        if door == "a long poll":
            waiting = pool.submit(shop.api.get, f"/v1/calls/{call.pk}", headers={"Prefer": "wait=25"})
        elif door == "a stream":
            waiting = pool.submit(shop.api.get, f"/v1/calls/{call.pk}/events")
        if door in SEATS:
            eventually(lambda: seats(SEATS[door], shop), "somebody waits")
        page = f"/admin/connections/tenant/{shop.connection.tenant_id}/delete/"
        assert signed_in(superuser).post(page, {"post": "yes"}).status_code == 302
        assert not Tenant.objects.exists()
        answer = waiting.result(20)
        assert answer.status_code == (200 if door == "a stream" else 401), answer.text
        assert ended.wait(15), "the server is told that nobody waits"
