"""What happened to a row, in words for people: the lines of a History page.

A line is an audit event, a move of one of a connection's states, or several routine events that are told in one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, QuerySet
from django.db.models.options import Options
from django.http import QueryDict
from django.utils import timezone
from django.utils.timesince import timesince

from connections import moments
from connections.models import AuditEvent, Credential, StateMove
from connections.states import CredentialState, ReachabilityState, ToolsState

_CODES = {"fields", "secrets", "actions"}  # their lists hold names of fields and other words of ours
_LENGTH = 200  # lines of one page
_MOST_ROUTINE = 2_000  # events that are folded
_ROUTINE = "connection.token_renewed"
_UNITS = {
    "connect_timeout": " s", "idle_timeout": " s", "call_timeout": " s", "max_answer": " bytes",
    "session_idle_minutes": " min",
}  # fmt: skip
_STATES = {"credential": CredentialState, "reachability": ReachabilityState, "tools": ToolsState}
KINDS = {"people": "What people did", "states": "How its states moved", "itself": "What ran by itself"}
PERIODS = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days"}
_PRODUCT = ("system", "")  # actors that are no person


@dataclass(frozen=True, slots=True)
class Line:
    """When, who, what they did as a sentence, and the details with their names."""

    at: datetime
    actor: str
    action: str
    details: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines are asked for; what is not among the choices asks for nothing special."""

    who: str = ""
    kind: str = ""
    days: str = ""

    @classmethod
    def of(cls, query: QueryDict, people: Iterable[str]) -> Asked:
        """Return what the query string asks for."""
        who, kind, days = (query.get(name, "") for name in ("who", "kind", "days"))
        return cls(who if who in people else "", kind if kind in KINDS else "", days if days in PERIODS else "")


def page_of(row: Model, events: QuerySet[AuditEvent], query: QueryDict) -> dict[str, Any]:
    """Return the lines and the filters of a History page: `events` are those of this row."""
    people = sorted(set(events.exclude(actor__in=_PRODUCT).order_by().values_list("actor", flat=True).distinct()))
    asked = Asked.of(query, people)
    moves: QuerySet[StateMove] | None = getattr(row, "state_moves", None)
    kinds = KINDS if moves is not None else {key: words for key, words in KINDS.items() if key != "states"}
    return {
        "lines": _lines(events, moves, asked, row._meta),  # noqa: SLF001 - Django's documented name
        "asked": asked,
        "choices": [
            ("who", "Person", [(name, name) for name in people]),
            ("kind", "Kind", list(kinds.items())),
            ("days", "Period", list(PERIODS.items())),
        ],
    }


def _lines(
    events: QuerySet[AuditEvent], moves: QuerySet[StateMove] | None, asked: Asked, opts: Options[Any]
) -> list[Line]:
    since = timezone.now() - timedelta(days=int(asked.days)) if asked.days else None
    if since is not None:
        events = events.filter(at__gte=since)
    if asked.who:
        events = events.filter(actor=asked.who)
    if asked.kind == "people":
        events = events.exclude(actor__in=_PRODUCT)
    elif asked.kind == "itself":
        events = events.filter(actor__in=_PRODUCT)
    elif asked.kind == "states":
        events = events.none()
    routine = events.filter(action=_ROUTINE, outcome="ok")
    found: list[AuditEvent | StateMove] = list(events.exclude(action=_ROUTINE, outcome="ok")[:_LENGTH])
    if moves is not None and not asked.who and asked.kind in ("", "states"):
        found += list(moves.filter(at__gte=since) if since else moves.all())[:_LENGTH]
    found = sorted(found, key=_age, reverse=True)[:_LENGTH]
    if len(found) == _LENGTH:  # renewals before the oldest line would stand without what happened between them
        routine = routine.filter(at__gte=found[-1].at)
    found = sorted([*found, *routine[:_MOST_ROUTINE]], key=_age, reverse=True)
    told: list[Line] = []
    for is_routine, group in groupby(found, key=lambda one: isinstance(one, AuditEvent) and _is_routine(one)):
        rows = list(group)
        told += [_folded(rows)] if is_routine else [_line(one, opts) for one in rows]
    return told


def _age(one: AuditEvent | StateMove) -> datetime:
    return one.at


def _is_routine(event: AuditEvent) -> bool:
    return event.action == _ROUTINE and event.outcome == "ok"


def _folded(events: list[Any]) -> Line:
    if len(events) == 1:
        return Line(events[0].at, events[0].actor, "Renewed the sign-in")
    first = moments.brief(events[-1].at)
    return Line(events[0].at, events[0].actor, f"Renewed the sign-in {len(events):,} times", [("Since", first)])


def _line(one: AuditEvent | StateMove, opts: Options[Any]) -> Line:
    if isinstance(one, StateMove):
        return _moved(one)
    details = dict(one.data)
    actor = f"{one.actor} (staff)" if details.pop("by_staff", False) else one.actor
    sentences = _sentences(details, opts)
    return Line(one.at, actor, ". ".join(sentences) or _action(one), _details(details, opts))


def _moved(move: StateMove) -> Line:
    labels = {str(value): str(label) for value, label in _STATES[move.of].choices} if move.of in _STATES else {}
    was, now = (labels.get(state, _spaced(state)) for state in (move.was, move.state))
    before = timesince(move.at - move.lasted, move.at).replace("\xa0", " ")
    spent = "less than a minute" if before.startswith("0 ") else before
    details = [("Reason", move.sentence or _spaced(move.reason).capitalize())] if move.sentence or move.reason else []
    return Line(move.at, "system", f"{move.of.capitalize()}: {now}, after {spent} of “{was}”", details)


# --- what was changed ---


def _sentences(data: dict[str, Any], opts: Options[Any]) -> list[str]:
    """Return what was changed as sentences, and take what they say out of the data; older events have no values."""
    changes = data.pop("changes", None)
    if not isinstance(changes, dict):
        return []
    data.pop("fields", None)  # in the order of the form, while PostgreSQL keeps an object's members in one of its own
    sentences = [_changed(name, _label(name, opts), what) for name, what in changes.items()]
    sentences += [_of_secret(str(one)) for one in data.pop("secrets", [])]
    for name in changes:
        data.pop(name, None)
    return [sentence for sentence in sentences if sentence]


def _changed(name: str, label: str, what: Any) -> str:
    match what:
        case [was, now] if name == "name":
            return f"Renamed {was} to {now}"
        case [was, now] if was in (None, ""):
            return f"Set {label} to {_value(name, now)}"
        case [was, now] if now in (None, ""):
            return f"Removed {label}, which was {_value(name, was)}"
        case [was, now] if was == now:
            return f"Replaced {label}: what differs is not shown"
        case [was, now]:
            unit = _UNITS.get(name, "")
            return f"Changed {label} from {_words(was)} to {_words(now)}{unit}"
        case {"added": added, "removed": removed}:
            told = [f"added {_words(added)}"] if added else []
            told += [f"removed {_words(removed)}"] if removed else []
            return f"Changed {label}: {', '.join(told)}" if told else ""
        case str():
            return f"{what.capitalize()} {label}"
    return ""


def _value(name: str, value: Any) -> str:
    return f"{_words(value)}{_UNITS.get(name, '')}"


def _of_secret(told: str) -> str:
    kind, _, what = told.partition(" ")
    label = Credential.Kind(kind).label if kind in Credential.Kind.values else _spaced(kind)
    return f"{what.capitalize()} {label}"


# --- an event in words ---


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
