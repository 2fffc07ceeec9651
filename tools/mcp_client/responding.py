"""Whether a person's responses fit a server's questions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs

from tools import schemas
from tools.mcp_client.forms import FORMATS
from tools.mcp_client.shapes import Question, Questions
from tools.schemas import Fault, pointer

_ACTIONS: Final = ("accept", "decline", "cancel")
_FORMATS: Final = {
    name: jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True) for name in FORMATS
}


def answer_faults(questions: Questions, responses: Any) -> list[Fault]:
    """Return the faults of all responses, by key: one is missing, answers no question, or does not fit it."""
    if not isinstance(responses, dict):
        return [Fault("", "The responses are a JSON object, one member for each question.")]
    found = [Fault(pointer([key]), "There is no such question.") for key in responses if key not in questions.requests]
    for key, question in questions.requests.items():
        if key in responses:
            found += [
                Fault(pointer([key]) + fault.pointer, fault.message) for fault in faults(question, responses[key])
            ]
        else:
            found.append(Fault(pointer([key]), "This question has no response."))
    return found


def faults(question: Question, response: Any) -> list[Fault]:
    """Return what is wrong with one response, as JSON Pointers into it; an empty list means that it fits."""
    if not isinstance(response, dict):
        return [Fault("", "A response is a JSON object with an action.")]
    found = [Fault(pointer([name]), "Unknown member.") for name in response if name not in ("action", "content")]
    action = response.get("action")
    if action not in _ACTIONS:
        return [*found, Fault("/action", "The action is one of accept, decline, cancel.")]
    content = response.get("content")
    if action != "accept" or question.schema is None:
        return found if content is None else [*found, Fault("/content", "Only an accepted form has content.")]
    return found + _content_faults(question.schema, {} if content is None else content)


def _content_faults(schema: Mapping[str, Any], content: Any) -> list[Fault]:
    closed = {**schema, "additionalProperties": False}
    found = schemas.compile(closed).faults(content) or _format_faults(schema["properties"], content)
    return [Fault("/content" + fault.pointer, fault.message) for fault in found]


def _format_faults(fields: Mapping[str, Any], content: Mapping[str, Any]) -> list[Fault]:
    expected = ((name, value, fields[name].get("format")) for name, value in content.items())
    return [
        Fault(pointer([name]), f"This is no valid {form}.")
        for name, value, form in expected
        if form is not None and not _FORMATS[form].is_valid(value)
    ]
