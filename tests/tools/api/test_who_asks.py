"""What a program is told of itself, of what it sent wrong, and of the sign-in that it waits for."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from connections.errors import DuvoError
from connections.models import AuditEvent, Connection
from tests.conftest import House
from tests.live import Api
from tests.tools.api.test_rest_isolation import TABLE
from tests.tools.conftest import Shop
from tools.calls import offers
from tools.definitions.near import near
from tools.models import AccessToken, Call, Tool

KEY = {"Idempotency-Key": "once"}


def test_an_assignment_learns_who_it_is_and_nothing_secret(api: Api, acme: House) -> None:
    acme.tenant.max_concurrency = 7
    acme.tenant.save()
    assignment = acme.assignment(max_rate=60)
    row, token = AccessToken.issue(assignment=assignment, by=acme.admin, label="nightly")
    said = api.as_(token).get("/v1/me").json()
    assert said["organization"] == {"id": str(acme.tenant.pk), "name": "acme"}
    assert said["assignment"] == {
        "id": str(assignment.pk), "name": "Nightly orders", "owner": "admin@acme.example", "acts_as_owner": True,
    }  # fmt: skip
    assert (said["token"]["prefix"], said["token"]["label"]) == (row.prefix, "nightly")
    assert said["limits"]["calls_per_minute"] == 60
    assert said["limits"]["concurrent_calls"] == 7
    assert said["person"] is None
    assert token not in str(said)
    assert row.digest not in str(said)
    others = AccessToken.issue(assignment=assignment, by=acme.member)[1]
    assert api.as_(others).get("/v1/me").json()["assignment"]["acts_as_owner"] is False


def test_a_person_learns_their_role(api: Api, acme: House) -> None:
    said = api.as_(acme.member_token(acme.auditor)).get("/v1/me").json()
    assert said["person"] == {"name": "auditor@acme.example", "role": "auditor"}
    assert (said["assignment"], said["limits"]["calls_per_minute"]) == (None, None)


@pytest.mark.parametrize("place", TABLE, ids=lambda place: f"{place[0]} {place[1]}")
def test_every_door_refuses_a_query_parameter_that_it_does_not_know(
    acme: House, place: tuple[str, str], transactional_db: None
) -> None:
    method, route = place
    who = "admin" if TABLE[place].get("admin") else "owner"
    token = acme.member_token(acme.admin) if who == "admin" else acme.token()
    path = "/" + re.sub(r"<\w+:(\w+)>", "00000000-0000-0000-0000-000000000000", route).replace("<", "").replace(">", "")
    path = path.replace("contents/00000000-0000-0000-0000-000000000000", "contents/1")
    answer = Client(raise_request_exception=False).generic(
        method, f"{path}?limmit=1&x=2", "", content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "unknown_parameter"), answer.content
    assert answer["Content-Type"].startswith("application/problem+json")
    assert [error["parameter"] for error in problem["errors"]] == ["limmit", "x"]
    assert "“limmit”" in problem["detail"]


def test_the_one_that_may_be_meant_is_named_and_known_ones_are_taken(shop: Shop) -> None:
    refused = shop.api.get("/v1/calls?stat=failed").json()
    assert refused["errors"][0]["detail"] == "This address knows no “stat”. Is “state” meant?"
    assert shop.api.get("/v1/calls?state=failed&tool=x&limit=2").status_code == 200
    assert shop.api.as_(None).get("/v1/calls?stat=failed").status_code == 401, "who is unknown learns nothing"
    many = "&".join(f"x{number}=1" for number in range(1_100))
    assert shop.api.get(f"/v1/me?{many}").status_code == 400
    assert shop.api.post(f"/v1/tools/orders__echo/call?{many}", {"arguments": {"text": "x"}}).status_code == 400
    assert not Call.objects.exists()


def test_a_replay_says_so(shop: Shop) -> None:
    first = shop.call("echo", {"text": "x"}, headers=KEY)
    again = shop.call("echo", {"text": "x"}, headers=KEY)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert "Idempotency-Replayed" not in shop.call("echo", {"text": "x"}).headers
    failed = [shop.call("fail", headers={"Idempotency-Key": "other"}) for _ in range(2)]
    assert [answer.headers.get("Idempotency-Replayed") for answer in failed] == [None, "true"]


def test_an_unknown_tool_is_answered_with_the_callers_own_that_are_near(shop: Shop, rival: House) -> None:
    missing = shop.call("ecoh", {"text": "x"}).json()
    assert missing["code"] == "tool_not_found"
    assert missing["near"][0] == "orders__echo"
    assert "orders__echo" in missing["detail"]
    shown = shop.api.get("/v1/tools/order__echo")
    assert (shown.status_code, shown.json()["near"][0]) == (404, "orders__echo")
    stranger = shop.api.as_(rival.token()).call("orders__ecoh")
    assert (stranger.status_code, "near" in stranger.json()) == (404, False)


def test_what_is_near() -> None:
    known = [
        "orders__get_stock",
        "orders__set_stock",
        "mail__send",
        *(f"other__tool_{number}" for number in range(5_000)),
    ]
    assert near("get_stock", known)[0] == "orders__get_stock"
    assert near("stock__get_stock", known)[0] == "orders__get_stock"
    assert near("orders__getstock", known)[0] == "orders__get_stock"
    assert near("Mail__Send", known)[0] == "mail__send"
    assert near("nothing at all", ["orders__get_stock"]) == []
    assert near("x" * 10_000, known) == []


def test_to_look_for_near_names_costs_little_however_alike_they_are() -> None:
    words = "get_all_the_stock_of_all_warehouses_" * 3
    known = [f"orders__{words}{number:04}" for number in range(1_000)]

    def cost() -> float:
        began = time.process_time()
        assert near(f"order__{words}0500x", known)
        return time.process_time() - began

    assert min(cost() for _ in range(5)) < 0.02


def test_near_names_are_looked_for_only_so_often_and_for_each_organization(
    shop: Shop, rival: House, probed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "_HINTS_A_SECOND", 0.001)  # however slowly a busy machine answers
    assert probed(rival.connection("Orders", shop.server.url)).outcome == "passed"
    theirs = shop.api.as_(rival.token())
    said = [theirs.call(f"orders__ecoh{number}") for number in range(30)]
    assert [answer.status_code for answer in said] == [404] * 30
    hinted = ["near" in answer.json() for answer in said]
    assert hinted[:20] == [True] * 20
    assert not hinted[-1]
    assert "near" not in theirs.get("/v1/tools/orders__ecoh").json()
    assert shop.call("ecoh").json()["near"][0] == "orders__echo"


def test_what_is_wrong_with_one_offer_costs_no_other(
    shop: Shop, acme: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Offers are read together, also those of several organizations."""
    made = offers._offer

    def fails(tool: Tool, *more: Any) -> Any:
        if tool.name == "fail":
            raise RecursionError
        return made(tool, *more)

    monkeypatch.setattr(offers, "_offer", fails)
    names = ("orders__echo", "orders__fail")
    found = offers._load([(shop.assignment.pk, None, name) for name in names])
    good, bad = (found[shop.assignment.pk, None, name] for name in names)
    assert good.offer().upstream_name == "echo"
    assert isinstance(bad.what, DuvoError)
    answer = shop.call("fail")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "RecursionError" in caplog.text


