"""How a server's listing differs from the tools we know, and how two definitions differ. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

_REVIEWED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons", "execution")


def digest(definition: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of what an assignment or a person sees of a definition; key order does not matter.

    `_meta` and unknown members are left out: servers put changing values there and nobody acts on them.
    """
    seen = {key: definition[key] for key in _REVIEWED if key in definition}
    return sha256(json.dumps(seen, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool of a listing; `broken` says why it cannot be used, or is empty."""

    name: str
    definition: dict[str, Any]
    broken: str = ""


@dataclass(slots=True)
class Drift:
    """What a listing means for the tools we know, by name."""

    appeared: list[Listed] = field(default_factory=list)
    changed: list[Listed] = field(default_factory=list)
    same: list[Listed] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def compare(known: Mapping[str, tuple[str, str]], listing: Iterable[Listed]) -> Drift:
    """Sort a listing against `known`, a mapping of name to (digest, broken); a name that is listed twice counts once."""
    drift = Drift()
    seen: set[str] = set()
    for tool in listing:
        if tool.name in seen:
            continue
        seen.add(tool.name)
        if tool.name not in known:
            drift.appeared.append(tool)
        elif known[tool.name] != (digest(tool.definition), tool.broken):
            drift.changed.append(tool)
        else:
            drift.same.append(tool)
    drift.gone = sorted(set(known) - seen)
    return drift


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two definitions differ: its JSON pointer (RFC 6901), and the values before and after as text."""

    pointer: str
    before: str | None
    after: str | None


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two definitions, leaf by leaf, in the order of the pointers."""
    old = dict(_leaves({key: before[key] for key in _REVIEWED if key in before}))
    new = dict(_leaves({key: after[key] for key in _REVIEWED if key in after}))
    return [
        Difference(pointer, old.get(pointer), new.get(pointer))
        for pointer in sorted(old.keys() | new.keys())
        if old.get(pointer) != new.get(pointer)
    ]


def _leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(member, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list) and value:
        for index, member in enumerate(value):
            yield from _leaves(member, f"{pointer}/{index}")
    else:
        yield pointer, value if isinstance(value, str) else json.dumps(value)
