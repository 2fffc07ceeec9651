"""A call runs for the tool, the definition and the server that it was opened and approved for, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections.models import Connection, User
from connections.states import ToolsState
from tests.conftest import House
from tests.servers.asking import asking
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tests.servers.tasks import TaskBox
from tests.servers.toolbox import furnished
from tests.tools.conftest import OpenShop, Shop
from tools.calls import life, offers, polling
from tools.models import Call, Probe, Tool

AT_ONCE = {"Prefer": "wait=0"}
LATER = {"Prefer": "respond-async"}
SECRET = "4711-for-the-first-server"
REFUSED = [("failed", "tool_replaced"), ("failed", "tool_not_found")]  # the second where its connection was deleted

Probed = Callable[[Connection], Probe]
Replace = Callable[[Shop], McpServer]


@pytest.fixture
def by_a_namesake(acme: House, mcp_server: StartServer, probed: Probed) -> Replace:
    """Delete the connection, and add another of the same name that leads to another server."""

    def replace(shop: Shop) -> McpServer:
        shop.connection.delete()
        other = mcp_server("modern", furnished())
        shop.connection = acme.connection("Orders", other.url)
        assert probed(shop.connection).outcome == "passed"
        Tool.objects.filter(name="echo").update(policy="ask")
        offers.forget()
        return other

    return replace


@pytest.fixture
def by_a_move(mcp_server: StartServer, probed: Probed) -> Replace:
    """Have the connection lead to another server, which offers the very same tools."""

    def replace(shop: Shop) -> McpServer:
        other = mcp_server("modern", furnished())
        Connection.objects.filter(pk=shop.connection.pk).update(server_url=other.url)
        shop.connection.refresh_from_db()
        assert probed(shop.connection).outcome == "passed"
        offers.forget()
        return other

    return replace


def by_a_definition(shop: Shop) -> McpServer:
    """Approve another definition of the tool."""
    tool = Tool.objects.get(name="echo")
    definition = {**(tool.approved_definition or {}), "description": "Deletes everything."}
    shop.set_tool("echo", approved_definition=definition, digest="0" * 64, approved_digest="0" * 64)
    return shop.server


@pytest.fixture(params=["namesake", "move", "definition"])
def replace(request: pytest.FixtureRequest) -> Replace:
    """Each way in which something else comes into the place of what was shown."""
    if request.param == "definition":
        return by_a_definition
    return request.getfixturevalue(f"by_a_{request.param}")


def page(call: Call, button: str = "change") -> str:
    return f"/admin/tools/call/{call.pk}/{button}/"


@pytest.fixture
def waiting(shop: Shop) -> Shop:
    """A shop with one call that awaits an admin's approval."""
    shop.set_tool("echo", policy="ask")
    assert shop.call("echo", {"text": SECRET}, headers=AT_ONCE).json()["state"] == "awaiting_approval"
    return shop


def state_of(call: Call) -> tuple[str, str]:
    call.refresh_from_db()
    return call.state, call.error_code


def test_an_approval_of_what_was_replaced_sends_nothing(
    waiting: Shop, acme: House, signed_in: Callable[[User | None], Client], replace: Replace
) -> None:
    browser, call = signed_in(acme.admin), waiting.row
    assert "Approve</button>" in browser.get(page(call)).content.decode()
    other = replace(waiting)
    shown = browser.get(page(call)).content.decode()
    assert "It cannot be approved any more." in shown
    assert "Approve</button>" not in shown
    said = browser.post(page(call, "approve"), follow=True).content.decode()
    assert "Nothing was sent." in said
    life.resume(call.pk)
    assert state_of(call) in REFUSED
    assert "Nothing was sent." in call.error_sentence
    assert (waiting.server.executions("echo"), other.executions("echo")) == (0, 0)
    seen = waiting.api.get(f"/v1/calls/{call.pk}").json()
    assert (seen["state"], seen["error"]["code"]) in REFUSED


def test_what_is_replaced_after_the_approval_gets_nothing_either(waiting: Shop, replace: Replace) -> None:
    call = waiting.row
    assert life.approve(call, by="ada")
    other = replace(waiting)
    life.resume(call.pk)
    assert state_of(call) in REFUSED
    assert (waiting.server.executions("echo"), other.executions("echo")) == (0, 0)