async def test_unknown_names_of_one_organization_do_not_delay_what_another_is_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def held(_: Any, keys: Any) -> dict[Any, Any]:
        asked.append([name for _, _, name in keys])
        begun.set()
        await go_on.wait()
        return {}

    monkeypatch.setattr(offers, "in_thread", held)
    acme, rival = uuid4(), uuid4()
    first = asyncio.create_task(offers.find(uuid4(), None, "first", of=rival))
    await begun.wait()
    others = [
        asyncio.create_task(offers.find(assignment, None, f"no_{number}", of=rival))
        for assignment in [uuid4() for _ in range(10)]
        for number in range(10)
    ]
    own = asyncio.create_task(offers.find(uuid4(), None, "orders__echo", of=acme))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, own, *others)
    assert "orders__echo" in asked[1]
    assert max(map(len, asked)) == 32


# --- signing in -----------------------------------------------------------------------------------------------------


def ask_for(api: Api, connection: Connection) -> Any:
    return api.post(f"/v1/connections/{connection.pk}/sign-in")


def test_a_program_gets_the_address_where_a_person_connects(api: Api, acme: House, signed_in: Any) -> None:
    own = acme.connection("Own", authorization="api_key", sharing="personal")
    personal = acme.connection("Personal", authorization="oauth", sharing="personal")
    shared = acme.connection("Shared", authorization="oauth")
    program = api.as_(acme.token())
    said = ask_for(program, own).json()
    assert (said["person"], said["does"]) == ("admin@acme.example", "enter")
    path = said["url"].partition("://")[2].partition("/")[2]
    assert signed_in(acme.admin).get(f"/{path}").status_code == 200
    assert ask_for(program, personal).json()["does"] == "sign_in"
    refused = ask_for(program, shared)
    assert (refused.status_code, refused.json()["code"]) == (403, "acting_refused")
    assert ask_for(api.as_(acme.member_token(acme.admin)), shared).json()["person"] is None
    for user, expected in ((acme.member, 200), (acme.auditor, 403)):
        assert ask_for(api.as_(acme.member_token(user)), personal).status_code == expected
    assert ask_for(api.as_(acme.member_token(acme.member)), shared).status_code == 403
    assert AuditEvent.objects.filter(action="connection.sign_in_asked").count() == 4


def test_a_token_that_does_not_act_as_the_owner_asks_for_nothing(api: Api, acme: House) -> None:
    own = acme.connection("Own", authorization="api_key", sharing="personal")
    others = AccessToken.issue(assignment=acme.assignment(), by=acme.member)[1]
    assert ask_for(api.as_(others), own).json()["code"] == "acting_refused"


@pytest.mark.parametrize(
    "settings_",
    [
        {"authorization": "none"},
        {"authorization": "api_key"},
        {"authorization": "oauth", "oauth_grant": "client_credentials"},
    ],
)
def test_where_nobody_signs_in_there_is_no_address(api: Api, acme: House, settings_: dict[str, str]) -> None:
    connection = acme.connection("Orders", **settings_)
    refused = ask_for(api.as_(acme.member_token(acme.admin)), connection)
    assert (refused.status_code, refused.json()["code"]) == (409, "nobody_signs_in")
