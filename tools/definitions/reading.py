"""Reading a tool's definition generously where it can be read in one way only; what is read is what is passed on. Pure.

PHP writes `[]` for an empty object and numbers the members of a list, other languages write null for what is left out.
What we do not use (output schema, annotations, icons, execution, `_meta`) is left out where it is odd, and never
decides whether a tool can be used. What is read may still be wrong: `schemas` and `mcp_client.listing` judge it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from tools.definitions import dialects
from tools.definitions.keywords import LIST_OF_SCHEMAS, NAMED_SCHEMAS, ONE_SCHEMA, REFERENCES, all_schemas, rebuilt

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_LISTS: Final = frozenset({"enum", "examples", "required", "type"})
_NAMED: Final = NAMED_SCHEMAS | {"dependentRequired", "$vocabulary"}
_WORDS: Final = frozenset({"title", "description", "$comment", "format", "contentMediaType", "contentEncoding"})
_FLAGS: Final = frozenset({"deprecated", "readOnly", "writeOnly"})
_OTHERS: Final = frozenset(
    {
        "$anchor", "$dynamicAnchor", "$id", "$schema", "exclusiveMaximum", "exclusiveMinimum", "id", "maxContains",
        "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "pattern", "uniqueItems",
    }
)  # fmt: skip
# Of these null is left out; of `const` and `default` it is a value, and of a keyword that nobody knows it may be one.
_NEVER_NULL: Final = ONE_SCHEMA | LIST_OF_SCHEMAS | _NAMED | _LISTS | _WORDS | _FLAGS | _OTHERS | REFERENCES
# What generators write into names, such as List<String>.
_NOT_IN_A_URI: Final = re.compile(r'[<>"{}|\\^` ]|[^\x00-\x7f]|%(?![0-9A-Fa-f]{2})')
_DEEPEST: Final = 64  # levels; what is deeper cannot be used, and would exhaust the stack
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


def read(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a definition as it is read: itself, unless something in it is odd."""
    whole = {name: member for name, member in definition.items() if member is not None or name == "name"}
    if "inputSchema" in definition:
        schema = _schema(definition["inputSchema"] if whole.get("inputSchema") else {})
        later = isinstance(schema, dict) and dialects.has_boolean_bounds(schema)
        whole["inputSchema"] = _bounded(schema) if later else schema
    if (said := whole.get("description")) is False or said in ([], {}):
        del whole["description"]
    unused = {
        "title": _text, "outputSchema": _output, "annotations": _annotations, "icons": _icons,
        "execution": _execution, "_meta": _object,
    }  # fmt: skip
    for name, reader in unused.items():
        if name in whole and (member := reader(whole.pop(name))) is not None:
            whole[name] = member
    return {name: whole[name] for name in definition if name in whole}


def tools(member: Any) -> Any:
    """Return the list of a page's tools, also one that is left out, that Go wrote as null or PHP as an object."""
    member = _numbered(member)
    if isinstance(member, dict) and isinstance(member.get("name"), str):
        return [member]  # of one tool, by what makes JSON of XML
    return [] if member is None or member == {} else member


def _text(member: Any) -> Any:
    return member if isinstance(member, str) else None


def _object(member: Any) -> Any:
    return member if isinstance(member, dict) else None


def _icons(member: Any) -> Any:
    return [icon for icon in member if isinstance(icon, dict)] if isinstance(member, list) else None


def _annotations(member: Any) -> Any:
    """Return the annotations without a hint that is no boolean: what decides safety is not guessed."""
    if not isinstance(member, dict):
        return None
    odd = {name for name in _HINTS if name in member and not isinstance(member[name], bool)}
    odd |= {"title"} if not isinstance(member.get("title", ""), str) else set()
    return {name: each for name, each in member.items() if name not in odd}


def _execution(member: Any) -> Any:
    if not isinstance(member, dict):
        return None
    return {name: each for name, each in member.items() if name != "taskSupport" or isinstance(each, str)}


def _output(member: Any) -> Any:
    """Return the output schema; None for one that leads elsewhere, which a caller might follow."""
    if not isinstance(member, dict):
        return None
    schema = _schema(member)
    references = (each.get(name) for each in all_schemas(schema) for name in REFERENCES)
    inside = all(found is None or (isinstance(found, str) and found.startswith("#")) for found in references)
    return schema if inside else None


