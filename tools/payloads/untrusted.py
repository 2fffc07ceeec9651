"""Untrusted JSON, parsed and checked without rows, sockets or Django. Pure.

A separate process does this for what is large (`tools/offload_jobs.py`), the event loop for what is small.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from tools.payloads.raw_json import has_more_than

# Deeper JSON than this could be read but never written again (orjson writes 254 levels).
MAX_DEPTH: Final = 200
_ESCAPES: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)", re.DOTALL)
_HALF: Final = re.compile(rb"\\u[dD][89abcdefABCDEF]..")


class NotJson(ValueError):
    """This is not JSON."""


class TooDeep(ValueError):
    """This JSON is nested too deeply."""


def read(body: bytes) -> Any:
    """Return the value of a server's JSON; raises NotJson and TooDeep."""
    try:
        value = orjson.loads(body)
    except ValueError:
        value = _read_with_lone_surrogates(body)
    # JSON with few brackets cannot be deep; only the rest is serialized to find out.
    if has_more_than(MAX_DEPTH, (b"{", b"["), body):
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise TooDeep from error
    return value


def _read_with_lone_surrogates(body: bytes) -> Any:
    # JavaScript cuts strings in the middle of an emoji and writes the half as an escape, which strict parsers refuse.
    def mend(escape: re.Match[bytes]) -> bytes:
        return b"\\ufffd" if _HALF.fullmatch(escape.group()) else escape.group()

    try:
        return orjson.loads(_ESCAPES.sub(mend, body))
    except ValueError as error:
        raise NotJson from error


def are_blocks(content: Any) -> bool:
    """Tell whether this is a list of content blocks."""
    return isinstance(content, list) and all(isinstance(block, dict) for block in content)


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
