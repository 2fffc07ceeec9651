"""The forms that a server may have a person fill in: flat objects of simple fields (elicitation, requested schema).

Pure. `read` keeps what a form can show and check, and drops the rest; nested schemas are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from tools.definitions import schemas
from tools.definitions.schema_cost import MOST_AT_ONCE
from tools.mcp_client.errors import BadQuestion

MAX_FIELDS: Final = 100
MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_NAME: Final = 200
MAX_TITLE: Final = 200
MAX_DESCRIPTION: Final = 2_000
FORMATS: Final = frozenset({"date", "date-time", "email", "uri"})

_RANGE: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_CHECKED: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern"),
    "number": _RANGE,
    "integer": _RANGE,
    "boolean": (),
    "array": ("minItems", "maxItems", "uniqueItems"),
}
_NESTING: Final = frozenset(
    {
        "$dynamicRef",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "patternProperties",
        "prefixItems",
        "properties",
        "then",
    }
)


def read(schema: Any) -> dict[str, Any]:
    """Return the form's schema, reduced to what is known here; raises `BadQuestion` for what is no flat form."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise BadQuestion("The form that the server asks to fill in is no object of fields.")
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise BadQuestion(f"The form that the server asks to fill in is larger than {MAX_SCHEMA_BYTES // 1024} KiB.")
    fields = schema.get("properties", {})
    if not isinstance(fields, dict) or len(fields) > MAX_FIELDS:
        raise BadQuestion(f"The form that the server asks to fill in has no fields, or more than {MAX_FIELDS}.")
    if not all(0 < len(name) <= MAX_NAME and name.isprintable() for name in fields):
        raise BadQuestion(f"A field's name is empty, longer than {MAX_NAME} characters or not printable.")
    required = schema.get("required") or []
    if not isinstance(required, list) or not all(isinstance(name, str) and name in fields for name in required):
        raise BadQuestion("The form that the server asks to fill in requires a field that it does not have.")
    form: dict[str, Any] = {"type": "object", "properties": {name: _field(field) for name, field in fields.items()}}
    _check(form)
    for name, field in fields.items():
        _take_default(form["properties"][name], field)
    return form | {"required": list(dict.fromkeys(required))} if required else form


def shown(text: str, limit: int) -> str:
    """Return untrusted text for people to read: without NUL, and visibly cut where it is too long."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _field(field: Any) -> dict[str, Any]:
    if not isinstance(field, dict) or not isinstance(field.get("type"), str) or field["type"] not in _CHECKED:
        raise BadQuestion("A field of the server's form is neither text, number, yes or no, nor a choice.")
    kind = field["type"]
    read_field = {"type": kind} | {name: field[name] for name in _CHECKED[kind] if field.get(name) is not None}
    read_field |= _choices(kind, field)
    if kind == "string" and field.get("format") in FORMATS:
        read_field["format"] = field["format"]
    for name, limit in (("title", MAX_TITLE), ("description", MAX_DESCRIPTION)):
        if isinstance(field.get(name), str):
            read_field[name] = shown(field[name], limit)
    return read_field


def _check(form: dict[str, Any]) -> None:
    """Refuse a form that is broken, or too much work to compile and check on the event loop."""
    try:
        light = schemas.weigh(form).light
        if light:
            schemas.compile(form)
    except schemas.SchemaBroken as error:
        raise BadQuestion("A field of the server's form is broken.") from error
    if not light:
        raise BadQuestion("The form that the server asks to fill in has too many or too long patterns or choices.")


def _take_default(read_field: dict[str, Any], field: dict[str, Any]) -> None:
    """Keep a field's default, unless the field itself refuses it: then a person would have to delete it first."""
    default = field.get("default")
    if default is None or schemas.weigh(read_field).work(default, orjson.dumps(default)) > MOST_AT_ONCE:
        return
    if not schemas.compile(read_field).faults(default):
        read_field["default"] = default


def _choices(kind: str, field: dict[str, Any]) -> dict[str, Any]:
    """Return the members that make a field a choice; raises `BadQuestion` for every other nested schema."""
    nested = field.keys() & _NESTING
    if kind == "array" and nested == {"items"} and isinstance(field["items"], dict):
        items = field["items"]
        if items.get("type", "string") == "string" and (one := _one_of(items, "anyOf") or _one_of(items, "oneOf")):
            return {"items": ({"type": "string"} if "type" in items else {}) | one}
    elif kind == "string" and nested <= {"oneOf"} and ("enum" in field or nested):
        if one := _one_of(field, "oneOf"):
            return one
    elif not nested and kind != "array" and "enum" not in field:
        return {}
    raise BadQuestion("A field of the server's form nests other fields, or offers no choices.")


def _one_of(schema: dict[str, Any], titled: str) -> dict[str, Any] | None:
    if "enum" in schema:
        values = schema["enum"]
        if not _texts(values):
            return None
        names: Any = schema.get("enumNames")
        if not _texts(names) or len(names) != len(values):
            return {"enum": values}
        return {"enum": values, "enumNames": [shown(name, MAX_TITLE) for name in names]}
    options = schema.get(titled)
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        return None
    if not _texts([option.get("const") for option in options]):
        return None
    titles = [str(option.get("title") or option["const"]) for option in options]
    return {
        titled: [
            {"const": option["const"], "title": shown(title, MAX_TITLE)}
            for option, title in zip(options, titles, strict=True)
        ]
    }


def _texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)
