"""Which keywords of JSON Schema hold schemas, from draft-04 to 2020-12, so that data is never taken for a schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

ONE_SCHEMA: Final = frozenset(
    {
        "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
LIST_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})  # older drafts list `items`
NAMED_SCHEMAS: Final = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)
REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def rebuilt(
    schema: dict[str, Any], inner: Callable[[Any], Any], other: Callable[[str, Any], Any] = lambda _, member: member
) -> dict[str, Any]:
    """Return a schema with `inner` of each schema directly in it, and `other` of each member that holds none."""
    return {keyword: _rebuilt(keyword, member, inner, other) for keyword, member in schema.items()}


def _rebuilt(keyword: str, member: Any, inner: Callable[[Any], Any], other: Callable[[str, Any], Any]) -> Any:
    if isinstance(member, dict) and keyword in ONE_SCHEMA:
        return inner(member)
    if isinstance(member, list) and keyword in LIST_OF_SCHEMAS:
        return [inner(each) for each in member]
    if isinstance(member, dict) and keyword in NAMED_SCHEMAS:
        # The lists in `dependencies` are names.
        lists = keyword == "dependencies"
        return {
            name: other(keyword, each) if lists and isinstance(each, list) else inner(each)
            for name, each in member.items()
        }
    return other(keyword, member)


def all_schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and every schema within it that is an object."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            yield found
            for keyword, member in found.items():
                if isinstance(member, dict) and keyword in NAMED_SCHEMAS:
                    waiting.extend(each for each in member.values() if isinstance(each, dict))
                elif (isinstance(member, dict) and keyword in ONE_SCHEMA) or (
                    isinstance(member, list) and keyword in LIST_OF_SCHEMAS
                ):
                    waiting.append(member)
