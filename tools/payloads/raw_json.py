"""JSON that is too large to be read where others wait: it stays as it is written. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

SMALL: Final = 64 * 1024  # bytes; reading as many takes 6 ms, if they are nothing but small objects
_LONGEST_TEXT: Final = 1024 * 1024  # bytes; reading one text of so many takes half a millisecond
_MOST_MARKS: Final = 8_000
_MARKS: Final = (b",", b"[", b"{", b"\\")


class RawJson:
    """A JSON value as bytes, which are JSON: who made it has seen to that."""

    __slots__ = ("json",)

    def __init__(self, json: bytes) -> None:
        """Take the bytes."""
        self.json = json

    @property
    def fragment(self) -> orjson.Fragment:
        """The value as a part of something larger that is written."""
        return orjson.Fragment(self.json)


Json = dict[str, Any] | RawJson  # an object


def encode(value: Any) -> bytes:
    """Return a value as JSON; raises TypeError for one that is nested too deeply."""
    return value.json if isinstance(value, RawJson) else orjson.dumps(value)


def is_small(text: bytes) -> bool:
    """Tell whether JSON can be read where others wait: it is short, or little else than long texts."""
    if len(text) <= SMALL:
        return True
    return len(text) <= _LONGEST_TEXT and not has_more_than(_MOST_MARKS, _MARKS, text)


def has_more_than(most: int, marks: Iterable[bytes], text: bytes) -> bool:
    """Tell whether more than so many marks are in a text; it jumps from one to the next, as most texts have few."""
    for mark in marks:
        at = text.find(mark)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(mark, at + 1)
    return False


def read(text: bytes) -> Any:
    """Read our own JSON if it is small, else leave it as it is."""
    return orjson.loads(text) if is_small(text) else RawJson(text)
