"""A call whose owner has not connected can wait until they have: it is then made by itself, once, in its turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from connections import personal
from connections.models import Connection, Role, User
from tests.conftest import House
from tests.live import Api
from tests.processes import StartWorker
from tests.tools.calls.test_personal_keys import ADA, BOB, Team
from tests.tools.conftest import eventually
from tools import callers
from tools.calls import life, logins, offers
from tools.models import AccessToken, Assignment, Call

SignedIn = Callable[[User | None], Client]
WAITING = {"Prefer": "wait=10, wait-for-login"}


def half_connected(team: Team) -> Team:
    """Let Ada connect, so that the tools are known; Bob has not connected."""
    team.connect(team.ada, ADA)
    assert team.check().outcome == "passed"
    return team


@pytest.fixture
def team(api: Api, acme: House, mcp_server: Any, signed_in: SignedIn, probed: Any) -> Team:
    return half_connected(Team(acme, mcp_server("modern"), api, signed_in, probed))


def ask(team: Team, assignment: Assignment | None = None, *, text: str = "x", **headers: str) -> Any:
    callers.forget()
    asking = assignment or team.of_bob
    token = AccessToken.issue(assignment=asking, by=asking.owner)[1]
    team.api = team.api.as_(token)
    return team.api.call("orders__echo", {"text": text}, headers=WAITING | headers)


def calls() -> list[Call]:
    return list(Call.objects.order_by("created_at"))


def run_all() -> None:
    """Do what a worker does with the calls that it may take, in its order."""
    due = Call.objects.filter(state="queued", lease_until__lte=timezone.now()).order_by("lease_until")
    for pk in due.values_list("pk", flat=True):
        life.resume(pk)


def test_without_the_wish_to_wait_the_call_is_refused(team: Team) -> None:
    answer = team.call(team.of_bob)
    assert (answer.status_code, answer.json()["code"]) == (503, "credential_not_ready")
    assert not Call.objects.exists()


def test_it_waits_says_where_to_send_the_owner_and_is_made_when_they_have_connected(team: Team) -> None:
    answer = ask(team)
    body = answer.json()
    assert (answer.status_code, body["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=10, wait-for-login"
    assert body["login_required"] == {
        "url": f"http://127.0.0.1/admin/connections/connection/{team.row.pk}/connect/",
        "person": "member@acme.example",
        "does": "enter",
    }
    assert body["waits_until"] is not None
    run_all()
    life.sweep(timezone.now())
    run_all()
    assert team.sent() == []
    team.connect(team.bob, BOB)
    run_all()
    done = team.api.get(f"/v1/calls/{body['id']}").json()
    assert (done["state"], done["login_required"], done["waits_until"]) == ("succeeded", None, None)
    assert team.sent() == [BOB]


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("wait-for-login", "wait-for-login"),
        ("Wait-For-Login; x=1, wait=5", "wait=5, wait-for-login"),
        ("respond-async,wait-for-login", "respond-async, wait-for-login"),
    ],
)
def test_the_wish_stands_beside_others(team: Team, header: str, applied: str) -> None:
    answer = ask(team, Prefer=header)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, applied)
    assert calls()[0].awaits_login


@pytest.mark.parametrize("header", ["wait-for-logins", "wait=for-login", "x=wait-for-login"])
def test_what_is_another_wish_is_none(team: Team, header: str) -> None:
    assert ask(team, Prefer=header).status_code == 503


def test_many_go_on_in_their_order_each_once_whoever_tells(team: Team, start_worker: StartWorker) -> None:
    for number in range(5):
        ask(team, text=str(number))
    team.connect(team.bob, BOB)
    logins.connected(team.row.pk, team.bob.pk)
    logins.sweep()
    due = Call.objects.filter(state="queued", waits_until=None).order_by("lease_until")
    assert [call.pk for call in due] == [call.pk for call in calls()]
    start_worker()
    start_worker()
    eventually(lambda: not Call.objects.filter(finished_at=None).exists(), "their end", 60)
    assert {call.state for call in calls()} == {"succeeded"}
    assert team.sent() == [BOB] * 5


def test_only_the_calls_of_who_has_connected_go_on(team: Team) -> None:
    other = team.house.connection("Wiki", team.server.url, authorization="api_key", sharing="personal")
    ask(team)
    Call.objects.update(connection=other)
    ask(team)
    team.connect(team.ada, ADA)
    assert all(call.awaits_login for call in calls())
    team.connect(team.bob, BOB)
    assert [call.awaits_login for call in calls()] == [True, False]


def test_one_that_nobody_announced_is_found_by_the_sweep(team: Team) -> None:
    ask(team)
    personal.enter(team.connection, team.bob, BOB)
    Call.objects.update(waits_until=timezone.now() + timedelta(hours=1), lease_until=None)  # as one committed later
    life.sweep(timezone.now())
    assert not calls()[0].awaits_login


def test_it_ends_when_the_time_is_over(team: Team) -> None:
    team.house.tenant.decision_hours = 2
    team.house.tenant.save()
    ask(team)
    [call] = calls()
    assert call.waits_until is not None
    assert abs(call.waits_until - timezone.now() - timedelta(hours=2)) < timedelta(minutes=5)
    life.sweep(call.waits_until - timedelta(seconds=1))
    assert calls()[0].awaits_login
    life.sweep(call.waits_until + timedelta(seconds=1))
    [call] = calls()
    assert (call.state, call.error_code) == ("failed", "login_expired")
    assert call.error_sentence == "The owner of the assignment did not connect in time. Nothing was sent."
    error = team.api.get(f"/v1/calls/{call.pk}").json()["error"]
    assert error["code"] == "login_expired"
    team.connect(team.bob, BOB)
    assert calls()[0].state == "failed"


def leave(team: Team) -> None:
    team.house.membership(team.bob).delete()


def become_auditor(team: Team) -> None:
    membership = team.house.membership(team.bob)
    membership.role = Role.AUDITOR
    membership.save()


def deactivate(team: Team) -> None:
    User.objects.filter(pk=team.bob.pk).update(is_active=False)


def disable_assignment(team: Team) -> None:
    Assignment.objects.filter(pk=team.of_bob.pk).update(enabled=False)


def delete_assignment(team: Team) -> None:
    team.of_bob.delete()


def disable_connection(team: Team) -> None:
    team.connection.set_enabled(False)


def delete_connection(team: Team) -> None:
    team.connection.delete()


def revoke(team: Team) -> None:
    for token in AccessToken.objects.filter(assignment=team.of_bob):
        token.revoke()


def deny(team: Team) -> None:
    team.row.tools.update(policy="deny")


def hand_over(team: Team) -> None:
    Assignment.objects.filter(pk=team.of_bob.pk).update(owner=team.ada)


def move_the_server(team: Team) -> None:
    Connection.objects.filter(pk=team.row.pk).update(server_url="https://other.example.com/mcp")


def change_the_tool(team: Team) -> None:
    team.row.tools.update(digest="0" * 64, approved_digest="0" * 64)


ENDS: dict[str, tuple[Callable[[Team], None], str]] = {
    "the owner left": (leave, "credential_not_ready"),
    "the owner may no longer act": (become_auditor, "credential_not_ready"),
    "the owner was deactivated": (deactivate, "credential_not_ready"),
    "the assignment was disabled": (disable_assignment, "asker_gone"),
    "the assignment was deleted": (delete_assignment, "asker_gone"),
    "the connection was disabled": (disable_connection, "connection_disabled"),
    "the connection was deleted": (delete_connection, "tool_not_found"),
    "the token was revoked": (revoke, "asker_gone"),
    "the tool was denied": (deny, "tool_denied"),
    "the assignment has another owner": (hand_over, "acting_refused"),
    "the connection leads to another server": (move_the_server, "tool_replaced"),
    "another definition was approved": (change_the_tool, "tool_replaced"),
}


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_it_ends_honestly_with_what_it_needs(team: Team, end: Callable[[Team], None], code: str) -> None:
    ask(team)
    end(team)
    offers.forget()
    life.sweep(timezone.now())
    run_all()
    [call] = calls()
    assert (call.state, call.error_code) == ("failed", code)
    assert call.error_sentence.endswith("Nothing was sent.")
    assert team.sent() == []


def test_a_suspended_organization_loses_no_time_and_nothing_runs_meanwhile(team: Team, superuser: User) -> None:
    ask(team)
    before = calls()[0].waits_until
    page, staff = f"/admin/connections/tenant/{team.house.tenant.pk}", team.signed_in(superuser)
    staff.post(f"{page}/suspend/", {"reason": "Unpaid."})
    assert before is not None
    life.sweep(before + timedelta(hours=1))
    assert calls()[0].awaits_login
    staff.post(f"{page}/resume/")
    resumed = calls()[0]
    assert resumed.awaits_login
    assert resumed.lease_until is None, "no worker takes it"
    run_all()
    assert calls()[0].waits_until == resumed.waits_until, "it gets no more time than the pause took"


def test_it_can_be_cancelled(team: Team) -> None:
    made = ask(team).json()
    assert team.api.post(f"/v1/calls/{made['id']}/cancel").json()["state"] == "cancelled"
    team.connect(team.bob, BOB)
    run_all()
    assert team.sent() == []


def test_one_that_is_cancelled_as_its_sign_in_turns_out_to_have_ended_waits_for_nobody(team: Team) -> None:
    ask(team)
    Call.objects.go_on_after_login()
    row = Call.objects.filter(pk=calls()[0].pk)
    row.claim(timezone.now(), timezone.now() + timedelta(seconds=30))
    life.cancel(row.get())
    assert row.get().cancel_requested_at is not None
    assert row.await_login(timezone.now() + timedelta(hours=1)) == 0
    team.connect(team.bob, BOB)
    run_all()
    assert team.sent() == []


def test_the_same_key_is_the_same_waiting_call(team: Team) -> None:
    headers = {"Prefer": "wait=0, wait-for-login", "Idempotency-Key": str(uuid4())}
    first, again = ask(team, **headers), ask(team, **headers)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["login_required"]["person"] == "member@acme.example"


def test_one_that_is_to_be_approved_waits_for_that_first(team: Team) -> None:
    team.row.tools.update(policy="ask")
    offers.forget()
    assert ask(team, Prefer="wait=0, wait-for-login").json()["state"] == "awaiting_approval"
    [call] = calls()
    life.approve(call, by="admin@acme.example")
    run_all()
    [call] = calls()
    assert call.awaits_login
    team.connect(team.bob, BOB)
    run_all()
    assert (calls()[0].state, team.sent()) == ("succeeded", [BOB])


def test_a_call_in_the_queue_waits_when_its_owner_is_gone_again_only_if_it_was_to(team: Team) -> None:
    team.connect(team.bob, BOB)
    ask(team, Prefer="respond-async, wait-for-login")
    ask(team, Prefer="respond-async")
    personal.forget(team.connection, team.bob)
    offers.forget()
    run_all()
    first, second = calls()
    assert first.awaits_login
    assert (second.state, second.error_code) == ("failed", "credential_not_ready")


def test_a_shared_connection_waits_for_nobody(team: Team) -> None:
    Connection.objects.update(sharing="shared", credential_state="missing")
    offers.forget()
    answer = ask(team)
    assert (answer.status_code, answer.json()["code"]) == (503, "credential_not_ready")


def test_a_connection_that_is_shared_now_lets_them_go_on(team: Team) -> None:
    ask(team)
    team.row.credentials.update(owner=None)
    Connection.objects.update(sharing="shared", credential_state="ready")
    offers.forget()
    life.sweep(timezone.now())
    run_all()
    assert calls()[0].state == "succeeded"


@pytest.mark.parametrize("token", ["of another assignment", "of a stranger"])
def test_nobody_else_sees_that_it_waits(team: Team, rival: House, token: str) -> None:
    made = ask(team).json()
    other = team.house.token(team.of_ada) if token == "of another assignment" else rival.token()
    assert team.api.as_(other).get(f"/v1/calls/{made['id']}").status_code == 404
