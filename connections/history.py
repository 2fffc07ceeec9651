"""What happened to a row, in words for people: the audit events of a History page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models.options import Options

from connections.models import AuditEvent

_CODES = {"fields", "secrets", "actions"}  # their lists hold names of fields and other words of ours


@dataclass(frozen=True, slots=True)
class Line:
    """One event: when, who, what they did, and the details with their names."""

    at: datetime
    actor: str
    action: str
    details: list[tuple[str, str]]


def lines_of(events: Iterable[AuditEvent], opts: Options[Any]) -> list[Line]:
    """Return the events in words; fields are called as on the page of the row's model."""
    return [Line(event.at, event.actor, _action(event), _details(event.data, opts)) for event in events]


def _action(event: AuditEvent) -> str:
    what = _spaced(event.action.partition(".")[2] or event.action).capitalize()
    return what if event.outcome == "ok" else f"{what} ({_spaced(event.outcome)})"


def _details(data: dict[str, Any], opts: Options[Any]) -> list[tuple[str, str]]:
    details = []
    for key, value in data.items():
        if value in (None, "", [], {}):
            continue
        text = (
            _words([_label(name, opts) for name in value])
            if key in _CODES and isinstance(value, list)
            else _words(value)
        )
        details.append((_label(key, opts).capitalize(), text))
    return details


def _words(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_words, value))
        case dict():
            return ", ".join(f"{_spaced(key)}: {_words(inner)}" for key, inner in value.items())
    return str(value)


def _label(name: Any, opts: Options[Any]) -> str:
    try:
        return str(getattr(opts.get_field(str(name)), "verbose_name", _spaced(name)))
    except FieldDoesNotExist:
        return _spaced(name)


def _spaced(word: Any) -> str:
    return str(word).replace("_", " ")
