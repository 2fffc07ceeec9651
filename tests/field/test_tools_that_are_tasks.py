"""Tools of 2025-11-25 that run only as a task are run as one, and end as any other call does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from connections.models import Connection
from tests.conftest import House
from tests.live import Api
from tests.servers.aside import Aside
from tests.servers.asking import ONE_NAME, form
from tests.servers.field.old_tasks import OldTasks
from tests.servers.fixtures import StartServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, McpServer
from tests.servers.toolbox import text
from tests.tools.conftest import eventually
from tools.calls import polling
from tools.models import Call, Probe

pytestmark = pytest.mark.django_db

Begin = Callable[[OldTasks], Call]


@pytest.fixture
def begun(acme: House, api: Api, mcp_server: StartServer, probed: Callable[[Connection], Probe]) -> Begin:
    """Call the tool of such a server, and return the row of the call."""

    def begin(tasks: OldTasks) -> Call:
        server = mcp_server("legacy")
        server.rules.append(tasks.rule)
        assert probed(acme.connection("Orders", server.url)).outcome == "passed"
        answer = api.as_(acme.token()).call("orders__report", {}, headers={"Prefer": "wait=1"})
        assert answer.status_code in {200, 202, 502}, answer.text
        return Call.objects.get()

    return begin


def looked(call: Call) -> Call:
    polling.poll(call.pk)
    call.refresh_from_db()
    return call


def test_the_task_is_polled_and_its_result_is_the_calls(begun: Begin) -> None:
    tasks = OldTasks(polls=2)
    call = begun(tasks)
    assert (call.state, tasks.asked[0]["task"]) == ("running", {"ttl": 300_000})
    assert looked(call).state == "running"
    assert call.progress()["message"] == "Collecting the figures"
    assert looked(call).state == "succeeded"
    assert tasks.used == ["tasks/get", "tasks/get", "tasks/result"]
    assert len(tasks.asked) == 1, "the tool has run once"


ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a result": ({}, "succeeded", ""),
    "the tool's own error": ({"outcome": {"result": text("No figures.", isError=True)}}, "failed", "tool_error"),
    "failed, with a result": (
        {"status": "failed", "outcome": {"result": text("No figures.", isError=True)}}, "failed", "tool_error",
    ),
    "failed, with an error": (
        {"status": "failed", "outcome": {"error": {"code": -32603, "message": "Broken."}}},
        "failed", "upstream_rpc_error",
    ),
    "cancelled by the server": ({"status": "cancelled"}, "cancelled", "cancelled"),
    "forgotten": ({"forgets": True}, "outcome_unknown", "outcome_unknown"),
    "a large result": ({"outcome": {"result": text("x" * 400_000)}}, "succeeded", ""),
    "no interval": ({"interval": None}, "succeeded", ""),
    "an interval of text": ({"interval": "soon"}, "succeeded", ""),
}  # fmt: skip


@pytest.mark.parametrize(("options", "state", "code"), ENDS.values(), ids=ENDS.keys())
def test_the_call_ends_as_the_task_does(begun: Begin, options: dict[str, Any], state: str, code: str) -> None:
    call = looked(begun(OldTasks(**options)))
    assert (call.state, call.error_code) == (state, code)


def test_a_task_that_asks_a_person_goes_on_until_its_time_is_over(begun: Begin) -> None:
    call = looked(begun(OldTasks(status="input_required")))
    assert call.state == "running"


def test_a_cancelled_call_cancels_its_task(begun: Begin, acme: House, api: Api) -> None:
    tasks = OldTasks(polls=100)
    call = begun(tasks)
    polling.cancel(call.pk)
    assert tasks.used == ["tasks/cancel"]


@pytest.mark.parametrize("support", ["optional", "forbidden", True, None])
def test_tools_that_run_otherwise_are_not_made_tasks(begun: Begin, support: Any) -> None:
    tasks = OldTasks(support=support)
    begun(tasks)
    assert "task" not in tasks.asked[0]


def test_a_task_is_polled_and_cancelled_in_the_session_of_its_call(
    acme: House, api: Api, mcp_server: StartServer, probed: Callable[[Connection], Probe]
) -> None:
    server = mcp_server("legacy")
    server.rules.append(OldTasks(polls=2).rule)
    probed(acme.connection("Orders", server.url))
    api.as_(acme.token()).call("orders__report", {}, headers={"Prefer": "wait=1", "Duvo-Session": "job-1"})
    call = looked(Call.objects.get())
    polling.cancel(call.pk)
    used = {
        request.rpc_method: request.headers["mcp-session-id"]
        for request in server.requests
        if request.rpc_method in {"tools/call", "tasks/get", "tasks/cancel"}
    }
    assert len(used) == 3
    assert len(set(used.values())) == 1


@pytest.mark.parametrize("names_the_task", [True, False])
def test_what_a_task_asks_is_not_put_to_another_call_of_its_session(
    acme: House, api: Api, mcp_server: StartServer, probed: Callable[[Connection], Probe], names_the_task: bool
) -> None:
    server, aside, tasks = mcp_server("legacy"), Aside(), OldTasks(polls=50)
    asked = form("Which task?", ONE_NAME)["params"]
    if names_the_task:
        asked["_meta"] = {"io.modelcontextprotocol/related-task": {"taskId": "t-1"}}
    question = {"jsonrpc": "2.0", "id": "of-the-task", "method": "elicitation/create", "params": asked}

    def answers() -> list[Any]:
        messages = [one.message for one in server.requests if one.message]
        return [one["result"] for one in messages if one.get("id") == "of-the-task"]

    async def other(_: McpServer, request: Incoming, __: Any, send: Any) -> bool:
        if request.rpc_method == "tools/list":
            result = {"tools": [tasks.tool, {"name": "other", "inputSchema": {"type": "object"}}]}
        elif request.rpc_method == "tools/call" and request.message["params"]["name"] == "other":
            aside.say(b"data: " + json.dumps(question).encode() + b"\n\n")
            for _ in range(200):
                if answers():
                    break
                await asyncio.sleep(0.1)
            result = {"content": []}
        else:
            return False
        return await respond(send, 200, json.dumps({"jsonrpc": "2.0", "id": request.rpc_id, "result": result}).encode())

    server.rules.extend([aside, other, tasks.rule])
    assert probed(acme.connection("Orders", server.url)).outcome == "passed"
    caller = api.as_(acme.token())
    caller.call("orders__report", {}, headers={"Prefer": "wait=1"})
    eventually(lambda: Call.objects.tasks().exists(), "the server works on a task")
    eventually(lambda: aside.opened, "the stream is open")
    answer = caller.call("orders__other", {}, headers={"Prefer": "wait=30"}).json()
    assert answer["state"] == "succeeded"
    assert answers() == [{"action": "cancel"}]
