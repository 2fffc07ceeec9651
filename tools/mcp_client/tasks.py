"""Calls that go on at their server: polled, answered and cancelled by the task's id (SEP-2663, 2026-07-28).

In the handshake era only tools that run in no other way are called as tasks (2025-11-25). Such a task has its outcome
in an answer of its own, and its questions, which come on a stream that would have to be held open, are not answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tools.mcp_client import eras, results
from tools.mcp_client.calling import exchange, in_known_era
from tools.mcp_client.errors import EraChanged, RpcError
from tools.mcp_client.responses import Reply
from tools.mcp_client.sessions import IN_THIS_PROCESS, Sessions
from tools.mcp_client.shapes import Response, Server, Task


async def get_task(server: Server, task_id: str, kept_in: Sessions = IN_THIS_PROCESS) -> Task:
    """Return the state of a task; poll again after `poll_interval` seconds until it is finished.

    `kept_in` says in which session of the handshake era it was begun, to which the server may bind it. Raises
    `RpcError` for a task that the server does not know (any more), `NeedsMore` for one that wants what no person gives,
    and every other `McpError`; none of them says that the task has ended.
    """
    server = await in_known_era(server)
    reply = await _ask(server, "tasks/get", task_id, kept_in)
    if server.era != "legacy":
        return results.task(eras.settle(reply), task_id, reply.large)
    task = results.task_of_2025_11(eras.settle(reply), task_id)
    if task.status not in {"completed", "failed"}:
        return task
    reply = await _ask(server, "tasks/result", task_id, kept_in)
    try:
        return replace(task, result=results.tool_result(eras.settle(reply), reply.large))
    except RpcError as error:
        return replace(task, error=error)


async def update_task(server: Server, task_id: str, responses: Mapping[str, Response]) -> None:
    """Answer questions of a task, by their keys; the server may go on showing them for a while."""
    eras.settle(await _ask(server, "tasks/update", task_id, IN_THIS_PROCESS, inputResponses=responses))


async def cancel_task(server: Server, task_id: str, kept_in: Sessions = IN_THIS_PROCESS) -> None:
    """Ask the server to stop a task, which it may do later or never; raises as `get_task` does."""
    eras.settle(await _ask(server, "tasks/cancel", task_id, kept_in))


async def _ask(server: Server, method: str, task_id: str, kept_in: Sessions, **params: Any) -> Reply:
    server = await in_known_era(server)
    if server.era == "legacy" and not server.as_task:  # the extension came with the modern era
        raise EraChanged
    return await exchange(server, method, {"taskId": task_id, **params}, kept_in=kept_in)
