"""Who is to connect finds it in their inbox, once, however many calls wait for it, until it is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from connections.models import Membership, Notice, User
from tests.conftest import House
from tests.live import Api
from tests.tools.calls.test_logins import ask, calls, half_connected
from tests.tools.calls.test_personal_keys import BOB, Team
from tools.calls import life
from tools.models import Assignment

SignedIn = Callable[[User | None], Client]


@pytest.fixture
def team(api: Api, acme: House, mcp_server: Any, signed_in: SignedIn, probed: Any) -> Team:
    return half_connected(Team(acme, mcp_server("modern"), api, signed_in, probed))


def inbox(team: Team, user: User, query: str = "") -> str:
    answer = team.signed_in(User.objects.get(pk=user.pk)).get(f"/admin/inbox/{query}")
    assert answer.status_code == 200
    return " ".join(unescape(answer.content.decode()).split())


def number(team: Team, user: User) -> int:
    return int(team.signed_in(User.objects.get(pk=user.pk)).get("/admin/inbox/count/").json()["count"])


def test_many_calls_are_one_thing_of_their_owner_until_it_is_done(team: Team, rival: House) -> None:
    for _ in range(3):
        ask(team)
    page = inbox(team, team.bob)
    assert "3 calls of Of Bob wait until you have connected, and are made then." in page
    assert f'href="/admin/connections/connection/{team.row.pk}/connect/"' in page
    assert "Take" not in page
    assert number(team, team.bob) == 1
    assert number(team, team.ada) == 0
    for user in (team.ada, team.house.auditor, rival.admin):
        assert "wait until you have connected" not in inbox(team, user)
    assert "until you have connected" in inbox(team, team.bob, "?kind=login")
    assert "until you have connected" in team.signed_in(team.bob).get("/admin/").content.decode()
    team.connect(team.bob, BOB)
    assert number(team, team.bob) == 0


def test_calls_of_several_assignments_are_counted_together(team: Team) -> None:
    other = Assignment.objects.create(tenant=team.house.tenant, name="Of Bob, too", owner=team.bob)
    ask(team)
    ask(team, other)
    assert "2 calls of 2 of your assignments wait until you have connected" in inbox(team, team.bob)
    life.cancel(calls()[1])
    assert "A call of Of Bob waits until you have connected, and is made then." in inbox(team, team.bob)


def test_a_notice_of_the_same_sign_in_is_not_said_beside_it(team: Team) -> None:
    Notice.objects.create(connection=team.row, owner=team.bob, reason="sign_in_revoked", sentence="It has ended.")
    team.row.authorization = "oauth"
    team.row.save()
    assert number(team, team.bob) == 1
    team.row.authorization = "api_key"
    team.row.save()
    ask(team)
    team.row.authorization = "oauth"
    team.row.save()
    assert number(team, team.bob) == 1
    assert "until you have connected" in inbox(team, team.bob)


def test_who_may_no_longer_act_or_is_suspended_finds_nothing(team: Team) -> None:
    ask(team)
    team.house.tenant.suspend("Unpaid.")
    assert number(team, team.bob) == 0
    team.house.tenant.resume()
    assert number(team, team.bob) == 1
    Membership.objects.filter(user=team.bob).update(role="auditor")
    assert number(team, team.bob) == 0


def test_the_page_of_the_call_says_for_whom_it_waits(team: Team) -> None:
    ask(team)
    page = team.signed_in(team.ada).get(f"/admin/tools/call/{calls()[0].pk}/change/").content.decode()
    assert "It waits until member@acme.example has connected to Orders, and is made then by itself." in page
    assert re.search(r"If it is not done by \d{4}-\d\d-\d\d \d\d:\d\d UTC, it ends\.", page)
    team.house.tenant.time_zone = "Asia/Tokyo"
    team.house.tenant.save()
    page = team.signed_in(team.ada).get(f"/admin/tools/call/{calls()[0].pk}/change/").content.decode()
    assert re.search(r"If it is not done by \d{4}-\d\d-\d\d \d\d:\d\d JST, it ends\.", page)
