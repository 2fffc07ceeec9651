"""The arguments of a call before it is made: whether they fit the tool, their digest, and how they are stored."""

from __future__ import annotations

import orjson

from connections import offload
from connections.offload import Broken, Crowded, TooMuchWork
from tools.calls import idempotency
from tools.definitions.checks import Checker
from tools.definitions.schemas import Fault
from tools.errors import ArgumentsRefused, ArgumentsTooComplex, LimitReached
from tools.payloads.raw_json import Json, RawJson, encode

_COME_AGAIN = 5.0  # seconds


async def check(arguments: Json, checker: Checker, *, tenant: object, text: bytes | None = None) -> None:
    """Raise ArgumentsRefused if they do not fit, ArgumentsTooComplex if that takes too long to find out, or Crowded.

    `text` are the same arguments as JSON, where they have been serialized.
    """
    try:
        faults = await checker.faults(arguments, tenant=str(tenant), text=text)
    except TooMuchWork as error:
        raise ArgumentsTooComplex from error
    if faults:
        raise ArgumentsRefused(faults)


async def check_later(arguments: Json, checker: Checker, *, tenant: object) -> None:
    """Do what `check` does for a queued call; raises LimitReached (so it is tried later) if it cannot be done now."""
    try:
        await check(arguments, checker, tenant=tenant)
    except (Crowded, Broken) as error:
        raise LimitReached(error.sentence, code="organization_busy", retry_after=_COME_AGAIN) from error


async def key_of(
    header: str | None, tool: str, arguments: Json, session: str, *, tenant: object
) -> idempotency.Key | None:
    """Return the idempotency key of a request; raises as `idempotency.key_of` does, and Crowded."""
    if header is None or not isinstance(arguments, RawJson):
        return idempotency.key_of(header, tool, arguments, session)
    (in_order,) = await offload.run("tools.offload_jobs:in_order", arguments.json, tenant=str(tenant))
    return idempotency.key_of(header, tool, orjson.Fragment(in_order), session)


def as_json(arguments: Json) -> bytes:
    """Return arguments as they are stored; raises ArgumentsRefused if they are nested too deeply."""
    try:
        return encode(arguments)
    except TypeError as error:  # orjson parses deeper nesting than it serializes
        raise ArgumentsRefused([Fault("", "The arguments are nested too deeply.")]) from error
