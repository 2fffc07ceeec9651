"""A server whose tool `report` becomes a task (`io.modelcontextprotocol/tasks`): `mcp_server("modern", TaskBox())`.

A task is done after as many polls as the call's `polls` says, or when a test says so: `box.only.complete("…")`. It
holds its client to the extension: the capability in every request, and `Mcp-Name`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.types import RequestParams

from tests.servers.toolbox import Result, Toolbox, text

EXTENSION = "io.modelcontextprotocol/tasks"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


@dataclass
class Job:
    """One task as the server keeps it; its methods are the commands of a test."""

    polls: int
    id: str = field(default_factory=lambda: str(uuid4()))
    status: str = "working"
    message: str = "Collecting the figures"
    requests: dict[str, Any] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    interval_ms: int | None = 1_000
    ttl_ms: int | None = 3_600_000

    def complete(self, words: str = "The report.", **members: Any) -> None:
        self.status, self.outcome = "completed", {"result": text(words, **members)}

    def fail(self, code: int = -32603, message: str = "secret detail") -> None:
        self.status, self.outcome = "failed", {"error": {"code": code, "message": message}}

    def ask(self, **requests: dict[str, Any]) -> None:
        """Wait for answers; `tests.servers.asking.form` and `visit` write requests."""
        self.status, self.requests = "input_required", requests

    def polled(self) -> None:
        self.polls -= 1
        if self.status == "working" and self.polls == 0:
            self.complete()

    def answered(self, responses: dict[str, Any]) -> None:
        self.responses |= {key: said for key, said in responses.items() if key in self.requests}
        if self.status == "input_required" and self.requests.keys() <= self.responses.keys():
            self.status = "working"

    def cancel(self) -> None:
        if self.status in ("working", "input_required"):
            self.status = "cancelled"

    @property
    def seed(self) -> dict[str, Any]:
        """The task without what became of it."""
        now = datetime.now(UTC).isoformat()
        interval = {} if self.interval_ms is None else {"pollIntervalMs": self.interval_ms}
        stamps = {"createdAt": now, "lastUpdatedAt": now, "ttlMs": self.ttl_ms, **interval}
        return {"taskId": self.id, "status": self.status, "statusMessage": self.message, **stamps}

    @property
    def state(self) -> dict[str, Any]:
        """The task as `tasks/get` tells it."""
        open_requests = {key: asked for key, asked in self.requests.items() if key not in self.responses}
        asks = {"inputRequests": open_requests} if self.status == "input_required" else {}
        return {**self.seed, **asks, **self.outcome}


class TaskParams(RequestParams):
    """What the three methods of the extension take."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class TaskBox(Toolbox):
    """A box with the tool `report`, its tasks in the order they came, and how often each method was used."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.jobs: list[Job] = []
        self.used: Counter[str] = Counter()
        self.add("report", self.report, input_schema={"type": "object", "properties": {"polls": {"type": "integer"}}})

    @property
    def only(self) -> Job:
        """The one task there is."""
        (job,) = self.jobs
        return job

    async def report(self, arguments: dict[str, Any], context: Any) -> Result:
        _check_capability(context)
        job = Job(polls=arguments.get("polls", -1))
        self.jobs.append(job)
        return {"resultType": "task", **job.seed}

    def server(self) -> Server[Any]:
        server = super().server()
        server.extensions[EXTENSION] = {}
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", TaskParams, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)
        return server

    async def _get(self, context: Any, params: TaskParams) -> Result:
        job = self._find(context, params)
        job.polled()
        return job.state

    async def _update(self, context: Any, params: TaskParams) -> Result:
        job = self._find(context, params)
        if job.status not in ("working", "input_required"):
            raise MCPError(code=-32602, message="secret detail: the task has ended")
        job.answered(params.input_responses or {})
        return {}

    async def _cancel(self, context: Any, params: TaskParams) -> Result:
        self._find(context, params).cancel()
        return {}

    def _find(self, context: Any, params: TaskParams) -> Job:
        self.used[context.method] += 1
        _check_capability(context)
        if context.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(code=-32020, message="Mcp-Name does not name the task")
        for job in self.jobs:
            if job.id == params.task_id:
                return job
        raise MCPError(code=-32602, message="secret detail: no such task")


def _check_capability(context: Any) -> None:
    declared = context.params["_meta"][CAPABILITIES]
    if EXTENSION not in declared.get("extensions", {}):
        required = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(code=-32021, message="Missing required client capability", data=required)
