"""How many pages there are at a time, and that pages of one organization keep neither calls nor others waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection as database
from django.test import Client

from connections.models import User
from duvo import pages
from duvo.pages import MOST_WAITING_ALIKE, Busy, Slots
from tests.conftest import House
from tests.live import Api
from tests.loopback import NO_TLS
from tests.tools.conftest import Shop, eventually
from tools.calls import limits

SignedIn = Callable[[User | None], Client]
MANY = 25
PAGE = "/admin/connections/auditevent/"


async def test_a_place_is_taken_until_it_is_given_back_and_who_waits_longest_is_next() -> None:
    slots, one = Slots(), {"all": 1}
    await slots.acquire(one, patience=0)
    second, third = (asyncio.ensure_future(slots.acquire(one, patience=30)) for _ in range(2))
    await asyncio.sleep(0)
    slots.release(one)
    await second
    assert not third.done()
    slots.release(one)
    await third


async def test_one_organization_has_its_share_and_another_is_let_in_past_those_that_wait() -> None:
    slots = Slots()
    for _ in range(2):
        await slots.acquire({"all": 5, "rival": 2}, patience=0)
    waiting = asyncio.ensure_future(slots.acquire({"all": 5, "rival": 2}, patience=30))
    await asyncio.sleep(0)
    await slots.acquire({"all": 5, "acme": 2}, patience=0)
    assert not waiting.done()
    with pytest.raises(Busy):
        await slots.acquire({"all": 5, "rival": 2}, patience=0)
    waiting.cancel()


async def test_who_stops_waiting_takes_no_place() -> None:
    slots, one = Slots(), {"all": 1}
    await slots.acquire(one, patience=0)
    gone = asyncio.ensure_future(slots.acquire(one, patience=30))
    await asyncio.sleep(0)
    slots.release(one)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await slots.acquire(one, patience=0)


@contextmanager
def held_up() -> Iterator[None]:
    """Have every page of audit events wait for its rows."""
    with psycopg.connect(**_address(), autocommit=False) as other:
        other.execute("LOCK TABLE connections_auditevent IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


def _address() -> dict[str, object]:
    known = database.settings_dict
    return {
        "dbname": known["NAME"], "user": known["USER"], "password": known["PASSWORD"], "host": known["HOST"],
        "port": known["PORT"] or None,
    }  # fmt: skip


class Browsers:
    """Open pages of one person, all at once, each in a thread."""

    def __init__(self, base: str, client: Client) -> None:
        self.cookies = {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}
        self.base, self.answers, self.threads = base, list[httpx2.Response](), list[threading.Thread]()

    def get(self, path: str) -> httpx2.Response:
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60, cookies=self.cookies) as client:
            return client.get(f"{self.base}{path}")

    def open(self, many: int) -> None:
        def one() -> None:
            self.answers.append(self.get(PAGE))

        self.threads = [threading.Thread(target=one) for _ in range(many)]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        for thread in self.threads:
            thread.join(timeout=60)


@pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite has no rows to wait for.")
def test_pages_that_one_organization_keeps_busy_stop_neither_calls_nor_pages_of_another(
    shop: Shop, acme: House, rival: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PATIENCE", 2.0)
    theirs = Browsers(shop.api.base, signed_in(rival.admin))
    ours = Browsers(shop.api.base, signed_in(acme.admin))
    assert (theirs.get(PAGE).status_code, ours.get(PAGE).status_code) == (200, 200)
    with held_up():
        theirs.open(MANY)
        refused = eventually(lambda: [answer for answer in theirs.answers if answer.status_code == 503], "busy")
        assert "Too much is asked at this moment" in refused[0].text
        assert refused[0].headers["retry-after"] == "2"
        assert shop.call("echo", {"text": "still here"}).status_code == 200
        assert ours.get("/admin/").status_code == 200
        assert shop.api.get("/v1/tools").status_code == 200
    theirs.close()
    assert {answer.status_code for answer in theirs.answers} == {200, 503}
    assert theirs.get(PAGE).status_code == 200


def test_an_organization_changes_what_it_has_set_up_at_a_bounded_pace(shop: Shop, acme: House, rival: House) -> None:
    in_a_minute = (time.time() + 60) * 1_000_000
    with redis.Redis.from_url(settings.REDIS_URL) as client:  # as after 300 changes at that moment
        client.set(f"duvo:limits:changes:{acme.tenant.pk}", f"0 {in_a_minute:.0f}", ex=60)
    api, address = shop.api.as_(acme.member_token(acme.admin)), f"/v1/connections/{shop.connection.pk}"
    refused = api.request("PATCH", address, json={"name": "Other"})
    assert (refused.status_code, refused.json()["code"]) == (429, "changes")
    assert refused.headers["retry-after"]
    assert api.get(address).json()["name"] == "Orders"
    theirs = shop.api.as_(rival.member_token(rival.admin))
    assert theirs.post("/v1/connections", {"name": "x", "server_url": "no"}).status_code == 422


@pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite has no rows to wait for.")
def test_a_client_that_hangs_up_keeps_its_place_as_long_as_its_page_is_at_work(
    shop: Shop, rival: House, signed_in: SignedIn
) -> None:
    theirs = Browsers(shop.api.base, signed_in(rival.admin))
    assert theirs.get(PAGE).status_code == 200
    with held_up():
        for _ in range(MANY):
            with (
                pytest.raises(httpx2.TimeoutException),
                httpx2.Client(trust_env=False, verify=NO_TLS, cookies=theirs.cookies) as client,
            ):
                client.get(f"{theirs.base}{PAGE}", timeout=0.1)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with database.cursor() as cursor:
            cursor.execute(waiting)
            assert cursor.fetchone()[0] <= 4
        assert shop.call("echo", {"text": "still here"}).status_code == 200
    assert eventually(lambda: theirs.get(PAGE).status_code == 200, "the slots are free again")


async def test_who_waits_for_a_place_refuses_no_other_organization_one() -> None:
    slots = Slots()
    await slots.acquire({"all": 10, "rival": 1}, patience=1)
    rivals = [
        asyncio.ensure_future(slots.acquire({"all": 10, "rival": 1}, patience=30))
        for _ in range(MOST_WAITING_ALIKE + 40)
    ]
    await asyncio.sleep(0)
    await slots.acquire({"all": 10, "acme": 1}, patience=1)
    second = asyncio.ensure_future(slots.acquire({"all": 10, "acme": 1}, patience=30))
    await asyncio.sleep(0)
    assert not second.done(), "it waits, as if nobody else did"
    refused = [one for one in rivals if one.done()]
    assert len(refused) == 40
    assert all(isinstance(one.exception(), Busy) for one in refused)
    slots.release({"all": 10, "acme": 1})
    await second
    for one in rivals:
        one.cancel()
    await asyncio.gather(*rivals, return_exceptions=True)


async def test_a_place_that_is_given_as_the_patience_ends_is_not_lost() -> None:
    for _ in range(20):
        slots, bounds = Slots(), {"all": 1, "acme": 1}
        await slots.acquire(bounds, patience=1)
        waiting = asyncio.ensure_future(slots.acquire(bounds, patience=0.01))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, slots.release, bounds)
        try:
            await waiting
        except Busy:
            pass
        else:
            slots.release(bounds)
        await asyncio.sleep(0.005)
        await slots.acquire(bounds, patience=1)


@pytest.mark.parametrize("who", ["assignment", "member"])
def test_the_changes_of_an_organization_are_not_used_up_by_who_may_change_nothing(
    api: Api, acme: House, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def change(tenant_id: object) -> None:
        asked.append(tenant_id)

    monkeypatch.setattr(limits, "change", change)
    token = acme.token() if who == "assignment" else acme.member_token(acme.member)
    assert api.as_(token).post("/v1/connections", {"name": "x"}).status_code == 403
    assert asked == []
    assert api.as_(acme.member_token(acme.admin)).post("/v1/connections", {"name": "x"}).status_code == 422
    assert asked == [acme.tenant.pk]
