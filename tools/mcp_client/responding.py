"""Whether a person's responses fit a server's questions.

It is written once, as a generator that yields each check of a form that is to be made, so that asynchronous and
synchronous code can run it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final

import jsonschema_rs

from tools.definitions.checks import Checker, checker
from tools.definitions.schemas import Fault, pointer
from tools.mcp_client.forms import FORMATS
from tools.mcp_client.shapes import Question, Questions

_ACTIONS: Final = ("accept", "decline", "cancel")
_FORMATS: Final = {
    name: jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True) for name in FORMATS
}


Checking = Generator[tuple[Checker, dict[str, Any]], list[Fault], list[Fault]]


async def answer_faults(questions: Questions, responses: Any, *, tenant: object = None) -> list[Fault]:
    """Return the faults of all responses, by key: one is missing, answers no question, or does not fit it.

    Raises what checking a value raises: TooMuchWork, Crowded and Broken.
    """
    checking = _answer_faults(questions, responses, tenant)
    try:
        form, content = next(checking)
        while True:
            form, content = checking.send(await form.faults(content, tenant=tenant))
    except StopIteration as end:
        return list(end.value)


def faults(question: Question, response: Any, *, tenant: object = None) -> list[Fault]:
    """Return the faults of one response, from synchronous code; raises as `answer_faults` does."""
    checking = _faults(question, response, tenant)
    try:
        form, content = next(checking)
        while True:
            form, content = checking.send(form.faults_sync(content, tenant=tenant))
    except StopIteration as end:
        return list(end.value)


def _answer_faults(questions: Questions, responses: Any, tenant: object) -> Checking:
    if not isinstance(responses, dict):
        return [Fault("", "The responses are a JSON object, one member for each question.")]
    found = [Fault(pointer([key]), "There is no such question.") for key in responses if key not in questions.requests]
    for key, question in questions.requests.items():
        if key in responses:
            wrong = yield from _faults(question, responses[key], tenant)
            found += [Fault(pointer([key]) + fault.pointer, fault.message) for fault in wrong]
        else:
            found.append(Fault(pointer([key]), "This question has no response."))
    return found


def _faults(question: Question, response: Any, tenant: object) -> Checking:
    if not isinstance(response, dict):
        return [Fault("", "A response is a JSON object with an action.")]
    found = [Fault(pointer([name]), "Unknown member.") for name in response if name not in ("action", "content")]
    action = response.get("action")
    if action not in _ACTIONS:
        return [*found, Fault("/action", "The action is one of accept, decline, cancel.")]
    content = response.get("content")
    if action != "accept" or question.schema is None:
        return found if content is None else [*found, Fault("/content", "Only an accepted form has content.")]
    content = {} if content is None else content
    wrong = yield checker({**question.schema, "additionalProperties": False}, tenant=tenant), content
    wrong = wrong or _format_faults(question.schema["properties"], content)
    return [*found, *(Fault("/content" + fault.pointer, fault.message) for fault in wrong)]


def _format_faults(fields: Mapping[str, Any], content: Mapping[str, Any]) -> list[Fault]:
    expected = ((name, value, fields[name].get("format")) for name, value in content.items())
    return [
        Fault(pointer([name]), f"This is no valid {form}.")
        for name, value, form in expected
        if form is not None and not _FORMATS[form].is_valid(value)
    ]
