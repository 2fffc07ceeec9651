"""A server of 2025-11-25 with a tool that runs only as a task: `mcp_server("legacy", box)`, with `box.rule` before it.

The tool `report` is done after as many polls as a test says. Its outcome is had by `tasks/result` alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.servers.kinds import respond
from tests.servers.running import Incoming, McpServer, Receive, Send
from tests.servers.toolbox import text

UNKNOWN = {"code": -32602, "message": "Failed to retrieve task: Task not found"}
NO_TASK = {"code": -32601, "message": "Task augmentation required for tools/call requests"}


@dataclass
class OldTasks:
    """What becomes of a call as a task; the members are the options of a test."""

    polls: int = 1  # until it has ended
    status: str = "completed"  # what it is then
    outcome: dict[str, Any] = field(default_factory=lambda: {"result": text("The report.")})
    support: Any = "required"
    forgets: bool = False
    interval: Any = 1000
    asked: list[dict[str, Any]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    @property
    def tool(self) -> dict[str, Any]:
        """The definition as it is listed."""
        return {"name": "report", "inputSchema": {"type": "object"}, "execution": {"taskSupport": self.support}}

    async def rule(self, _: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        """Answer what is about the tool and its tasks."""
        method, answer = request.rpc_method, None
        params = request.message.get("params") if request.message else None
        if method == "tools/list":
            answer = {"result": {"tools": [self.tool]}}
        elif method == "tools/call":
            self.asked.append(params)
            answer = {"result": {"task": self.state}} if "task" in params else {"error": NO_TASK}
        elif method.startswith("tasks/"):
            self.used.append(method)
            assert params["taskId"] == "t-1"
            answer = {"error": UNKNOWN} if self.forgets else self._task(method)
        if answer is None:
            return False
        body = json.dumps({"jsonrpc": "2.0", "id": request.rpc_id, **answer}).encode()
        return await respond(send, 200, body)

    @property
    def state(self) -> dict[str, Any]:
        """The task as the server tells it."""
        now = "2026-11-28T06:00:00Z"
        status = "working" if self.polls > 0 else self.status
        stamps = {"createdAt": now, "lastUpdatedAt": now, "ttl": 60_000, "pollInterval": self.interval}
        return {"taskId": "t-1", "status": status, "statusMessage": "Collecting the figures", **stamps}

    def _task(self, method: str) -> dict[str, Any]:
        if method == "tasks/result":
            assert self.polls <= 0, "the outcome is asked for when there is one"
            return self.outcome
        if method == "tasks/cancel":
            self.polls, self.status = 0, "cancelled"
        self.polls -= 1
        return {"result": self.state}
