"""What a tool asks back in the middle of a call, and what it hears (2026-07-28, multi round-trip requests). No I/O.

We tell servers that nobody here can be asked. One that asks a person all the same hears that the person made no
choice (`cancel`), and decides itself what becomes of the call.
"""

from __future__ import annotations

from typing import Any, Final

from tools.mcp_client.errors import NeedsMore

INPUT_REQUIRED: Final = "input_required"
_DISMISSED: Final = {"action": "cancel"}


def further_params(result: dict[str, Any]) -> dict[str, Any]:
    """Return what the repeated call carries besides its arguments, the server's state unread and unchanged.

    Raises `NeedsMore` when the server asks for something that nobody can refuse politely, or for nothing.
    """
    requests = result.get("inputRequests") or {}
    state = result.get("requestState")
    if not isinstance(requests, dict) or not (requests or isinstance(state, str)):
        raise NeedsMore(INPUT_REQUIRED)
    if not all(isinstance(asked, dict) and asked.get("method") == "elicitation/create" for asked in requests.values()):
        raise NeedsMore(INPUT_REQUIRED)
    further: dict[str, Any] = {"inputResponses": dict.fromkeys(requests, _DISMISSED)} if requests else {}
    if isinstance(state, str):
        further["requestState"] = state
    return further
