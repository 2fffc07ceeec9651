"""What a tool accepts: a JSON Schema, compiled once, whose references are never fetched.

Pure: no row, no socket. `compile(schema).faults(arguments)` names every fault of a call's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
import orjson

from connections.errors import DuvoError
from tools.definitions import dialects, patterns
from tools.definitions.expansion import Expansion, expand
from tools.definitions.schema_cost import LIGHT_PATTERNS, SchemaCost, cost_of, weight_of

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_SCHEMA_DEPTH: Final = 64
MAX_EXPANDED: Final = 500_000  # nodes; checking a value walks them in some 20 ms, and nothing else runs meanwhile
MAX_PATTERNS: Final = 500
MAX_FAULTS: Final = 50
MAX_EXPLAINED_BYTES: Final = 64 * 1024  # jsonschema-rs finds every fault before it yields the first: 7 s for 5 MB
MAX_MESSAGE: Final = 300
_MAX_DIALECT: Final = 100

_DIALECTS: Final[Mapping[str, type[jsonschema_rs.Validator]]] = {
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
}

# Linear time first; look-around and back-references need the other engine, which gives up after so many steps.
_PATTERN_ENGINES: Final = (
    jsonschema_rs.RegexOptions(size_limit=1_000_000),
    jsonschema_rs.FancyRegexOptions(backtrack_limit=50_000, size_limit=1_000_000),
)


class SchemaBroken(DuvoError):
    """This JSON Schema cannot be used."""

    code = "schema_broken"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of an instance: where (JSON Pointer, RFC 6901) and what."""

    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Validator:
    """A compiled schema."""

    _compiled: jsonschema_rs.Validator
    _expansion: Expansion

    def faults(self, instance: Any) -> list[Fault]:
        """Return the faults of a JSON value, at most 50; an empty list means that it fits."""
        try:
            if self._compiled.is_valid(instance):
                return []
            if len(orjson.dumps(instance)) > MAX_EXPLAINED_BYTES:
                return [Fault("", "This value does not fit the schema, and it is too large to say where.")]
            if not self._expansion.explainable(instance):
                return [Fault("", "This value does not fit the schema, which refers to itself too often to say where.")]
            return [
                Fault(pointer(error.instance_path), _capped(error.message))
                for error, _ in zip(self._compiled.iter_errors(instance), range(MAX_FAULTS), strict=False)
            ]
        except (ValueError, TypeError):
            return [Fault("", "This value is nested too deeply or is not JSON.")]


def weigh(schema: Any) -> SchemaCost:
    """Return how much work a JSON Schema is, without compiling it.

    Raises `SchemaBroken` with the reason: not an object, too large (256 KiB), too deep (64 levels), expanding too
    far (500,000 nodes), more than 500 patterns, or an unknown dialect.
    """
    if not isinstance(schema, dict):
        raise SchemaBroken("The schema is not a JSON object.")
    written = _check_size(schema)
    _dialect_of(schema)
    try:
        expansion = expand(schema)
    except RecursionError as error:
        raise SchemaBroken("The schema's references form too long a chain.") from error
    if expansion.size > MAX_EXPANDED:
        raise SchemaBroken("The schema's references multiply: checking arguments would take too long.")
    cost = cost_of(schema, written, expansion)
    if cost.patterns > MAX_PATTERNS:
        too_many = f"The schema has more than {MAX_PATTERNS} patterns."
        raise SchemaBroken(too_many)
    return cost


def compile(schema: Any) -> Validator:  # noqa: A001  -- `schemas.compile(...)` is how it is read
    """Compile a JSON Schema of the draft that `$schema` names or its keywords belong to; `format` is not asserted.

    A pattern that ECMA-262 knows and the engine does not is not checked: see `unchecked`.
    Raises `SchemaBroken` as `weigh` does, and for an invalid keyword or a reference that leads outside the schema.
    What `weigh` does not call light may take seconds, and nothing else runs meanwhile: see `tools.definitions.checks`.
    """
    cost = weigh(schema)
    return Validator(_compile_with(_dialect_of(schema), schema), cost.expansion)


def pointer(path: list[str | int]) -> str:
    """Write a path as a JSON Pointer (RFC 6901, section 3)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def unchecked(schema: dict[str, Any]) -> frozenset[str]:
    """Return the patterns of a schema that are well formed, but that the engine lacks: values are not checked there.

    May take as long as compiling the schema.
    """
    found = {pattern for pattern in patterns.of(schema) if weight_of(pattern) <= LIGHT_PATTERNS}
    return frozenset(pattern for pattern in found if patterns.well_formed(pattern) and _is_lacking(pattern))


def _dialect_of(schema: dict[str, Any]) -> str:
    if "$schema" not in schema or dialects.is_unsaid(schema["$schema"]):
        return dialects.guessed(schema)
    if (dialect := dialects.named(schema["$schema"])) is None:
        named = _capped(orjson.dumps(schema["$schema"]).decode(), _MAX_DIALECT)
        unknown = f"The schema's `$schema` names a dialect that is not known here: {named}"
        raise SchemaBroken(unknown)
    return dialect


def _check_size(schema: dict[str, Any]) -> bytes:
    """Return the schema as it is written."""
    try:
        written = orjson.dumps(schema)
    except (TypeError, ValueError) as error:
        raise SchemaBroken("The schema is nested too deeply.") from error
    if len(written) > MAX_SCHEMA_BYTES:
        too_large = f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB."
        raise SchemaBroken(too_large)
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return written
    too_deep = f"The schema is nested more than {MAX_SCHEMA_DEPTH} levels deep."
    raise SchemaBroken(too_deep)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _compile_with(dialect: str, schema: dict[str, Any]) -> jsonschema_rs.Validator:
    if "$schema" in schema:
        schema = {**schema, "$schema": dialect}
    failure: ValueError | None = None
    for engine in _PATTERN_ENGINES:
        try:
            return _DIALECTS[dialect](schema, pattern_options=engine, validate_formats=False, offline=True)
        except ValueError as error:
            failure = error
    if lacking := unchecked(schema):
        return _compile_with(dialect, patterns.without(schema, lacking))
    reason = f"The schema is invalid: {getattr(failure, 'message', 'it cannot be compiled')}"
    raise SchemaBroken(_capped(reason)) from failure


def _is_lacking(pattern: str) -> bool:
    for engine in _PATTERN_ENGINES:
        with suppress(ValueError):
            jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=engine, offline=True)
            return False
    return True


def _capped(message: str, most: int = MAX_MESSAGE) -> str:
    return message if len(message) <= most else message[: most - 1] + "…"
