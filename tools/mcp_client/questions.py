"""What a server asks a person in the middle of a call, read and checked. No I/O.

A modern server ends its answer with questions (2026-07-28, multi round-trip requests) or a task waits for them; one of
the handshake era asks on the open stream (elicitation), or refuses a call until somebody visited an address (-32042).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tools.mcp_client import forms
from tools.mcp_client.errors import BadQuestion, NeedsMore
from tools.mcp_client.shapes import Question, Questions

INPUT_REQUIRED: Final = "input_required"
ELICITATION: Final = "elicitation/create"
MAX_QUESTIONS: Final = 20
MAX_MESSAGE: Final = 2_000
MAX_KEY: Final = 200
MAX_STATE: Final = 64 * 1024
MAX_URL: Final = 2_048
_MAX_ID: Final = 1_000
# A browser takes a backslash for a slash, and with it another host than the one that was shown.
_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")


def of_result(result: Mapping[str, Any]) -> Questions:
    """Read an `input_required` result; without requests, its state alone is to be sent back at once.

    Raises `NeedsMore` for what no person answers, or if there are neither requests nor a state, and `BadQuestion`.
    """
    state = result.get("requestState")
    if state is not None and (not isinstance(state, str) or len(state) > MAX_STATE):
        raise BadQuestion("The server's question comes with a state that is no text or too long.")
    questions = Questions(of_requests(result.get("inputRequests")), state)
    if not questions.requests and state is None:
        raise NeedsMore(INPUT_REQUIRED)
    return questions


def of_requests(requests: Any) -> dict[str, Question]:
    """Read the `inputRequests` of a result or a task; raises `NeedsMore` (sampling, roots) and `BadQuestion`."""
    if requests is None:
        return {}
    if not isinstance(requests, dict) or len(requests) > MAX_QUESTIONS:
        raise BadQuestion(f"The server's questions are no JSON object, or more than {MAX_QUESTIONS}.")
    return {_key(key): _asked(request) for key, request in requests.items()}


def of_message(message: Mapping[str, Any]) -> Questions:
    """Read an `elicitation/create` request from an open stream: one question, its key the request's id."""
    return Questions({_key(str(message["id"])): of_params(message.get("params"))})


def of_refusal(data: Any) -> Questions:
    """Read the data of error -32042: addresses to visit before the call is made again (2025-11-25)."""
    asked = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(asked, list) or not 0 < len(asked) <= MAX_QUESTIONS:
        raise BadQuestion("The server asks for a visit and names no address, or too many.")
    requests: dict[str, Question] = {}
    for position, params in enumerate(asked, start=1):
        question = of_params(params)
        if question.mode != "url":
            raise BadQuestion("The server asks for a visit and names no address.")
        requests[_key(question.elicitation_id or str(position))] = question
    return Questions(requests)


def of_params(params: Any) -> Question:
    """Read one elicitation; a message that is too long is visibly cut. Raises `BadQuestion`."""
    if not isinstance(params, dict) or not isinstance(params.get("message"), str):
        raise BadQuestion("A question of the server has no message.")
    message = forms.shown(params["message"], MAX_MESSAGE)
    mode = params.get("mode")
    if mode in (None, "form"):
        return Question("form", message, schema=forms.read(params.get("requestedSchema")))
    if mode != "url":
        raise BadQuestion("A question of the server has a mode that is not known here.")
    name = params.get("elicitationId")
    known = name if isinstance(name, str) and 0 < len(name) <= _MAX_ID else None
    return Question("url", message, url=_url(params.get("url")), elicitation_id=known)


def _asked(request: Any) -> Question:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise BadQuestion("A question of the server is no request.")
    if request["method"] != ELICITATION:
        raise NeedsMore(INPUT_REQUIRED)
    return of_params(request.get("params"))


def _key(key: str) -> str:
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise BadQuestion(f"A question's key is empty, longer than {MAX_KEY} characters or not printable.")
    return key


def _url(url: Any) -> str:
    if not isinstance(url, str) or len(url) > MAX_URL or not _URL_CHARACTERS.fullmatch(url):
        raise BadQuestion("The address that the server asks a person to visit is no URL or too long.")
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise BadQuestion("The address that the server asks a person to visit is no URL.") from error
    if not fits or "@" in parts.netloc:
        raise BadQuestion("The address that the server asks a person to visit is not plain http or https.")
    return url
