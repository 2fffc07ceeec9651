"""How a server's listing differs from the tools we know. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tools.definitions import meaning
from tools.definitions.moving import held

_REVIEWED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "execution")


def digest(definition: Mapping[str, Any], moving: str = "") -> str:
    """Return the hex SHA-256 of what an assignment or a person sees of a definition, in its normal form.

    `_meta`, icons and unknown members are left out: servers put changing values there, signed addresses for one, and
    nobody is shown them. So is what may change by itself, `moving`.
    """
    seen = {key: member for key, member in held(definition, moving).items() if key in _REVIEWED}
    return sha256(meaning.written(meaning.of(seen)).encode()).hexdigest()


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


def compare(
    known: Mapping[str, tuple[str, str]], listing: Iterable[Listed], moving: Mapping[str, str] | None = None
) -> Drift:
    """Sort a listing against `known`, a mapping of name to (digest, broken); a name listed twice counts once.

    `moving` is what may change by itself, of the tools that have such a part.
    """
    drift = Drift()
    seen: set[str] = set()
    for tool in listing:
        if tool.name in seen:
            continue
        seen.add(tool.name)
        if tool.name not in known:
            drift.appeared.append(tool)
        elif known[tool.name] != (digest(tool.definition, (moving or {}).get(tool.name, "")), tool.broken):
            drift.changed.append(tool)
        else:
            drift.same.append(tool)
    drift.gone = sorted(set(known) - seen)
    return drift
