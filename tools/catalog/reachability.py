"""What a failed check says about whether the server can be reached. Pure."""

from __future__ import annotations

from http import HTTPStatus

from connections.errors import DuvoError
from connections.states import ReachabilityState
from tools import mcp_client

_LONGEST_WAIT = 86_400.0  # seconds that are told; what a server asks beyond that is no pause


def is_busy(error: DuvoError) -> bool:
    """Whether the server is there, and asks to come back later (429, 503)."""
    status = getattr(error, "status", None)
    if error.code == "taken_for_a_bot":  # waiting does not help
        return False
    return isinstance(error, mcp_client.McpError) and status in {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }


def of(error: DuvoError) -> tuple[ReachabilityState, str, str]:
    """Return the state, its reason and its sentence."""
    if is_busy(error):
        status = getattr(error, "status", 0)
        slow_down = status == HTTPStatus.TOO_MANY_REQUESTS
        said = "asks us to slow down" if slow_down else "is overloaded or being maintained"
        wait = getattr(error, "retry_after", None)
        when = f" It asks to wait {wait:.0f} seconds." if wait and 0 < wait <= _LONGEST_WAIT else ""
        reason = "rate_limited" if slow_down else "server_busy"
        return ReachabilityState.BUSY, reason, f"The server answers, and {said} (HTTP {status}).{when}"
    unsupported = isinstance(error, mcp_client.NotStreamableHttp | mcp_client.UnsupportedVersion)
    state = ReachabilityState.UNSUPPORTED if unsupported else ReachabilityState.UNREACHABLE
    return state, error.code, error.sentence
