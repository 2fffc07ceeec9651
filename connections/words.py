"""Where the JSON of an error says in words what is wrong: JSON-RPC, RFC 6749, RFC 9457 and many more. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

# The members of an error that say what is wrong, as `_plain` writes them; what is wrong with single fields; with which.
_WORDS: Final = (
    "errordescription", "errorsummary", "message", "detail", "errormessage", "error", "fault", "faultstring", "title",
    "reason", "msg", "cause", "description", "issue", "value", "data", "errmsg", "err", "exceptionmessage", "exception",
    "usermessage", "developermessage", "hint", "mensaje", "response",
)  # fmt: skip
_OF_FIELDS: Final = (
    "errors", "details", "issues", "errormessages", "fielderrors", "violations", "invalidparams", "constraints",
    "modelstate", "validationerrors", "invalidfields",
)  # fmt: skip
_PLACES: Final = (
    "loc", "field", "fieldname", "path", "propertypath", "pointer", "instancepath", "property", "param", "parameter",
    "name",
)  # fmt: skip
_SAYS_NOTHING: Final = frozenset(  # of what frameworks fill in
    {*(status.phrase.lower() for status in HTTPStatus), "an error has occurred."}
)
_MOST_OF_A_LIST: Final = 10
_MOST_MEMBERS: Final = 100  # of an object that are looked at
_MOST_STEPS: Final = 500  # from one value into another


def words_in(value: Any) -> str:
    """Return the message in the JSON of an error (JSON-RPC, RFC 9457, RFC 6749 and what else is common), or nothing.

    What is wrong with single fields follows the message: "Invalid: city: Field required".
    """
    return _words(value, iter(range(_MOST_STEPS)))


def together(message: str, more: str) -> str:
    """Return a message with what else is said about it, unless it says so already."""
    if not more.strip() or more.strip() in message:
        return message
    return f"{message.rstrip().removesuffix(':')}: {more}" if message.strip() else more


def _words(value: Any, steps: Iterator[int]) -> str:
    """Return the message in a value, as far as the `steps` that are left lead: servers may nest what they like."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | dict) or next(steps, None) is None:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_of_one(each, steps) for each in value[:_MOST_OF_A_LIST])))
    members = _members(value)
    found = [words for name in _WORDS if (words := _words(members.get(name), steps).strip())]
    message = next((words for words in found if words.lower() not in _SAYS_NOTHING), "")
    more = next((words for name in _OF_FIELDS if (words := _of_fields(members.get(name), steps).strip())), "")
    return together(message, more) or next(iter(found), "")


def _of_one(fault: Any, steps: Iterator[int]) -> str:
    """Return the message in one of a list of faults, and the field that it is about, unless it names it."""
    words = "" if isinstance(fault, list) else _words(fault, steps)
    if not words or not isinstance(fault, dict):
        return words
    members = _members(fault)
    place = next((found for name in _PLACES if (found := members.get(name))), "")
    parts = [str(part) for part in place if isinstance(part, str | int)] if isinstance(place, list) else [place]
    field = ".".join(part for part in parts if isinstance(part, str)).strip("/#")
    return words if field.rpartition(".")[2] in words else f"{field}: {words}"


def _of_fields(faults: Any, steps: Iterator[int]) -> str:
    """Return the messages about single fields: a list of faults, or an object of them by the field's name."""
    if (words := _words(faults, steps)) or not isinstance(faults, dict):
        return words
    each = [(field, _words(fault, steps)) for field, fault in islice(faults.items(), _MOST_OF_A_LIST)]
    return "; ".join(words if field in words else f"{field}: {words}" for field, words in each if words)


def _members(value: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an object by their plain names; of two the first."""
    return {_plain(name): member for name, member in reversed([*islice(value.items(), _MOST_MEMBERS)])}


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
