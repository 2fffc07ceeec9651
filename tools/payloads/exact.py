"""Numbers that a parser would change in silence: integers beyond 64 bits, decimals that no float holds. Pure.

orjson reads 12345678901234567890123 as 1.2345678901234568e22. Where numbers must come back as they were written, JSON
in which one is `needed` is read by `loads`, or kept as `RawJson`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from math import isinf
from typing import Any, Final

import orjson

_MOST_LOOKED_AT: Final = 200  # values; to look at as many takes as long as to scan 10 KB of text
_LONG: Final = 16  # digits; a number with fewer is held, unless it has an exponent
_MOST_COMPARED: Final = 400  # characters of a number that is compared; a longer one counts as not held
_DIGITS: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
_TOKENS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|-?[0-9][0-9.eE+-]*', re.DOTALL)
_MOST_BITS: Final = (-(2**63), 2**64 - 1)
_SURE_DIGITS: Final = 18  # of an integer that has 64 bits at most
_FEW_DIGITS: Final = 20


def may_have_floats(value: Any) -> bool:
    """Tell whether a value that orjson has parsed has a float, or is too large to be looked through.

    orjson makes a float of each number that it changes. So without one none was changed, however long the text is.
    """
    values = [value]
    for each in values:
        if isinstance(each, float):
            return True
        if isinstance(each, dict):
            values.extend(each.values())
        elif isinstance(each, list):
            values.extend(each)
        if len(values) > _MOST_LOOKED_AT:
            return True
    return False


def needed(text: bytes) -> bool:
    """Tell whether JSON has a number that would be changed; most JSON is looked at twice, at the speed of a copy."""
    digits = text.translate(_DIGITS)
    if b"0" not in digits or (b"0" * _LONG not in digits and b"0e" not in digits):
        return False
    return any(
        is_changed(token.decode())
        for token in (found.group() for found in _TOKENS.finditer(text))
        if not token.startswith(b'"') and (len(token) >= _LONG or b"e" in token or b"E" in token)
    )


def is_changed(number: str) -> bool:
    """Tell whether a number of JSON has another value once it was read and written."""
    if len(number) > _MOST_COMPARED:
        return True
    if not set(number) & {".", "e", "E"}:
        digits = len(number.removeprefix("-"))
        least, most = _MOST_BITS
        return digits > _SURE_DIGITS and (digits > _FEW_DIGITS or not least <= int(number) <= most)
    try:
        read = repr(float(number))
        return read != number and Decimal(number) != Decimal(read)
    except (InvalidOperation, ValueError):
        return True


def loads(text: bytes, keep: Callable[[str], Any] = orjson.Fragment) -> Any:
    """Parse JSON; numbers that would be changed become fragments, which orjson writes as they were (or see `keep`).

    Raises ValueError, also for JSON that is nested too deeply.
    """

    def integer(number: str) -> Any:
        return keep(number) if is_changed(number) else int(number)

    def decimal(number: str) -> Any:
        return keep(number) if is_changed(number) else float(number)

    try:
        return json.loads(text, parse_int=integer, parse_float=decimal, parse_constant=_refused)
    except RecursionError as error:
        raise ValueError from error


def text_of(fragment: orjson.Fragment) -> str:
    """Return a number as it was written."""
    return orjson.dumps(fragment).decode()


def beyond_all_floats(value: Any, pointer: str = "") -> str | None:
    """Return the JSON Pointer of the first number in a value from `loads` that is larger than any float, or None."""
    if isinstance(value, orjson.Fragment):
        return pointer if isinf(float(text_of(value))) else None
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        step = str(name).replace("~", "~0").replace("/", "~1")
        if (found := beyond_all_floats(member, f"{pointer}/{step}")) is not None:
            return found
    return None


def _refused(name: str) -> Any:
    raise ValueError(name)