def _schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    read = {keyword: _member(keyword, member) for keyword, member in schema.items() if not _left_out(schema, keyword)}
    if demanded := _demanded(schema.get("properties")):
        named = read.get("required")
        read["required"] = [*(named if isinstance(named, list) else []), *demanded]
    if isinstance(read.get("required"), list):
        read["required"] = _once(read["required"])
    return read


def _left_out(schema: dict[str, Any], keyword: str) -> bool:
    """Tell whether a member of a schema says nothing."""
    member = schema[keyword]
    if member is None:
        return keyword in _NEVER_NULL
    if keyword in _WORDS:
        return not isinstance(member, str)
    if keyword in _FLAGS:
        return not isinstance(member, bool)
    empty = member in ([], {})
    listed = keyword in _LISTS or keyword in LIST_OF_SCHEMAS - ONE_SCHEMA
    return (
        (keyword == "type" and (_is_any(member) or (isinstance(member, list) and any(map(_is_any, member)))))
        or (keyword == "required" and isinstance(member, bool))  # draft-03's, see `_demanded`
        or (keyword == "$schema" and member == "")
        or (empty and keyword in _NAMED and isinstance(member, list))
        or (empty and listed and isinstance(member, dict))
        or (empty and keyword in {"type", "allOf", "prefixItems"})
    )


def _member(keyword: str, member: Any) -> Any:
    """Return one member of a schema as it is read."""
    if keyword in _LISTS or keyword in LIST_OF_SCHEMAS - ONE_SCHEMA:
        member = _numbered(member)
    if keyword in LIST_OF_SCHEMAS and isinstance(member, list) and (member or keyword not in ONE_SCHEMA):
        return [{} if each == [] else _schema(each) for each in member]
    if keyword in ONE_SCHEMA:
        return {} if member == [] else _schema(member)
    if keyword in NAMED_SCHEMAS and isinstance(member, dict):
        names = keyword == "dependencies"  # whose lists are names, also when they are empty
        return {
            name: _schema({} if each is None or (each == [] and not names) else each) for name, each in member.items()
        }
    if keyword == "type":
        return [_type(each) for each in _once(member)] if isinstance(member, list) else _type(member)
    if keyword == "enum" and isinstance(member, list):
        return _once(member)
    if keyword in REFERENCES and isinstance(member, str) and member.startswith("#"):
        return _NOT_IN_A_URI.sub(lambda found: quote(found.group()), member)
    return [member] if keyword == "examples" and not isinstance(member, list) else member


def _numbered(member: Any) -> Any:
    """Return the list that PHP wrote as an object because numbers were missing: {"0": "a", "2": "b"}."""
    if isinstance(member, dict) and member and all(map(_NUMBER.fullmatch, member)):
        return [member[key] for key in sorted(member, key=int)]
    return member


def _is_any(name: Any) -> bool:
    """Tell whether a type is draft-03's for every value."""
    return isinstance(name, str) and name.lower() == "any"


def _bounded(schema: dict[str, Any], level: int = 0) -> dict[str, Any]:
    """Return a schema with draft-04's exclusive bounds as later drafts write them; without a bound it stays wrong."""
    if level > _DEEPEST:
        return schema
    read = rebuilt(schema, lambda each: _bounded(each, level + 1) if isinstance(each, dict) else each)
    for exclusive, bound in dialects.EXCLUSIVE.items():
        if read.get(exclusive) is False:
            del read[exclusive]
        elif read.get(exclusive) is True and bound in read:
            read[exclusive] = read.pop(bound)
    return read


def _type(name: Any) -> Any:
    return name.lower() if isinstance(name, str) and name.lower() in _TYPES else name


def _once(values: list[Any]) -> list[Any]:
    """Return a list without what is in it twice."""
    if all(type(value) is str for value in values):
        return list(dict.fromkeys(values))
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True), value)
    return list(found.values())


def _demanded(properties: Any) -> list[str]:
    """Return the names of the properties that say of themselves that they are required, as in draft-03."""
    if not isinstance(properties, dict):
        return []
    return [name for name, each in properties.items() if isinstance(each, dict) and each.get("required") is True]
