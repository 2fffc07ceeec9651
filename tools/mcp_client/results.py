"""Reading the outcome of a call: a tool's result, or a task that goes on at its server. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from mcp_types import INTERNAL_ERROR

from tools.mcp_client import forms, questions
from tools.mcp_client.errors import BadAnswer, NeedsMore, RpcError
from tools.mcp_client.shapes import Questions, Task, TaskStatus, ToolResult
from tools.payloads import tool_results

TASK: Final = "task"
MAX_TASK_ID: Final = 1_000
MAX_TASK_MESSAGE: Final = 2_000
POLL_INTERVAL: Final = 5.0  # seconds, where a task names none
MIN_POLL_INTERVAL: Final = 1.0
MAX_POLL_INTERVAL: Final = 300.0
_STATUSES: Final = frozenset(get_args(TaskStatus))


def tool_result(raw: dict[str, Any], large: bytes = b"") -> ToolResult:
    """Read the result of a tools/call, whose content may be in `large`.

    Raises `NeedsMore` for another kind of result, and `BadAnswer`.
    """
    result_type = raw.get("resultType") or "complete"
    if str(result_type).strip().lower() != "complete":
        raise NeedsMore(str(result_type)[:100])
    try:
        content = tool_results.content_of(raw)
    except tool_results.Unusable as unusable:
        raise BadAnswer(str(unusable)) from unusable
    return ToolResult(content, tool_results.structured_of(raw), tool_results.is_error(raw), raw, large)


def new_task(raw: Mapping[str, Any]) -> Task:
    """Read the task that a tools/call returned; it counts as `working`, as only `tasks/get` returns its outcome."""
    return _task(raw, "working")


def of_2025_11(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as 2025-11-25 writes it, where it was new, in the words of the extension that it became."""
    return {**raw, "pollIntervalMs": raw.get("pollInterval"), "ttlMs": raw.get("ttl")}


def task_of_2025_11(raw: Mapping[str, Any], task_id: str) -> Task:
    """Read the state of a task of 2025-11-25, which is without its outcome; what it asks is not known here."""
    if raw.get("taskId") != task_id:
        raise BadAnswer("The server answered with the state of another task.")
    return _task(of_2025_11(raw), cast("TaskStatus", raw.get("status")))


def task(raw: Mapping[str, Any], task_id: str, large: bytes = b"") -> Task:
    """Read the state of a task from `tasks/get`, its result or error as if the call had been synchronous."""
    if raw.get("taskId") != task_id:
        raise BadAnswer("The server answered with the state of another task.")
    match raw.get("status"):
        case "completed":
            result = raw.get("result")
            if not isinstance(result, dict):
                raise BadAnswer("The server says that a task is completed, and gives no result.")
            return _task(raw, "completed", result=tool_result(result, large))
        case "failed":
            return _task(raw, "failed", error=_error(raw))
        case "input_required":
            return _task(raw, "input_required", asked=Questions(questions.of_requests(raw.get("inputRequests"))))
        case status:
            return _task(raw, cast("TaskStatus", status))


def _task(
    raw: Mapping[str, Any],
    status: TaskStatus,
    *,
    asked: Questions | None = None,
    result: ToolResult | None = None,
    error: RpcError | None = None,
) -> Task:
    task_id, reported = raw.get("taskId"), raw.get("status")
    if not isinstance(task_id, str) or not 0 < len(task_id) <= MAX_TASK_ID or "\0" in task_id:
        raise BadAnswer("The server's task has no id, or one that cannot be kept.")
    if not isinstance(reported, str) or reported not in _STATUSES:
        raise BadAnswer("The server's task has a status that is not known here.")
    message = raw.get("statusMessage")
    interval = _seconds(raw.get("pollIntervalMs"))
    return Task(
        id=task_id,
        status=status,
        poll_interval=min(max(POLL_INTERVAL if interval is None else interval, MIN_POLL_INTERVAL), MAX_POLL_INTERVAL),
        ttl=_seconds(raw.get("ttlMs")),
        message=forms.shown(message, MAX_TASK_MESSAGE) if isinstance(message, str) else "",
        questions=asked,
        result=result,
        error=error,
    )


def _error(raw: Mapping[str, Any]) -> RpcError:
    error = raw.get("error")
    about = error if isinstance(error, dict) else {}
    code, message = about.get("code"), about.get("message", raw.get("statusMessage"))
    return RpcError(code if isinstance(code, int) else INTERNAL_ERROR, message if isinstance(message, str) else "")


def _seconds(milliseconds: Any) -> float | None:
    fits = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool) and milliseconds >= 0
    return float(milliseconds) / 1000 if fits else None
