"""Which draft of JSON Schema a schema is written in: what `$schema` says, however it is spelt, else its keywords."""

from __future__ import annotations

import re
from typing import Any, Final

from tools.definitions.keywords import all_schemas

NEWEST: Final = "https://json-schema.org/draft/2020-12/schema"
_2019: Final = "https://json-schema.org/draft/2019-09/schema"
_DRAFT_4: Final = "http://json-schema.org/draft-04/schema"
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema"
_BY_NUMBER: Final = {
    "2020-12": NEWEST,
    "2019-09": _2019,
    "7": _DRAFT_7,
    "6": "http://json-schema.org/draft-06/schema",
    "4": _DRAFT_4,
}
_SPELLING: Final = re.compile(
    r"\s*(?:https?://)?(?:www\.)?json-schema\.org/draft[-/]0?(2020-12|2019-09|[467])(?:/schema(?:\.json)?)?/?#?/?\s*",
    re.IGNORECASE,
)
_OF_OPENAPI: Final = re.compile(r"\s*https?://spec\.openapis\.org/oas/3\.[1-9]/dialect/[\w-]+/?#?\s*", re.IGNORECASE)
_OF_NO_DRAFT: Final = re.compile(r"\s*(?:https?://)?(?:www\.)?json-schema\.org/schema/?#?\s*", re.IGNORECASE)
EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_SINCE_DRAFT_4: Final = frozenset(
    {"const", "contains", "propertyNames", "if", "then", "else", "dependentRequired", "dependentSchemas"}
)
_SINCE_DRAFT_7: Final = frozenset({"dependentRequired", "dependentSchemas", "$recursiveRef"})
_OF_THE_NEWEST: Final = frozenset({"prefixItems", "$dynamicRef", "$dynamicAnchor"})
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})


def named(spelling: Any) -> str | None:
    """Return the identifier of the draft that a value of `$schema` names, or None for none that is known here."""
    if not isinstance(spelling, str):
        return None
    if _OF_OPENAPI.fullmatch(spelling):
        return NEWEST  # and keywords of its own, which bind no value
    found = _SPELLING.fullmatch(spelling)
    return _BY_NUMBER[found[1]] if found else None


def is_unsaid(spelling: Any) -> bool:
    """Tell whether a value of `$schema` names JSON Schema and no draft of it, as many write for “the latest”."""
    return isinstance(spelling, str) and _OF_NO_DRAFT.fullmatch(spelling) is not None


def has_boolean_bounds(schema: dict[str, Any]) -> bool:
    """Tell whether a schema says in draft-04's way that a bound is exclusive, and is of a later draft."""
    booleans = (isinstance(each.get(bound), bool) for each in all_schemas(schema) for bound in EXCLUSIVE)
    return any(booleans) and (named(schema.get("$schema")) or guessed(schema)) != _DRAFT_4


def guessed(schema: dict[str, Any]) -> str:
    """Return the draft whose keywords a schema without `$schema` uses; the newest where they are of several.

    A boolean `exclusiveMinimum` or `exclusiveMaximum` is draft-04's, an `$id` that is only a fragment draft-06's and
    draft-07's; a list of `items` was replaced in 2020-12.
    """
    used: set[str] = set()
    boolean = listed = fragment = False
    for each in all_schemas(schema):
        used.update(each)
        boolean = boolean or any(isinstance(each.get(bound), bool) for bound in EXCLUSIVE)
        listed = listed or isinstance(each.get("items"), list) or "$recursiveRef" in each
        fragment = fragment or str(each.get("$id", "")).startswith("#")
    if used & _OF_THE_NEWEST:
        return NEWEST
    if boolean:
        return NEWEST if used & (_SINCE_DRAFT_4 | _UNEVALUATED) else _DRAFT_4
    if fragment and not used & (_SINCE_DRAFT_7 | _UNEVALUATED):
        return _DRAFT_7
    return _2019 if listed else NEWEST
