"""Small bars, drawn on the server as SVG, with the numbers behind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tools.calls.recent import Hour

WIDTH, HEIGHT = 240, 48


class Bar(NamedTuple):
    """One bar of a chart: where it stands, how high both of its parts are, and what it says."""

    x: float
    width: float
    y: float
    height: float
    failed_y: float
    failed_height: float
    label: str
    calls: int
    failed: int


class Chart(NamedTuple):
    """The bars of a span of time, and their sums."""

    bars: list[Bar]
    calls: int
    failed: int
    ended: int

    @property
    def share_failed(self) -> str:
        """How many of a hundred failed."""
        return f"{100 * self.failed / self.calls:.1f} %" if self.calls else "–"


def of_day(hours: Iterable[Hour], now: datetime) -> Chart:
    """Return the last 24 hours, this one included."""
    last = now.replace(minute=0, second=0, microsecond=0)
    slots = [last - timedelta(hours=back) for back in reversed(range(24))]
    return _chart(slots, hours, timedelta(hours=1), "%H:%M")


def of_week(hours: Iterable[Hour], now: datetime) -> Chart:
    """Return the last seven days, today included."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    slots = [today - timedelta(days=back) for back in reversed(range(7))]
    return _chart(slots, hours, timedelta(days=1), "%a %d %b")


def _chart(slots: Sequence[datetime], hours: Iterable[Hour], span: timedelta, label: str) -> Chart:
    sums = [[0, 0, 0] for _ in slots]
    for hour in hours:
        place = (hour.at - slots[0]) // span
        if 0 <= place < len(slots):
            for number, add in enumerate((hour.calls, hour.failed, hour.ended)):
                sums[place][number] += add
    most = max((calls for calls, _, _ in sums), default=0) or 1
    step = WIDTH / len(slots)
    bars = [
        Bar(
            x=round(index * step + step * 0.1, 1), width=round(step * 0.8, 1), y=round(HEIGHT - _high(calls, most), 1),
            height=_high(calls, most), failed_y=round(HEIGHT - _high(failed, most), 1),
            failed_height=_high(failed, most), label=format(slots[index], label), calls=calls, failed=failed,
        )
        for index, (calls, failed, _) in enumerate(sums)
    ]  # fmt: skip
    totals = [sum(column) for column in zip(*sums, strict=True)]
    return Chart(bars, *totals)


def _high(number: int, most: int) -> float:
    return round(max(HEIGHT * number / most, 1.5), 1) if number else 0.0
