"""What changed between two definitions of a tool, field by field, made for a person's eyes. Pure.

A description is read by a model, so what a person cannot see is spelt out: invisible characters appear as ⟨U+200B⟩.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

Kind = Literal["added", "removed", "changed"]
PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]+")
LONGEST_COMPARED = 2000  # words; beyond that the texts are shown whole, because matching takes quadratic time


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text that is in both definitions, or in one."""

    kind: Literal["same", "added", "removed"]
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs."""

    path: str
    kind: Kind
    parts: list[Part]


def differences(before: Any, after: Any) -> list[Change]:
    """Return every field that was added, removed or changed from one definition to the other, in reading order."""
    old, new = dict(_fields(before)), dict(_fields(after))
    changes = []
    for path in [*new, *(path for path in old if path not in new)]:
        if path not in old:
            changes.append(Change(path, "added", [Part("added", new[path])]))
        elif path not in new:
            changes.append(Change(path, "removed", [Part("removed", old[path])]))
        elif old[path] != new[path]:
            changes.append(Change(path, "changed", _compare(old[path], new[path])))
    return changes


def pretty(definition: Any) -> str:
    """Return a definition as indented JSON, with invisible characters spelt out."""
    return visible(json.dumps(definition, indent=2, ensure_ascii=False), keep="\n")


def visible(text: str, keep: str = "") -> str:
    """Return the text with every invisible character except those to keep as ⟨U+…⟩."""

    def spell(character: str) -> str:
        category = unicodedata.category(character)
        hidden = category[0] == "C" or category in {"Zl", "Zp"} or (category == "Zs" and character != " ")
        ambiguous = character == "⟨"  # or a text could pretend to contain what it does not
        return f"⟨U+{ord(character):04X}⟩" if (hidden and character not in keep) or ambiguous else character

    return "".join(map(spell, text))


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of every leaf; different definitions never yield the same."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, f"{path}{_step(key, first=not path)}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value, start=1):
            yield from _fields(inner, f"{path}[{number}]")
    else:
        yield path, visible(_text(value), keep="\n")


def _step(key: str, *, first: bool) -> str:
    if PLAIN_KEY.fullmatch(key):
        return key if first else f".{key}"
    return f"[{visible(json.dumps(key, ensure_ascii=False))}]"


def _text(value: Any) -> str:
    """Return a text as it is, unless it could be taken for another value: then, as other values, as JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value or "null")
    except ValueError:
        return value
    return json.dumps(value, ensure_ascii=False)


def _compare(old: str, new: str) -> list[Part]:
    before, after = re.findall(r"\S+\s*|\s+", old), re.findall(r"\S+\s*|\s+", new)
    if max(len(before), len(after)) > LONGEST_COMPARED:
        return [Part("removed", old), Part("added", new)]
    parts: list[Part] = []
    for operation, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if operation == "equal":
            parts.append(Part("same", "".join(before[a:b])))
            continue
        if a < b:
            parts.append(Part("removed", "".join(before[a:b])))
        if c < d:
            parts.append(Part("added", "".join(after[c:d])))
    return parts
