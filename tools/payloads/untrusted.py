"""Untrusted JSON, parsed and checked without rows, sockets or Django. Pure.

A separate process does this for what is large (`tools/offload_jobs.py`), the event loop for what is small.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

import orjson

from tools.payloads import exact
from tools.payloads.raw_json import has_more_than

# Deeper JSON than this could be read but never written again (orjson writes 254 levels).
MAX_DEPTH: Final = 200
_ESCAPES: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)", re.DOTALL)
# What Python, C, C++ and Java write for numbers that JSON does not have; strings are found to be left alone
# (an open one to its end: each byte is looked at once).
_NOT_FINITE: Final = re.compile(
    rb'("[^"\\]*(?:\\.[^"\\]*)*"?)|[-+]?(?:\b(?:nan|inf(?:inity)?)\b|\b1\.#(?:inf|qnan|snan|ind)0*\b)',
    re.IGNORECASE | re.DOTALL,
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")  # line ends and tabs, which many write into texts as they are
_HALF: Final = re.compile(rb"\\u[dD][89abcdefABCDEF]..")

HALVES: Final = (
    "Some text in the body has half a character: an escape from \\ud800 to \\udfff without its other half. "
    "Send whole characters."
)


class NotJson(ValueError):
    """This is not JSON."""


class TooDeep(ValueError):
    """This JSON is nested too deeply."""


def read(body: bytes) -> Any:
    """Return the value of a server's JSON; raises NotJson and TooDeep."""
    return read_noting(body)[0]


def read_noting(body: bytes, *, exactly: bool = False) -> tuple[Any, bool]:
    """Return the value of a server's JSON, and whether numbers that JSON cannot hold (NaN) were read as null.

    Half characters and bytes that are no UTF-8 are read as U+FFFD, as JavaScript reads them, a raw line end or tab in a
    text is that, and a byte order mark is left out. `exactly` keeps numbers that parsing would change, as `exact.loads`
    does. Raises NotJson and TooDeep.
    """
    not_finite = False
    body = _without_mark(body)
    try:
        value = orjson.loads(body)
    except ValueError:
        body, not_finite = _mended(body)
        try:
            value = (exact.loads if exactly and exact.needed(body) else orjson.loads)(body)
        except ValueError as error:
            raise NotJson from error
    else:
        if exactly and exact.may_have_floats(value) and exact.needed(body):
            value = exact.loads(body)
    # JSON with few brackets cannot be deep; only the rest is serialized to find out.
    if has_more_than(MAX_DEPTH, (b"{", b"["), body):
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise TooDeep from error
    return value, not_finite


def _without_mark(body: bytes) -> bytes:
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", "replace").encode()
    return body.removeprefix(codecs.BOM_UTF8)


def _mended(body: bytes) -> tuple[bytes, bool]:
    """Return the body without what strict parsers refuse, and whether a number was replaced by null."""

    def half(escape: re.Match[bytes]) -> bytes:
        return b"\\ufffd" if _HALF.fullmatch(escape.group()) else escape.group()

    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode("utf-8", "replace").encode()
    # JavaScript cuts strings in the middle of an emoji and writes the half as an escape.
    body = _ESCAPES.sub(half, body)
    not_finite = False

    def readable(found: re.Match[bytes]) -> bytes:
        nonlocal not_finite
        if (text := found.group(1)) is not None:
            return _CONTROL.sub(lambda raw: b"\\u%04x" % ord(raw.group()), text)
        not_finite = True
        return b"null"

    return _NOT_FINITE.sub(readable, body), not_finite


def has_halves(text: bytes) -> bool:
    """Tell whether JSON has an escape that is half a character: one surrogate without the other."""
    return b"\\u" in text and any(_HALF.fullmatch(found.group()) for found in _ESCAPES.finditer(text))


def member_faults(body: Any, name: str, not_an_object: str, *, also: str = "") -> list[dict[str, str]]:
    """Return the faults of a request's body, which may have the member `name` (an object) and `also` (a string)."""
    if not isinstance(body, dict):
        return [{"pointer": "", "code": "type", "detail": "The body is not a JSON object."}]
    faults = [
        {
            "pointer": "/" + key.replace("~", "~0").replace("/", "~1"),
            "code": "unknown",
            "detail": f"There is no such member; send only `{name}`.",
        }
        for key in body
        if key not in {name, also or name}
    ]
    if also and not isinstance(body.get(also, ""), str):
        faults.append({"pointer": f"/{also}", "code": "type", "detail": "It is not text."})
    if not isinstance(body.get(name, {}), dict):
        faults.append({"pointer": f"/{name}", "code": "type", "detail": not_an_object})
    return faults[:MOST_FAULTS]


MOST_FAULTS: Final = 50
