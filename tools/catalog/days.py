"""The last 90 days of a connection: how it was on each, and how long a check took.

note       adds a check that has ended to its day
of         what the page shows: one bar for each day, coloured by the worst that the connection was on it
forget     deletes what is older
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final, NamedTuple

from django.utils import timezone

from connections.models import Connection, StateMove
from connections.states import Headline, headline
from tools.models import CheckDay, Probe

DAYS: Final = 90
_WORST_FIRST: Final = (
    Headline.UNREACHABLE, Headline.UNSUPPORTED, Headline.ACTION_REQUIRED, Headline.BUSY, Headline.CHECKING,
    Headline.CONNECTED,
)  # fmt: skip
_UNKNOWN: Final = "unknown"
_UNCHECKED: Final = "unchecked"
_WORDS: Final = {_UNKNOWN: "Nothing is known", _UNCHECKED: "Not checked"}
_STEP, _BAR, _TALL, _GAP = 8, 6, 12, 4  # of the drawing, in its own units
HEIGHT: Final = 44


class Day(NamedTuple):
    """One day: where its bars stand, how the connection was at worst, and its checks."""

    day: date
    code: str
    word: str
    x: int
    checks: int
    failed: int
    middle: int | None  # milliseconds
    y: float
    height: float

    @property
    def says(self) -> str:
        """The day in words."""
        told = f"{self.day:%Y-%m-%d}: {self.word}"
        if self.checks:
            told += f"; {self.checks:,} checks, {self.failed:,} failed"
        return told if self.middle is None else f"{told}; {self.middle:,} ms in the middle"


@dataclass(frozen=True, slots=True)
class Strip:
    """The days, the oldest first, and what they say together."""

    days: list[Day]
    known: int
    sentence: str
    slowest: int | None
    width: int = DAYS * _STEP
    bar: int = _BAR
    tall: int = _TALL


# --- counting -------------------------------------------------------------------------------------------------------


def note(connection: Connection, report: Probe) -> None:
    """Add a check that has ended to its day; the caller has locked the connection, so that two checks count both."""
    took = sum(stage["milliseconds"] for stage in report.stages)
    mine = {"connection": connection, "day": timezone.localdate(report.started_at, connection.tenant.zone)}
    row = CheckDay.objects.filter(**mine).first() or CheckDay(**mine)
    row.add(took if report.outcome == Probe.Outcome.PASSED else None)


def forget(now: datetime) -> None:
    """Delete what no page shows any more."""
    CheckDay.objects.filter(day__lt=now.date() - timedelta(days=DAYS + 1)).delete()


# --- showing --------------------------------------------------------------------------------------------------------


def of(connection: Connection, now: datetime, zone: tzinfo) -> Strip | None:
    """Return the strip of a connection; None while there is no whole day to tell of."""
    today = timezone.localdate(now, zone)
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    begins = [datetime.combine(day, datetime.min.time(), tzinfo=zone) for day in days]
    moves = list(connection.state_moves.filter(at__gte=begins[0]).order_by("at", "id"))
    checks = {row.day: row for row in CheckDay.objects.filter(connection=connection, day__gte=days[0])}
    worst = worst_of(connection, moves, [*begins, now])
    counted_since = min(checks, default=today)
    told: list[Day] = []
    middles = [row.middle for row in checks.values() if row.middle is not None]
    slowest = max(middles, default=0)
    for place, (day, word) in enumerate(zip(days, worst, strict=True)):
        row = checks.get(day)
        code = word.value if word else _UNKNOWN
        if word is not None and row is None and counted_since < day < today:
            code = _UNCHECKED
        middle = row.middle if row else None
        height = round((HEIGHT - _TALL - _GAP) * middle / slowest, 1) if middle and slowest else 0.0
        label = word.label if word and code != _UNCHECKED else _WORDS[code]
        told.append(
            Day(
                day, code, label, place * _STEP, row.checks if row else 0, row.failed if row else 0, middle,
                HEIGHT - height, height,
            )
        )  # fmt: skip
    known = sum(day.code != _UNKNOWN for day in told)
    return Strip(told, known, _sentence(told), slowest or None) if known > 1 else None


def worst_of(connection: Connection, moves: Sequence[StateMove], marks: Sequence[datetime]) -> list[Headline | None]:
    """Return the worst headline between each mark and the next; None where it is not known how the connection was.

    `moves` are those since the first mark, the oldest first. Before its oldest move a state was what that one says, for
    as long as it says.
    """
    states, known = _begin(connection, moves)
    spans: list[tuple[datetime, Headline]] = [(known, headline(enabled=True, **states))]
    for move in moves:
        states[move.of] = move.state
        if move.at > known:
            spans.append((move.at, headline(enabled=True, **states)))
        else:
            spans = [(known, headline(enabled=True, **states))]
    ends = [at for at, _ in spans[1:]] + [marks[-1]]
    found: list[Headline | None] = []
    for begin, end in pairwise(marks):
        here = [word for (at, word), until in zip(spans, ends, strict=True) if at < end and until > begin]
        found.append(min(here, key=_WORST_FIRST.index) if here else None)
    return found


def _begin(connection: Connection, moves: Iterable[StateMove]) -> tuple[dict[str, str], datetime]:
    """Return the three states before these moves, and since when all of them are known."""
    states: dict[str, str] = {}
    known = connection.created_at
    for which in ("credential", "reachability", "tools"):
        first = next((move for move in moves if move.of == which), None)
        states[which] = first.was if first else getattr(connection, f"{which}_state")
        since = first.at - first.lasted if first else getattr(connection, f"{which}_since")
        known = max(known, since)
    return states, known


def _sentence(days: Sequence[Day]) -> str:
    words = [day.word for day in days if day.code != _UNKNOWN]
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    told = ", ".join(f"{count} {word.lower()}" for word, count in sorted(counts.items(), key=lambda one: -one[1]))
    return f"Of {len(words)} days: {told}. A day is as its worst moment."
