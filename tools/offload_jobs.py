"""Jobs that run in a separate process, on untrusted bytes: see `connections.offload`. Nothing here imports Django.

compile    tells whether a schema can be compiled
check      checks a value against a schema
body       checks the body of a request, and returns the one member that it may have
in_order   sorts the members of a value, for digests
picked     returns the few members of arguments that are also sent as headers
answer     divides a server's response into the members that decide what happens next, and the result as it is stored
split      divides a result into what stays in it, and the pieces that it links to
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import orjson

from tools.definitions import schemas
from tools.payloads import dividing, exact, splitting, untrusted


def compile(schema: bytes) -> list[bytes]:  # noqa: A001 - as in `schemas`
    """Return why a schema cannot be used, or nothing, and the seconds of CPU time that this took."""
    reason, began = "", time.process_time()
    try:
        _compiled(schema)
    except schemas.SchemaBroken as broken:
        reason = broken.sentence
    return [reason.encode(), b"%f" % (time.process_time() - began)]


def check(schema: bytes, value: bytes) -> list[bytes]:
    """Return the faults of a value as JSON: pairs of a pointer and a message."""
    faults = _compiled(schema).faults(orjson.loads(value))
    return [orjson.dumps([[fault.pointer, fault.message] for fault in faults])]


def body(text: bytes, name: bytes, not_an_object: bytes) -> list[bytes]:
    """Return the faults of a body as JSON, and its member, serialized again.

    Of a body that is not JSON there are no faults, and why is in the member's place, "" if there is no more to say.
    """
    try:
        value = _exactly(text) if exact.needed(text) else orjson.loads(text)
    except ValueError:
        return [b"", untrusted.HALVES.encode() if untrusted.has_halves(text) else b""]
    member = name.decode()
    too_deep = {"pointer": f"/{member}", "code": "schema", "detail": "This is nested too deeply."}
    try:
        place = exact.beyond_all_floats(value)
    except RecursionError:
        return [orjson.dumps([too_deep]), b""]
    if place is not None:
        too_large = {"pointer": place[:1_000], "code": "schema", "detail": "This number is too large for any tool."}
        return [orjson.dumps([too_large]), b""]
    if faults := untrusted.member_faults(value, member, not_an_object.decode()):
        return [orjson.dumps(faults), b""]
    try:
        return [b"[]", orjson.dumps(value.get(member, {}))]
    except TypeError:
        return [orjson.dumps([too_deep]), b""]


def _exactly(text: bytes) -> Any:
    """Parse JSON with its numbers as they are; raises ValueError also for what orjson refuses, and json reads."""
    text.decode()
    if untrusted.has_halves(text):
        raise ValueError(untrusted.HALVES)
    return exact.loads(text)


def in_order(value: bytes) -> list[bytes]:
    """Return a value with the members of its objects sorted by name."""
    return [orjson.dumps(exact.loads(value), option=orjson.OPT_SORT_KEYS)]


def picked(value: bytes, paths: bytes) -> list[bytes]:
    """Return an object with only the members at these paths; those that are objects or lists are left out."""
    whole, chosen = exact.loads(value), dict[str, Any]()
    for path in orjson.loads(paths):
        node: Any = whole
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if node is None or isinstance(node, dict | list):
            continue
        target = chosen
        for step in path[:-1]:
            target = target.setdefault(step, {})
        # A header is text: a number that parsing would change is sent as it was written.
        target[path[-1]] = exact.text_of(node) if isinstance(node, orjson.Fragment) else node
    return [orjson.dumps(chosen)]


def answer(text: bytes, method: bytes) -> list[bytes]:
    """Return a server's message without the content of its result, and that result: see `dividing.divide`."""
    return dividing.divide(text, method)


def split(result: bytes, address: bytes) -> list[bytes]:
    """Return the rest of a result; as JSON number, media type and digest of each piece; and the bytes of each piece.

    `address` is what the pieces' URLs begin with.
    """
    beginning = address.decode()
    left, pieces = splitting.split(exact.loads(result), length=len(result), link=lambda number: f"{beginning}{number}")
    known = [[piece.number, piece.media_type, piece.digest] for piece in pieces]
    return [dividing.kept(left), orjson.dumps(known), *(piece.data for piece in pieces)]


@lru_cache(maxsize=4)
def _compiled(schema: bytes) -> schemas.Validator:
    return schemas.compile(orjson.loads(schema))
