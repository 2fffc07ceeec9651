"""State, progress and events of a call for its page; plain data, so that a script can update it live."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from connections import moments
from connections.ages import ago
from connections.errors import SealBroken, SealKeyUnknown
from tools.calls import offers
from tools.definitions.difference import visible
from tools.models import Call, CallEvent
from tools.models.call_states import CallState

_EVENTS_SHOWN = 100
_SENTENCES = {
    CallState.QUEUED: "It waits for a worker.",
    CallState.AWAITING_APPROVAL: "It is not sent before an organization admin has approved it.",
    CallState.RUNNING: "The server is at work.",
    CallState.INPUT_REQUIRED: "The server has asked something and waits for the answer.",
    CallState.SUCCEEDED: "The tool has answered.",
}
_STEPS = {
    CallState.AWAITING_APPROVAL: "Approve or refuse it below.",
    CallState.INPUT_REQUIRED: "Answer below.",
    CallState.OUTCOME_UNKNOWN: "Look at the server whether it has happened before anybody tries again.",
    CallState.TIMED_OUT: "Look at the server whether it has happened, or give the tool more time.",
}
_STEPS_OF_READERS = {
    CallState.AWAITING_APPROVAL: "An organization admin can approve or refuse it.",
    CallState.INPUT_REQUIRED: "An organization admin, or the program that made the call, can answer.",
}
_HINTS = {
    "readOnlyHint": ("only reads", "changes something"),
    "destructiveHint": ("may destroy", "destroys nothing"),
    "idempotentHint": ("may be repeated", "does more when repeated"),
    "openWorldHint": ("reaches the outside world", "stays within its system"),
}


def word_of(call: Call) -> tuple[str, str]:
    """Return the colour and the word of a call's state, as people read it."""
    if call.awaits_login:
        return "needs_sign_in", "Waits for a login"
    state = CallState(call.state)
    return state.value, str(state.label)


def timeline_of(call: Call, now: datetime, *, may_decide: bool) -> dict[str, Any]:
    """Return state, sentence, next step, progress and events of a call.

    `live` says whether more will come; when `stamp` changes, the whole page has to be loaded again.
    """
    events = list(call.events.select_related("call").order_by("-seq")[:_EVENTS_SHOWN])
    state = CallState(call.state)
    code, word = word_of(call)
    steps = _STEPS if may_decide else _STEPS | _STEPS_OF_READERS
    if may_decide and state == CallState.AWAITING_APPROVAL and offers.replaced(call):
        steps = steps | {state: "It cannot be approved any more: refuse it below."}
    return {
        "state": {"code": code, "label": word},
        "sentence": _sentence(call, state),
        "next_step": "" if _is_answered(call) else _to_connect(call) if call.awaits_login else steps.get(state, ""),
        "progress": "" if call.finished else _step(_opened(call)),
        "events": [_event(event, now) for event in reversed(events)],
        "live": not call.finished,
        "stamp": stamp_of(call),
    }


def stamp_of(call: Call) -> str:
    """Return what differs after each transition of the call, and after an answer, which is no transition."""
    last = call.events.filter(sealed_progress="").order_by("-seq").values_list("seq", flat=True).first()
    return f"{last}{'-answered' if _is_answered(call) else ''}"


def hints_of(call: Call) -> list[str]:
    """Return the server's annotations of the tool in words; they are hints and not to be trusted."""
    definition = (call.tool.approved_definition or {}) if call.tool else {}
    given = definition.get("annotations")
    if not isinstance(given, dict):
        return []
    return [yes if given[hint] else no for hint, (yes, no) in _HINTS.items() if isinstance(given.get(hint), bool)]


def _sentence(call: Call, state: CallState) -> str:
    if call.error_code == "tool_error":
        return "The tool itself reports an error; its result says which."
    if not call.finished and call.cancel_requested_at:
        return "It is being cancelled."
    if _is_answered(call):
        return "The answer is on its way to the server."
    if call.awaits_login:
        return f"It waits until {_owner_of(call)} has connected to {call.connection}, and is made then by itself."
    if state == CallState.RUNNING and call.sealed_task:
        return "The server works on it as a task; we ask again and again how far it is."
    return call.error_sentence or _SENTENCES.get(state, "")


def _to_connect(call: Call) -> str:
    until = moments.shown(call.waits_until) if call.waits_until else "then"
    return f"Nobody else can do that; {_owner_of(call)} finds it in the inbox. If it is not done by {until}, it ends."


def _owner_of(call: Call) -> str:
    owner = call.assignment.owner if call.assignment else None
    return owner.get_username() if owner else "the owner of its assignment"


def _is_answered(call: Call) -> bool:
    return call.state == CallState.INPUT_REQUIRED and bool(call.sealed_answers)


def _opened(row: Call | CallEvent) -> dict[str, Any] | None:
    try:
        return row.progress()
    except (SealBroken, SealKeyUnknown):
        return None


def _step(step: dict[str, Any] | None) -> str:
    if not step:
        return ""
    done, total, message = step["progress"], step["total"], visible(step["message"] or "")
    count = "" if done is None else f"{done:g} of {total:g}" if total else f"{done:g}"
    lines = [visible(f"{line['level']}: {line['text']}") for line in step.get("log", [])]
    return ", ".join(part for part in (count, message, *lines) if part)


def _event(event: CallEvent, now: datetime) -> dict[str, str]:
    label = "Progress" if event.sealed_progress else CallState(event.state).label
    return {
        "code": "progress" if event.sealed_progress else event.state,
        "label": label,
        "sentence": _step(_opened(event)) if event.sealed_progress else event.code.replace("_", " "),
        "at": moments.brief(event.at, "%H:%M:%S"),
        "ago": ago(event.at, now),
    }
