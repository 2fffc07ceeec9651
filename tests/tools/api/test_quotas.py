"""How much an organization may have: connections, assignments, tokens, open calls, bytes. Staff set it, all see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection as database
from django.db import connections
from django.test import Client
from django.utils import timezone

from connections.models import Connection, Tenant, User
from connections.quotas import QuotaReached
from tests.conftest import House
from tests.live import Api
from tests.servers.running import McpServer
from tests.tools.conftest import Shop
from tools import tasks
from tools.calls import offers, usage
from tools.models import AccessToken, Assignment, Call, Probe, Tool, assignments

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LATER = {"Prefer": "respond-async"}
NEW = {"name": "Orders", "server_url": "https://mcp.example.com/mcp"}


def allow(house: House, **most: int) -> None:
    Tenant.objects.filter(pk=house.tenant.pk).update(**most)


def page(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/change/"


@pytest.fixture(autouse=True)
def _no_counts() -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete(usage.OPEN)


def test_a_program_may_add_no_more_connections_than_its_organization_may_have(api: Api, acme: House) -> None:
    allow(acme, max_connections=1)
    acme.connection("First")
    refused = api.as_(acme.member_token(acme.admin)).post("/v1/connections", NEW)
    assert (refused.status_code, refused.json()["code"]) == (403, "quota_reached")
    assert "reached its quota of 1 connections" in refused.json()["detail"]
    assert Connection.objects.count() == 1


def test_the_pages_say_that_a_quota_is_reached(acme: House, rival: House, signed_in: SignedIn) -> None:
    allow(acme, max_connections=1, max_assignments=1, max_tokens=0)
    acme.connection("First")
    assignment, client = acme.assignment(), signed_in(acme.admin)
    added = client.post("/admin/connections/connection/add/", {**NEW, "authorization": "none", "enabled": "on"})
    assert "has reached its quota of" in added.content.decode()
    added = client.post("/admin/tools/assignment/add/", {"name": "Second", "scope": "all", "enabled": "on"})
    assert "has reached its quota of" in added.content.decode()
    for path in (f"/admin/tools/assignment/{assignment.pk}/tokens/", "/admin/tools/accesstoken/add/"):
        membership = acme.membership(acme.admin).pk
        answer = client.post(path, {"label": "", "membership": membership}, follow=True)
        assert "has reached its quota of" in answer.content.decode()
    assert (Connection.objects.count(), Assignment.objects.count(), AccessToken.objects.count()) == (1, 1, 0)
    theirs = signed_in(rival.admin).post("/admin/tools/assignment/add/", {"name": "x", "scope": "all"})
    assert theirs.status_code == 302


def test_tokens_that_open_nothing_make_room_for_new_ones(acme: House) -> None:
    allow(acme, max_tokens=2)
    assignment = acme.assignment()
    first, _ = AccessToken.issue(assignment=assignment)
    AccessToken.issue(membership=acme.membership(acme.admin))
    with pytest.raises(QuotaReached):
        AccessToken.issue(assignment=assignment)
    first.revoke()
    AccessToken.issue(assignment=assignment)
    assert not AccessToken.objects.filter(pk=first.pk).exists()


@pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite lets one write at a time anyway.")
def test_a_member_takes_no_more_tokens_than_leave_colleagues_theirs(
    acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "MOST_OF_A_PERSON", 3)
    allow(acme, max_tokens=5)
    mine = acme.membership(acme.member)
    member, form = signed_in(acme.member), {"membership": str(mine.pk), "label": "Script"}
    for _ in range(3):
        assert "Copy this token now" in member.post("/admin/tools/accesstoken/add/", form).content.decode()
    assert "at most 3 API tokens" in member.post("/admin/tools/accesstoken/add/", form).content.decode()
    assert acme.member_token(acme.admin)
    assert acme.token()
    mine.access_tokens.first().revoke()
    assert "at most 3" not in member.post("/admin/tools/accesstoken/add/", form).content.decode()


def test_a_token_that_is_forgotten_ends_no_less_than_one_that_is_kept(
    shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    shop.set_tool("echo", policy="ask")
    assert shop.call("echo", {"text": "x"}, headers={"Prefer": "wait=0"}).status_code == 202
    allow(acme, max_tokens=1)
    AccessToken.objects.update(expires_at=timezone.now())  # and nobody has swept since
    with pytest.raises(QuotaReached):
        acme.token(shop.assignment)
    assert AccessToken.objects.count() == 1, "how it ended is still to be known"
    AccessToken.objects.all().delete()  # as before this was seen to
    heard = shop.server.count("tools/call")
    signed_in(acme.admin).post(f"/admin/tools/call/{shop.row.pk}/approve/")
    row = shop.row
    assert (row.state, row.error_code, shop.server.count("tools/call")) == ("failed", "asker_gone", heard)
    assert "revoked or has expired" in row.error_sentence
    assert acme.token(shop.assignment)


def test_of_many_who_want_the_last_token_one_gets_it(acme: House, transactional_db: None) -> None:
    allow(acme, max_tokens=1)
    assignment, refused = acme.assignment(), list[bool]()
    together = threading.Barrier(5)

    def ask() -> None:
        together.wait()
        try:
            AccessToken.issue(assignment=assignment)
        except QuotaReached:
            refused.append(True)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (len(refused), AccessToken.objects.count()) == (4, 1)


def test_an_organization_with_as_many_open_calls_as_it_may_queues_no_more(shop: Shop, acme: House) -> None:
    allow(acme, max_open_calls=3)
    tasks.count_open_calls()
    answers = [shop.call("echo", {"text": "x"}, headers=LATER) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert answers[-1].json()["code"] == "quota_reached"
    assert answers[-1].headers["retry-after"]
    assert Call.objects.count() == 3
    Call.objects.all().end("cancelled", "cancelled", "x", Call.objects.first().created_at)  # type: ignore[union-attr]
    tasks.count_open_calls()
    assert shop.call("echo", {"text": "x"}, headers=LATER).status_code == 202


def test_an_organization_that_stores_as_much_as_it_may_makes_no_more_calls_until_something_is_gone(
    shop: Shop, acme: House, probed: Callable[[Connection], Probe]
) -> None:
    assert shop.call("echo", {"text": "x" * 1_500_000}).status_code == 200
    tasks.purge_calls()
    size = Tenant.objects.get(pk=acme.tenant.pk).stored_bytes
    assert size > 3_000_000  # arguments and result
    allow(acme, max_stored=size // 1_000_000 + 1)
    offers.forget()
    assert shop.call("echo", {"text": "x" * 1_500_000}).status_code == 200
    refused = shop.call("echo", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_reached")
    tasks.purge_calls()
    shop.server.toolbox.add("newcomer")
    assert probed(shop.connection).reason == "quota_reached"
    assert not Tool.objects.filter(name="newcomer").exists()
    Call.objects.all().delete()
    tasks.purge_calls()
    offers.forget()
    assert shop.call("echo", {"text": "x"}).status_code == 200


def test_everybody_of_an_organization_sees_its_quotas_and_only_staff_change_them(
    api: Api, acme: House, signed_in: SignedIn, superuser: User
) -> None:
    acme.connection()
    tasks.count_open_calls()
    for person in (acme.admin, acme.member, acme.auditor, superuser):
        shown = signed_in(person).get(page(acme)).content.decode()
        assert "<dt>Connections</dt><dd>1 of 200</dd>" in shown
        assert "<dt>Open calls</dt><dd>0 of 10000</dd>" in shown
    told = api.as_(acme.member_token(acme.member)).get("/v1/quotas").json()["quotas"]
    assert told[0] == {"name": "connections", "used": 1, "most": 200}
    assert [quota["name"] for quota in told][3:] == ["open_calls", "stored_megabytes"]
    kept: dict[str, Any] = {"name": "acme", "webhook_url": "", "retention_days": "30", "decision_hours": "24"}
    more = {**kept, "max_concurrency": "1000", "max_connections": "300"}
    for person, most in ((acme.admin, 200), (superuser, 300)):
        assert signed_in(person).post(page(acme), more).status_code == 302
        assert Tenant.objects.get(pk=acme.tenant.pk).max_connections == most


def test_what_nobody_counts_is_not_bounded(shop: Shop, acme: House, mcp_server: Callable[..., McpServer]) -> None:
    allow(acme, max_open_calls=1)
    assert [shop.call("echo", {"text": "x"}, headers=LATER).status_code for _ in range(3)] == [202] * 3
