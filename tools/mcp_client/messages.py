"""JSON-RPC messages as servers write them, read where they can mean one thing only. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from connections.words import together, words_in
from tools.mcp_client import forms
from tools.mcp_client.errors import BadAnswer
from tools.mcp_client.shapes import Progress
from tools.payloads.tool_results import seen

NO_CODE: Final = 0  # of an error that has none
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")  # as text
_MOST_EXACT: Final = 2.0**53  # of whole numbers that were read as a float
_MOST_DIGITS: Final = 20  # of a code that is text
_VERSIONS: Final = (None, "2.0", "2", 2)
_MOST_OF_A_NAME: Final = 100  # characters of a log's level and name
_MOST_OF_A_STEP: Final = 2_000  # characters of a progress message


@dataclass(frozen=True, slots=True)
class Fault:
    """The `error` member of an answer; `ours` when it carries the id of our request."""

    code: int
    message: str
    data: Any
    ours: bool


def answer_among(value: Any, number: int | None, handle: Callable[[dict[str, Any]], None]) -> Any:
    """Return the answer in the value of a whole response, which may be a list; `handle` gets what is no answer.

    Of several answers it is the one that carries our number.
    """
    if not isinstance(value, list):
        return value
    answers = [message for message in value if is_answer(message)]
    for message in value:
        if isinstance(message, dict) and isinstance(message.get("method"), str) and not is_answer(message):
            handle(message)
    if len(answers) > 1:
        answers = [answer for answer in answers if is_ours(answer.get("id"), number)] or answers
    if len(answers) > 1:
        raise BadAnswer(f"The server answered one request with {len(answers)} answers.")
    if not answers:
        raise BadAnswer("The server's answer is a list without an answer in it.")
    return answers[0]


def is_answer(message: Any) -> bool:
    """Tell whether this has the form of an answer, whoever's it is."""
    return isinstance(message, dict) and (message.get("result") is not None or message.get("error") is not None)


def is_ours(id_: Any, number: int | None) -> bool:
    """Tell whether an answer's id is that of our request; some servers give it back as text or as 7.0."""
    if isinstance(id_, str):
        return id_.strip() in (f"{number}", f"{number}.0")
    return isinstance(id_, int | float) and not isinstance(id_, bool) and id_ == number


def read(message: Any, number: int | None, method: str, *, refusal: bool = False) -> Fault | dict[str, Any]:
    """Return the error or the result of the answer to a request; raises `BadAnswer`, which says what was seen.

    An error may carry any id, as servers put 0 or some text there, and it cannot be taken for a result: a result must
    carry ours. In a `refusal` (HTTP 4xx) an `error` of text is one only then: frameworks write the status there.
    """
    if not isinstance(message, dict):
        raise BadAnswer(f"The server's answer is no JSON-RPC message: it is {seen(message)}.")
    if message.get("jsonrpc") not in _VERSIONS:
        raise BadAnswer("The server's answer is no JSON-RPC message: its `jsonrpc` is not 2.0.")
    id_, error, result = message.get("id"), message.get("error"), message.get("result")
    ours = is_ours(id_, number)
    if result is not None and isinstance(error, dict) and _says_nothing(error):
        error = None
    is_status = refusal and isinstance(error, str) and not ours
    if error and not is_status and (fault := _fault(error, ours=ours)) is not None:
        return fault
    if error and result is None and not refusal:
        return Fault(NO_CODE, words_in(error), None, ours)
    if error is None and result is None:
        raise BadAnswer("The server's answer has neither `result` nor `error`.")
    if not ours:
        raise BadAnswer(f"The server's answer {'has no id' if id_ is None else 'belongs to another request'}.")
    if method == "tools/call" and isinstance(result, str | list):
        return {"content": result}
    if not isinstance(result, dict):
        raise BadAnswer(f"The server's answer has no result that can be read: it is {seen(result)}.")
    return result


def _says_nothing(error: dict[str, Any]) -> bool:
    """Tell whether an error is an empty structure, which Go and C# write beside each result."""
    return not any(error.get(name) for name in error)


def progress_in(message: dict[str, Any], number: int | None) -> Progress | None:
    """Return the progress that a notification tells of the request; None for any other message."""
    params = message.get("params")
    if message.get("method") != "notifications/progress" or not isinstance(params, dict):
        return None
    done, total, text = _number_in(params.get("progress")), _number_in(params.get("total")), params.get("message")
    if not is_ours(params.get("progressToken"), number) or done is None:
        return None
    return Progress(done, total, forms.shown(text, _MOST_OF_A_STEP) if isinstance(text, str) else None)


def log_line_in(message: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return level, logger and text of a log notification; None for any other message."""
    params = message.get("params")
    if message.get("method") != "notifications/message" or not isinstance(params, dict) or params.get("data") is None:
        return None
    data = params["data"]
    if isinstance(data, dict) and isinstance(data.get("message", data.get("msg")), str) and len(data) == 1:
        data = next(iter(data.values()))
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    level, logger = params.get("level"), params.get("logger")
    return (
        level[:_MOST_OF_A_NAME] if isinstance(level, str) else "info",
        logger[:_MOST_OF_A_NAME] if isinstance(logger, str) else "",
        text,
    )


def words_of(fault: Fault) -> str:
    """Return what a server says about an error: its message, and what its data has besides that people can read."""
    return together(fault.message, words_in(fault.data))


def _fault(error: Any, *, ours: bool) -> Fault | None:
    if isinstance(error, str):
        return Fault(NO_CODE, error, None, ours)
    if not isinstance(error, dict) or not error:
        return None
    code, message = error.get("code"), error.get("message")
    if isinstance(code, str) and code.strip().removeprefix("-").isascii() and code.strip().removeprefix("-").isdigit():
        code = int(code) if len(code) <= _MOST_DIGITS else NO_CODE
    elif isinstance(code, float) and code.is_integer():
        code = int(code) if abs(code) < _MOST_EXACT else NO_CODE  # what is told is what was sent
    if not isinstance(code, int) or isinstance(code, bool):
        if not isinstance(message, str):
            return None
        code = NO_CODE
    if not isinstance(message, str):
        return Fault(code, words_in({name: error[name] for name in error if name != "data"}), error.get("data"), ours)
    return Fault(code, message, error.get("data"), ours)


def _number_in(value: Any) -> float | None:
    """Return a number, also one that is written as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
