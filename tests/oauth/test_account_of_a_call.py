"""With which account at the provider a call was made: on the call, its page and in the audit trail, kept as it was."""

from __future__ import annotations

from typing import Any

import pytest

from connections.models import AuditEvent, Connection
from tests.conftest import House
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_accounts import sign_in_as
from tools.calls import life, offers
from tools.models import Call

ADA, BOB = "ada@provider.example", "bob@provider.example"


@pytest.fixture
def scene_of_ada(scene: StartScene) -> Scene:
    """A shared connection, signed in to as ada's account."""
    made = scene()
    sign_in_as(made, "1", email=ADA)
    made.probe()
    return made


@pytest.fixture
def caller(api: Api, acme: House) -> Api:
    """A program with a token of acme's assignment."""
    return api.as_(acme.token())


def call(caller: Api, **headers: str) -> Any:
    return caller.call("orders__echo", {"text": "x"}, headers=headers)


def test_a_call_says_its_account_and_keeps_it(scene_of_ada: Scene, caller: Api) -> None:
    first = call(caller).json()
    assert first["account"] == ADA
    sign_in_as(scene_of_ada, "2", email=BOB)
    assert call(caller).json()["account"] == BOB
    assert caller.get(f"/v1/calls/{first['id']}").json()["account"] == ADA
    accounts = Call.objects.order_by("created_at").values_list("account", flat=True)
    assert list(accounts) == [ADA, BOB]


def test_a_queued_call_says_it_once_it_is_made(scene_of_ada: Scene, caller: Api) -> None:
    made = call(caller, Prefer="respond-async").json()
    assert (made["state"], made["account"]) == ("queued", None)
    sign_in_as(scene_of_ada, "2", email=BOB)
    offers.forget()
    life.resume(Call.objects.get().pk)
    done = caller.get(f"/v1/calls/{made['id']}").json()
    assert (done["state"], done["account"]) == ("succeeded", BOB)


def test_it_is_on_the_page_and_in_the_audit_trail(scene_of_ada: Scene, caller: Api) -> None:
    made = call(caller).json()
    page = scene_of_ada.client.get(f"/admin/tools/call/{made['id']}/contents/").content.decode()
    assert f'Account at the provider</dt><dd class="breakable">{ADA}</dd>' in page
    scene_of_ada.client.get(f"/admin/tools/call/{made['id']}/contents/")
    [read] = AuditEvent.objects.filter(action="call.read")
    assert read.data == {"account": ADA}
    scene_of_ada.press("sign-out")
    assert AuditEvent.objects.get(action="connection.signed_out").data["account"] == ADA


def test_lists_say_it_and_find_it(scene_of_ada: Scene, caller: Api) -> None:
    """Whoever looks for what was done with a person's account finds it without opening call by call."""
    call(caller)
    sign_in_as(scene_of_ada, "2", email=BOB)
    call(caller)
    assert [row["account"] for row in caller.get("/v1/calls").json()["results"]] == [BOB, ADA]
    page = scene_of_ada.client.get("/admin/tools/call/?q=ada@provider").content.decode()
    assert f'<br><span class="quiet breakable">as {ADA}</span>' in page
    assert BOB not in page


def test_where_nothing_is_known_nothing_is_said(scene: StartScene, caller: Api) -> None:
    made = scene()
    made.sign_in()
    made.probe()
    done = call(caller).json()
    assert (done["state"], done["account"]) == ("succeeded", None)
    page = made.client.get(f"/admin/tools/call/{done['id']}/change/").content.decode()
    assert "Account at the provider" not in page


def test_a_personal_connection_says_each_owners_account(scene: StartScene, caller: Api) -> None:
    made = scene(connection={"sharing": "personal"})
    sign_in_as(made, "1", email=ADA)
    made.probe()
    assert call(caller).json()["account"] == ADA
    assert Connection.objects.get().is_personal
