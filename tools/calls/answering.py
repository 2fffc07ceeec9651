"""What a call's server asks in the middle, answered by the program or a person, or by nobody in time.

    answer             takes the responses and lets the call go on (synchronous); `answer_here` on an event loop
    answer_for_nobody  answers `cancel` to what nobody has answered in time

An answer goes to the server that asked, for the question that was shown, and only if nothing that the call needs has
ended.
"""

from __future__ import annotations

from typing import Any

import orjson
from django.utils import timezone

from connections import egress
from connections.errors import SealBroken, SealKeyUnknown
from connections.threads import in_thread
from tools import mcp_client
from tools.calls import ending, offers, pubsub
from tools.definitions.schemas import Fault
from tools.errors import AnswersRefused, Ended, InputDeclined, NotAsked, OrganizationSuspended, ToolReplaced
from tools.mcp_client import Questions
from tools.models import Call
from tools.models.call_states import AskedIn, CallState
from tools.models.calls import CallQuerySet


def answer(call: Call, responses: dict[str, Any], *, asked: str = "") -> None:
    """Take the responses, by key, to what a call's server asked, and let the call go on; from synchronous code.

    With `asked`, the id of a question, they are for that one only. Raises NotAsked when nothing (or something else) is
    asked, AnswersRefused when a response does not fit its question, Ended or OrganizationSuspended when no answer may
    be sent any more, and ToolReplaced, with the call ended, when another server than the one that asked would get it.
    """
    question = _asked(call, responses, asked)
    _refuse_faults(egress.run(_faults(call, question, responses)))
    _take(call, question, responses)


async def answer_here(call: Call, responses: dict[str, Any], *, asked: str = "") -> None:
    """Do what `answer` does on an event loop, which must not wait for a check."""
    question = await in_thread(_asked, call, responses, asked, of=call.tenant_id)
    _refuse_faults(await _faults(call, question, responses))
    await in_thread(_take, call, question, responses, of=call.tenant_id)


def answer_for_nobody(call: Call) -> None:
    """Answer `cancel` to everything that a call asks; a question that cannot be opened ends it as unknown."""
    try:
        question = call.question() or {"requests": {}}
        answer(call, {key: {"action": "cancel"} for key in question["requests"]})
    except (NotAsked, Ended, OrganizationSuspended, ToolReplaced):  # somebody was quicker, or nothing may be sent
        return
    except SealKeyUnknown:  # the next sweep, perhaps another process's, can open it
        return
    except SealBroken as broken:  # one row that cannot be opened must not stop the sweep of the others
        Call.objects.filter(pk=call.pk).end(CallState.OUTCOME_UNKNOWN, broken.code, broken.sentence, timezone.now())


def _asked(call: Call, responses: dict[str, Any], asked: str) -> dict[str, Any]:
    """Return what a call asks; raises as `answer` does if these responses cannot be for it."""
    question = call.question() if call.state == CallState.INPUT_REQUIRED and not call.sealed_answers else None
    if question is None:
        raise NotAsked
    if call.asked_in != AskedIn.STREAM and (other := offers.replaced(call, under_way=call.asked_in == AskedIn.TASK)):
        raise ending.end_as_replaced(call, _still_asking(call), other)
    ending.check_or_stop(call)
    _check_depth(responses)
    if asked and asked != question.get("id"):
        raise NotAsked("The call asks something else by now. Look at it again; nothing was sent.")
    return question


def _still_asking(call: Call) -> CallQuerySet:
    """Return the call's row if it still asks the same question."""
    return Call.objects.filter(pk=call.pk, state=CallState.INPUT_REQUIRED, sealed_question=call.sealed_question)


async def _faults(call: Call, question: dict[str, Any], responses: dict[str, Any]) -> list[Fault]:
    return await mcp_client.answer_faults(Questions.restored(question), responses, tenant=str(call.tenant_id))


def _refuse_faults(faults: list[Fault]) -> None:
    if faults:
        raise AnswersRefused(faults)


def _take(call: Call, question: dict[str, Any], responses: dict[str, Any]) -> None:
    now = timezone.now()
    if call.asked_in == AskedIn.RESULT and _visit_is_declined(question, responses):
        if not _still_asking(call).end(CallState.FAILED, InputDeclined.code, InputDeclined().sentence, now):
            raise NotAsked
        return
    if not _still_asking(call).answer(call.seal(responses), now):
        raise NotAsked
    pubsub.notify_workers()


def _visit_is_declined(question: dict[str, Any], responses: dict[str, Any]) -> bool:
    """Tell whether a URL had to be visited before the tool runs at all, and was not: it would only ask again."""
    first = question["state"] is None and all(asked["mode"] == "url" for asked in question["requests"].values())
    return first and any(response["action"] != "accept" for response in responses.values())


def _check_depth(responses: dict[str, Any]) -> None:
    try:
        orjson.dumps(responses)
    except TypeError as error:  # orjson parses deeper nesting than it serializes
        raise AnswersRefused([Fault("", "The answers are nested too deeply.")]) from error
