"""Checking values against schemas: cheap checks run in this process, all others in a separate one.

Both are untrusted: a schema comes from a server, a value from a program or a person. Checking holds the GIL, so what
may take longer than some milliseconds must not run on the event loop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from connections import offload
from connections.offload import TooMuchWork
from tools.bounded import FairCache
from tools.definitions import schema_cost, schemas
from tools.definitions.schema_cost import SchemaCost
from tools.definitions.schemas import Fault, SchemaBroken
from tools.payloads.raw_json import Json, RawJson, encode

COMPILE_SECONDS: Final = 1.5  # of CPU time; a check may take twice as long
CHECK_SECONDS: Final = 3.0
TOO_EXPENSIVE: Final = "The schema takes too long, or too much memory, to compile."
_ROOM: Final = 64 * 1024 * 1024  # bytes of the compiled schemas of all tenants, by the estimate below
_KEPT_FOR: Final = 3_600.0  # seconds
_LEAST: Final = 2_048  # bytes
_PER_BYTE: Final = 8  # bytes of a compiled schema for each byte of its JSON
_PER_WEIGHT: Final = 100  # bytes of a compiled schema for each unit of its patterns' weight


@dataclass(frozen=True, slots=True)
class Checker:
    """A schema that values can be checked against; `compiled` is None if that runs in a separate process."""

    schema: bytes = field(repr=False)
    cost: SchemaCost = field(repr=False)
    compiled: schemas.Validator | None = field(repr=False)

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        size = _LEAST + len(self.schema) * (_PER_BYTE if self.compiled else 1)
        return size + (self.cost.pattern_weight * _PER_WEIGHT if self.compiled else 0)

    async def faults(self, value: Json, *, tenant: object, text: bytes | None = None) -> list[Fault]:
        """Return the faults of a value, at most 50; raises TooMuchWork, Crowded and Broken.

        `text` is the value as JSON, where it has been serialized before.
        """
        try:
            text = encode(value) if text is None else text
        except TypeError:
            return [Fault("", "This value is nested too deeply or is not JSON.")]
        if (found := self._at_once(value, text)) is not None:
            return found
        return _read(await offload.run(CHECK, self.schema, text, tenant=tenant, seconds=CHECK_SECONDS))

    def faults_sync(self, value: Json, *, tenant: object) -> list[Fault]:
        """Do what `faults` does, from synchronous code."""
        try:
            text = encode(value)
        except TypeError:
            return [Fault("", "This value is nested too deeply or is not JSON.")]
        if (found := self._at_once(value, text)) is not None:
            return found
        return _read(offload.run_sync(CHECK, self.schema, text, tenant=tenant, seconds=CHECK_SECONDS))

    def _at_once(self, value: Json, text: bytes) -> list[Fault] | None:
        """Return the faults if the check is cheap, else None; raises TooMuchWork if it is certainly too expensive."""
        unread = isinstance(value, RawJson)
        work = self.cost.work(None if unread else value, text)
        if self.compiled is not None and not unread and work <= schema_cost.MOST_AT_ONCE:
            return self.compiled.faults(value)
        deep = unread and self.cost.expansion.recursive  # its depth is not known before it is parsed
        if work > schema_cost.MOST and not deep:
            raise TooMuchWork
        return None


CHECK: Final = "tools.offload_jobs:check"
COMPILE: Final = "tools.offload_jobs:compile"


def checker(schema: dict[str, Any], *, tenant: object) -> Checker:
    """Return the checker of a schema that was compiled before, such as an approved tool's; raises SchemaBroken.

    Equal schemas share one, whoever's they are. Each tenant has its share of the cache, so that none evicts what others
    use.
    """
    try:
        text = orjson.dumps(schema)
    except TypeError:  # the database gives 1e308 back as 309 digits
        schema = orjson.loads(json.dumps(schema))
        text = orjson.dumps(schema)
    found = _kept.get(text)
    if found is None:
        cost = schemas.weigh(schema)
        found = Checker(text, cost, schemas.compile(schema) if cost.light else None)
        _kept.put(text, found, tenant=tenant, size=found.size, seconds=_KEPT_FOR)
    return found


def unchecked(definition: Mapping[str, Any]) -> list[str]:
    """Return the patterns of a tool's input schema that arguments are not checked against, for its page."""
    schema = definition.get("inputSchema")
    try:
        light = schemas.weigh(schema).light
    except SchemaBroken:
        return []
    return sorted(schemas.unchecked(schema)) if light and isinstance(schema, dict) else []


def fault_of(schema: Any, *, tenant: object) -> tuple[str, float]:
    """Return why a schema cannot be used, or an empty string, and the seconds of CPU time that it took to know.

    For synchronous code; raises TooMuchWork, Crowded and Broken.
    """
    began = time.thread_time()
    try:
        if schemas.weigh(schema).light:
            schemas.compile(schema)
            return "", time.thread_time() - began
    except SchemaBroken as broken:
        return broken.sentence, time.thread_time() - began
    reason, seconds = offload.run_sync(COMPILE, orjson.dumps(schema), tenant=tenant, seconds=COMPILE_SECONDS)
    return reason.decode(), float(seconds)


def _read(parts: list[bytes]) -> list[Fault]:
    return [Fault(pointer, message) for pointer, message in orjson.loads(parts[0])]


_kept: FairCache[bytes, Checker] = FairCache(room=_ROOM)
