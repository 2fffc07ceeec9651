"""How the checks of a connection went, by day: kept when the reports of the checks are gone."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from django.db import models

from connections.models import Connection

# Upper ends of the classes of durations, in milliseconds; the last class has none.
BOUNDS: Final = (
    50, 75, 100, 150, 200, 300, 400, 600, 800, 1_200, 1_600, 2_400, 3_200, 5_000, 7_500, 10_000, 20_000, 60_000,
)  # fmt: skip


class CheckDay(models.Model):
    """The checks of one connection on one day of its organization's time zone."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, db_index=False, related_name="check_days")
    day = models.DateField(db_index=True)
    checks = models.PositiveIntegerField(default=0, db_default=0)
    failed = models.PositiveIntegerField(default=0, db_default=0)
    durations = models.JSONField(default=list, db_default=[])  # how many of those that passed are in each class

    class Meta:
        ordering = ["day"]
        constraints = [
            models.UniqueConstraint(fields=["connection", "day"], name="a_connection_has_one_row_a_day"),
        ]

    def __str__(self) -> str:
        return f"{self.checks} checks on {self.day}"

    def add(self, took: int | None) -> None:
        """Add a check that took so many milliseconds, or one that failed (None)."""
        self.checks += 1
        if took is None:
            self.failed += 1
        else:
            counts = [*self.durations, *[0] * (len(BOUNDS) + 1 - len(self.durations))]
            counts[bisect_right(BOUNDS, took)] += 1
            self.durations = counts
        self.save()

    @property
    def middle(self) -> int | None:
        """Milliseconds that half of the checks which passed took at most, as nearly as the classes tell."""
        counts: list[int] = self.durations
        passed, below, low = sum(counts), 0, 0
        for high, here in zip((*BOUNDS, BOUNDS[-1]), counts, strict=False):
            if here and below + here >= passed / 2:
                return round(low + (high - low) * (passed / 2 - below) / here)
            below, low = below + here, high
        return None
