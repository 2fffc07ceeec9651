"""An example of what a JSON Schema asks for, made from what the schema itself says. Pure.

Only what is required is filled in. Whether it fits is for the caller to check: a pattern, for one, is not solved here.
"""

from __future__ import annotations

from typing import Any, Final

_DEEPEST: Final = 12
_MOST_ITEMS: Final = 3
_LONGEST: Final = 40  # characters of a text
_BY_FORMAT: Final = {
    "date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "time": "12:00:00Z", "email": "ada@example.com",
    "uri": "https://example.com", "url": "https://example.com", "hostname": "example.com", "ipv4": "192.0.2.1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}  # fmt: skip


class NoExample(Exception):
    """The schema asks for more than can be guessed."""


def arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return example arguments for a tool's `inputSchema`; raises NoExample."""
    found = _example(schema, schema, "", 0)
    if not isinstance(found, dict):
        raise NoExample
    return found


def _example(schema: Any, root: dict[str, Any], name: str, depth: int) -> Any:
    if schema is True or schema == {}:
        return name or "text"
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise NoExample
    schema = _followed(schema, root)
    if (said := _said(schema)) is not None:
        return said[0]
    for word in ("oneOf", "anyOf"):
        if isinstance(choices := schema.get(word), list):
            rest = {key: value for key, value in schema.items() if key != word}
            return _first_of([rest | choice for choice in choices if isinstance(choice, dict)], root, name, depth)
    return _of_kind(schema, root, name, depth)


def _said(schema: dict[str, Any]) -> tuple[Any] | None:
    """Return what the schema itself gives as a value."""
    if "const" in schema:
        return (schema["const"],)
    for word in ("examples", "enum"):
        if isinstance(given := schema.get(word), list) and given:
            return (given[0],)
    for word in ("default", "example"):
        if schema.get(word) is not None:
            return (schema[word],)
    return None


def _followed(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with a reference within the document followed, and what `allOf` adds."""
    parts = [part for part in schema.get("allOf", []) if isinstance(part, dict)]
    if isinstance(reference := schema.get("$ref"), str):
        target: Any = root
        for step in reference.removeprefix("#/").split("/") if reference.startswith("#/") else [""]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        parts.append(target if isinstance(target, dict) else {"type": "unknown"})
    merged = {key: value for key, value in schema.items() if key not in {"allOf", "$ref"}}
    for part in parts:
        for key, value in part.items():
            if key == "properties" and isinstance(value, dict):
                merged[key] = {**value, **merged.get(key, {})}
            elif key == "required" and isinstance(value, list):
                merged[key] = [*merged.get(key, []), *value]
            else:
                merged.setdefault(key, value)
    return {key: value for key, value in merged.items() if key not in {"allOf", "$ref"}}  # circles must end


def _first_of(choices: list[dict[str, Any]], root: dict[str, Any], name: str, depth: int) -> Any:
    for choice in choices:
        try:
            return _example(choice, root, name, depth + 1)
        except NoExample:
            continue
    raise NoExample


def _of_kind(schema: dict[str, Any], root: dict[str, Any], name: str, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    match kind or ("object" if "properties" in schema else "string"):
        case "object":
            return _object(schema, root, depth)
        case "array":
            least = schema.get("minItems", 0)
            if not isinstance(least, int) or least > _MOST_ITEMS:
                raise NoExample
            return [_example(schema.get("items", True), root, name, depth + 1) for _ in range(least)]
        case "string":
            return _text(schema, name)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
    raise NoExample


def _object(schema: dict[str, Any], root: dict[str, Any], depth: int) -> dict[str, Any]:
    required, known = schema.get("required", []), schema.get("properties", {})
    if not isinstance(required, list) or not isinstance(known, dict):
        raise NoExample
    return {name: _example(known.get(name, True), root, name, depth + 1) for name in map(str, required)}


def _text(schema: dict[str, Any], name: str) -> str:
    text = _BY_FORMAT.get(str(schema.get("format")), name or "text")
    least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST)
    if not isinstance(least, int) or not isinstance(most, int) or least > _LONGEST:
        raise NoExample
    return text.ljust(least, "x")[:most]


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1 if whole else None)
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if not all(one is None or isinstance(one, int | float) for one in (step, least, most)):
        raise NoExample
    value = least if least is not None else most if most is not None and most < 1 else 1
    if "exclusiveMinimum" in schema and value == schema["exclusiveMinimum"]:
        value += step or 1
    if step:
        value = -(-value // step) * step
    return int(value) if whole or value == int(value) else value
