"""A call that finds its owner signed out, or the sign-in ended, waits until the owner has signed in again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from oauth.models import SignIn
from tests.conftest import House
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_accounts import sign_in_as
from tests.tools.calls.test_logins import WAITING, run_all


@pytest.fixture
def office(scene: StartScene, acme: House) -> Scene:
    """A personal connection to which the admin, who owns the assignment, is signed in."""
    made = scene(connection={"sharing": "personal"})
    sign_in_as(made, "1", email="ada@provider.example")
    made.probe()
    acme.assignment()
    return made


@pytest.fixture
def caller(office: Scene, api: Api, acme: House) -> Api:
    return api.as_(acme.token(acme.tenant.assignments.get()))


def call(caller: Api) -> Any:
    return caller.call("orders__echo", {"text": "x"}, headers=WAITING)


def test_a_sign_in_lets_it_go_on_as_the_account_that_signed_in(office: Scene, caller: Api) -> None:
    office.press("sign-out")
    made = call(caller).json()
    assert made["login_required"]["does"] == "sign_in"
    assert made["login_required"]["url"].endswith(f"/connection/{office.connection.pk}/change/#sign-in")
    sign_in_as(office, "2", email="bob@provider.example")
    run_all()
    done = caller.get(f"/v1/calls/{made['id']}").json()
    assert (done["state"], done["account"]) == ("succeeded", "bob@provider.example")


def test_a_sign_in_that_turns_out_to_have_ended_lets_it_wait(office: Scene, caller: Api) -> None:
    office.auth.revoke_everything()
    SignIn.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    made = call(caller)
    assert (made.status_code, made.json()["state"]) == (202, "queued")
    assert made.json()["login_required"] is not None
    assert office.server.count("tools/call") == 0
    sign_in_as(office, "1", email="ada@provider.example")
    run_all()
    assert caller.get(f"/v1/calls/{made.json()['id']}").json()["state"] == "succeeded"
    assert office.server.count("tools/call") == 1
