"""JSON that is too large to be parsed on the event loop is kept as bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from tools.payloads import exact

SMALL: Final = 64 * 1024  # bytes; parsing as many takes 6 ms, if they are nothing but small objects
_LONGEST_TEXT: Final = 1024 * 1024  # bytes; parsing one string of so many takes half a millisecond
_MOST_MARKS: Final = 8_000
_MARKS: Final = (b",", b"[", b"{", b"\\")


class RawJson:
    """A JSON value as bytes; whoever creates one has made sure that they are valid JSON."""

    __slots__ = ("json",)

    def __init__(self, json: bytes) -> None:
        """Take the bytes."""
        self.json = json

    @property
    def fragment(self) -> orjson.Fragment:
        """The value, to be embedded in something that orjson serializes."""
        return orjson.Fragment(self.json)


Json = dict[str, Any] | RawJson  # an object


def encode(value: Any) -> bytes:
    """Return a value as JSON; raises TypeError for one that is nested too deeply."""
    return value.json if isinstance(value, RawJson) else orjson.dumps(value)


def is_small(text: bytes) -> bool:
    """Tell whether JSON may be parsed on the event loop: it is short, or consists mostly of long strings."""
    if len(text) <= SMALL:
        return True
    return len(text) <= _LONGEST_TEXT and not has_more_than(_MOST_MARKS, _MARKS, text)


def has_more_than(most: int, marks: Iterable[bytes], text: bytes) -> bool:
    """Tell whether a text has more than `most` of these marks; it jumps from one to the next, as there are few."""
    for mark in marks:
        at = text.find(mark)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(mark, at + 1)
    return False


def read(text: bytes) -> Any:
    """Parse JSON if it is small and its numbers stay as they are, else return it as `RawJson`.

    Raises ValueError for small text that is no JSON; what is returned as `RawJson` may be none either.
    """
    if not is_small(text):
        return RawJson(text)
    try:
        value = orjson.loads(text)
    except ValueError:
        if exact.needed(text):  # one that is larger than any float, say
            return RawJson(text)
        raise
    return RawJson(text) if exact.may_have_floats(value) and exact.needed(text) else value