def test_a_queued_call_runs_for_nothing_else(shop: Shop, replace: Replace) -> None:
    shop.call("echo", {"text": SECRET}, headers=LATER)
    call = shop.row
    other = replace(shop)
    Tool.objects.update(policy="allow")
    offers.forget()
    life.resume(call.pk)
    assert state_of(call) in REFUSED
    assert (shop.server.executions("echo"), other.executions("echo")) == (0, 0)


def test_a_call_that_may_have_run_is_not_made_again_for_something_else(shop: Shop, replace: Replace) -> None:
    shop.call("echo", {"text": SECRET}, headers=LATER)
    call = shop.row
    Call.objects.filter(pk=call.pk).update(sent_at=call.created_at, attempts=2)
    other = replace(shop)
    life.resume(call.pk)
    assert state_of(call) == ("outcome_unknown", "outcome_unknown")
    assert "An earlier attempt may have run" in call.error_sentence
    assert (shop.server.executions("echo"), other.executions("echo")) == (0, 0)


def test_a_check_that_finds_the_same_definition_changes_nothing(waiting: Shop, probed: Probed) -> None:
    call = waiting.row
    assert probed(waiting.connection).outcome == "passed"
    assert life.approve(call, by="ada")
    life.resume(call.pk)
    assert (state_of(call), waiting.server.executions("echo")) == (("succeeded", ""), 1)


# --- questions and tasks ---


def asked(shop: Shop) -> tuple[Call, dict[str, Any]]:
    """A call whose server has asked something, and answers that fit."""
    body = shop.call("ask_form").json()
    assert body["state"] == "input_required"
    [key] = body["input_required"]["requests"]
    return shop.row, {key: {"action": "accept", "content": {"name": SECRET, "color": "red"}}}


def test_an_answer_goes_to_the_server_that_asked_and_to_no_other(open_shop: OpenShop, by_a_move: Replace) -> None:
    shop = open_shop(asking())
    call, responses = asked(shop)
    by_a_move(shop)
    said = shop.api.post(f"/v1/calls/{call.pk}/input", {"responses": responses})
    assert (said.status_code, said.json()["code"]) == (409, "tool_replaced")
    assert state_of(call) == ("failed", "tool_replaced")
    assert not call.sealed_answers


def test_an_answer_that_waits_in_the_queue_does_not_follow_to_another_server(
    open_shop: OpenShop, by_a_move: Replace
) -> None:
    shop = open_shop(asking())
    call, responses = asked(shop)
    assert shop.api.post(f"/v1/calls/{call.pk}/input", {"responses": responses}).status_code == 200
    other = by_a_move(shop)
    requests = len(other.requests)
    life.resume(call.pk)
    assert state_of(call) == ("failed", "tool_replaced")
    assert len(other.requests) == requests


def test_an_answer_names_the_question_that_it_is_for(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    call, responses = asked(shop)
    shown = shop.api.get(f"/v1/calls/{call.pk}").json()["input_required"]["id"]
    path = f"/v1/calls/{call.pk}/input"
    late = shop.api.post(path, {"responses": responses, "id": "0123456789abcdef"})
    assert (late.status_code, late.json()["code"]) == (409, "not_asked")
    assert shop.api.post(path, {"responses": responses, "id": 7}).json()["errors"][0]["pointer"] == "/id"
    assert shop.api.post(path, {"responses": responses, "id": shown}).status_code == 200


def test_another_server_is_not_asked_for_the_task_of_the_one_before(open_shop: OpenShop, by_a_move: Replace) -> None:
    shop = open_shop(TaskBox())
    assert shop.call("report", headers={"Prefer": "wait=1"}).json()["state"] == "running"
    call = shop.row
    other = by_a_move(shop)
    requests = len(other.requests)
    polling.cancel(call.pk)
    polling.poll(call.pk)
    assert state_of(call) == ("outcome_unknown", "outcome_unknown")
    assert "the tool may have run" in call.error_sentence
    assert len(other.requests) == requests


def test_tools_of_the_old_server_are_not_callable_at_a_new_url_before_its_first_listing(
    shop: Shop, mcp_server: StartServer
) -> None:
    """What was approved of the old server says nothing about the new one, though it offers the same names."""
    other = mcp_server("modern", furnished())
    shop.set(server_url=other.url, tools_state=ToolsState.NEVER_LISTED)
    refused = shop.call("echo", {"text": "for the old one"})
    assert (refused.status_code, refused.json()["code"]) == (503, "not_checked")
    assert other.executions("echo") == shop.server.executions("echo") == 0
