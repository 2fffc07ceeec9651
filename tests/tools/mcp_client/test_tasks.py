"""A call that becomes a task goes on at its server and is asked for by id (`io.modelcontextprotocol/tasks`)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import asking, kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import McpServer
from tests.servers.tasks import TaskBox
from tools import mcp_client
from tools.mcp_client import Server, Task, results

SEED = {"taskId": "t-1", "status": "working", "ttlMs": None, "createdAt": "", "lastUpdatedAt": ""}


def at(server: McpServer, era: Any = "modern") -> Server:
    return Server(key=server.url, url=server.url, era=era)


async def begun(server: McpServer, **arguments: Any) -> Task:
    task = await mcp_client.call_tool(at(server), "report", arguments)
    assert isinstance(task, Task)
    return task


async def test_a_task_is_followed_to_the_result_that_the_call_would_have_had(mcp_server: StartServer) -> None:
    box = TaskBox()
    server = mcp_server("modern", box)
    task = await begun(server, polls=2)
    assert (task.id, task.status, task.poll_interval, task.ttl) == (box.only.id, "working", 1.0, 3600.0)
    assert task.message == "Collecting the figures"
    assert (await mcp_client.get_task(at(server), task.id)).status == "working"
    done = await mcp_client.get_task(at(server), task.id)
    assert done.status == "completed"
    assert done.result is not None
    assert (done.result.content, done.result.is_error) == ([{"type": "text", "text": "The report."}], False)
    assert box.used == {"tasks/get": 2}


async def test_a_tool_that_fails_in_a_task_has_completed_with_an_error(mcp_server: StartServer) -> None:
    box = TaskBox()
    server = mcp_server("modern", box)
    task = await begun(server)
    box.only.complete("No such order.", isError=True)
    done = await mcp_client.get_task(at(server), task.id)
    assert (done.status, done.error) == ("completed", None)
    assert done.result is not None
    assert done.result.is_error


async def test_a_task_that_failed_tells_the_error_apart_from_the_sentence(mcp_server: StartServer) -> None:
    box = TaskBox()
    server = mcp_server("modern", box)
    task = await begun(server)
    box.only.fail(-32603, "secret detail")
    failed = await mcp_client.get_task(at(server), task.id)
    assert (failed.status, failed.result) == ("failed", None)
    assert failed.error is not None
    assert (failed.error.rpc_code, failed.error.rpc_message) == (-32603, "secret detail")
    assert "secret" not in str(failed.error)


async def test_a_task_that_asks_goes_on_with_the_answers(mcp_server: StartServer) -> None:
    box = TaskBox()
    server = mcp_server("modern", box)
    task = await begun(server)
    box.only.ask(sure=asking.form("Sure?", asking.CONFIRMATION), visit=asking.visit("Go there"))
    waiting = await mcp_client.get_task(at(server), task.id)
    assert waiting.status == "input_required"
    assert waiting.questions is not None
    assert waiting.questions.state is None
    assert {key: asked.mode for key, asked in waiting.questions.requests.items()} == {"sure": "form", "visit": "url"}
    said = {"action": "accept", "content": {"sure": True}}
    await mcp_client.update_task(at(server), task.id, {"sure": said})
    waiting = await mcp_client.get_task(at(server), task.id)
    assert waiting.questions is not None
    assert list(waiting.questions.requests) == ["visit"]
    await mcp_client.update_task(at(server), task.id, {"visit": {"action": "decline"}})
    assert (await mcp_client.get_task(at(server), task.id)).status == "working"
    assert box.only.responses == {"sure": said, "visit": {"action": "decline"}}


async def test_a_task_is_cancelled_by_its_id(mcp_server: StartServer) -> None:
    box = TaskBox()
    server = mcp_server("modern", box)
    task = await begun(server)
    await mcp_client.cancel_task(at(server), task.id)
    assert (await mcp_client.get_task(at(server), task.id)).status == "cancelled"
    assert server.count("notifications/cancelled") == 0


@pytest.mark.parametrize("use", [mcp_client.get_task, mcp_client.cancel_task])
async def test_a_task_that_the_server_does_not_know_is_its_error(mcp_server: StartServer, use: Any) -> None:
    server = mcp_server("modern", TaskBox())
    with pytest.raises(mcp_client.RpcError) as refusal:
        await use(at(server), "no-such-task")
    assert (refusal.value.rpc_code, refusal.value.sent, refusal.value.outcome_unknown) == (-32602, False, False)


async def test_looking_at_a_task_counts_as_no_call(mcp_server: StartServer) -> None:
    server = mcp_server("modern", TaskBox())
    task = await begun(server)
    server.behave(kinds.only_on("tasks/get", kinds.drops))
    with pytest.raises(mcp_client.ConnectionLost) as loss:
        await mcp_client.get_task(at(server), task.id)
    assert (loss.value.sent, loss.value.outcome_unknown) == (False, False)
    assert server.count("tools/call") == 1


async def test_an_id_that_no_header_carries_is_encoded(mcp_server: StartServer) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says(SEED | {"taskId": "tâche 7"}))
    assert (await mcp_client.get_task(at(server), "tâche 7")).id == "tâche 7"
    (request,) = server.requests
    encoded = base64.b64encode("tâche 7".encode()).decode()
    assert request.headers["mcp-name"] == f"=?base64?{encoded}?="
    assert request.headers["mcp-method"] == "tasks/get"


async def test_the_handshake_era_has_no_such_tasks(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    with pytest.raises(mcp_client.EraChanged):
        await mcp_client.get_task(at(server, "legacy"), "t-1")
    assert server.requests == []


@pytest.mark.parametrize(
    "members",
    [
        {"taskId": None},
        {"taskId": ""},
        {"taskId": "t" * 1001},
        {"taskId": "t\0"},
        {"status": "sleeping"},
        {"status": ["working"]},
    ],
)
async def test_a_handle_that_cannot_be_followed_leaves_the_outcome_open(
    mcp_server: StartServer, members: dict[str, Any]
) -> None:
    server = mcp_server("modern")
    server.behave(kinds.says({"resultType": "task", **SEED, **members}))
    with pytest.raises(mcp_client.BadAnswer) as fault:
        await mcp_client.call_tool(at(server), "echo", {"text": "x"})
    assert fault.value.outcome_unknown


@pytest.mark.parametrize("status", ["working", "completed", "failed", "input_required", "cancelled"])
def test_a_new_handle_is_working_until_the_server_is_asked(status: str) -> None:
    task = results.new_task(SEED | {"status": status})
    assert (task.status, task.result, task.error, task.questions) == ("working", None, None, None)


@pytest.mark.parametrize(
    ("told", "seconds"), [(None, 5), (250, 1), (0, 1), (7000, 7), (10**9, 300), (-1, 5), ("9", 5), (True, 5)]
)
def test_the_pace_of_polling_is_kept_within_reason(told: Any, seconds: float) -> None:
    assert results.task(SEED | {"pollIntervalMs": told}, "t-1").poll_interval == seconds


@pytest.mark.parametrize(
    "state",
    [
        {"taskId": "t-2"},
        {"status": "sleeping"},
        {"status": None},
        {"status": "completed"},
        {"status": "completed", "result": "x"},
        {"status": "completed", "result": {"content": 5}},
        {"status": "input_required", "inputRequests": [1]},
    ],
)
def test_a_state_that_breaks_the_protocol_is_a_bad_answer(state: dict[str, Any]) -> None:
    with pytest.raises(mcp_client.BadAnswer):
        results.task(SEED | state, "t-1")


def test_a_task_that_wants_a_model_wants_more_than_a_person() -> None:
    sampling = {"a": {"method": "sampling/createMessage", "params": {}}}
    with pytest.raises(mcp_client.NeedsMore):
        results.task(SEED | {"status": "input_required", "inputRequests": sampling}, "t-1")


def test_a_failure_without_a_reason_is_still_a_failure() -> None:
    failed = results.task(SEED | {"status": "failed", "statusMessage": "m" * 9999}, "t-1")
    assert failed.error is not None
    assert (failed.error.rpc_code, len(failed.error.rpc_message), len(failed.message)) == (-32603, 500, 2000)


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_members = st.sampled_from(
    ["status", "statusMessage", "ttlMs", "pollIntervalMs", "inputRequests", "result", "error", "taskId"]
)
_statuses = st.sampled_from(["working", "input_required", "completed", "failed", "cancelled"])


@given(st.dictionaries(_members, _json), _statuses, st.booleans())
def test_any_state_is_read_or_refused(members: dict[str, Any], status: str, kept: bool) -> None:
    raw = SEED | members | ({"status": status} if kept else {})
    for read in (results.new_task, lambda state: results.task(state, "t-1")):
        try:
            task = read(raw)
        except (mcp_client.BadAnswer, mcp_client.NeedsMore):
            continue
        assert 1 <= task.poll_interval <= 300
        assert (task.result is not None) == (task.status == "completed")
        assert (task.error is not None) == (task.status == "failed")
        assert (task.questions is not None) == (task.status == "input_required")
