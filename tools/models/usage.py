"""How much was called, by day: kept when the calls themselves are purged."""

from __future__ import annotations

from uuid import UUID, uuid5

from django.db import models

from connections.models import Tenant

_NAMESPACE = UUID("6f0f1c1e-3d0a-4b8e-9a53-0f5b1a5f4f2e")  # any: it makes ids out of what a row is about
# Upper ends of the classes of durations, in milliseconds; the last class, `ms_more`, has none.
BOUNDS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
CLASSES = (*(f"ms_{bound}" for bound in BOUNDS), "ms_more")


def _count() -> models.PositiveIntegerField[int, int]:
    return models.PositiveIntegerField(default=0)


class DailyUse(models.Model):
    """The calls of one tool by one assignment, asked for on one day; counted anew until the day is over.

    A day is one of the organization's time zone, as it was when the day was counted (`UseMark`).

    It names what it is about in words too, and refers to nothing but the organization: it outlives the rest.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="use", db_index=False, verbose_name="organization"
    )
    day = models.DateField()
    tool = models.CharField(max_length=64)
    connection = models.UUIDField(null=True)
    connection_name = models.CharField("connection", max_length=80, blank=True)
    assignment = models.UUIDField(null=True)
    assignment_name = models.CharField("assignment", max_length=80, blank=True)
    owner = models.BigIntegerField(null=True)
    owner_name = models.CharField("owner", max_length=150, blank=True)
    calls = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()  # failed, timed out, or with an unknown outcome
    open = models.PositiveIntegerField()  # had not ended when they were counted
    milliseconds = models.PositiveBigIntegerField()  # of all that ran and have ended
    bytes = models.PositiveBigIntegerField()  # of arguments and results, sealed
    # How many took less than so many milliseconds, and not less than the class before.
    ms_10 = _count()
    ms_20 = _count()
    ms_50 = _count()
    ms_100 = _count()
    ms_200 = _count()
    ms_500 = _count()
    ms_1000 = _count()
    ms_2000 = _count()
    ms_5000 = _count()
    ms_10000 = _count()
    ms_30000 = _count()
    ms_60000 = _count()
    ms_300000 = _count()
    ms_more = _count()

    class Meta:
        verbose_name = "activity"
        verbose_name_plural = "activity"
        ordering = ["-day", "tool", "id"]
        indexes = [
            models.Index(fields=["tenant", "-day"], name="use_of_a_tenant"),
            models.Index(fields=["assignment", "-day"], name="use_of_an_assignment"),
        ]

    def __str__(self) -> str:
        return f"{self.tool} on {self.day}"

    def name_itself(self) -> None:
        """Set the id, which follows from what the row is about: counted again, it is the same row."""
        about = (self.tenant_id, self.day, self.tool, self.connection, self.assignment, self.owner)
        self.id = uuid5(_NAMESPACE, "/".join(map(str, about)))


class UseMark(models.Model):
    """Until when an organization's calls are counted, and before when some of them are purged already."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="use_mark")
    counted_at = models.DateTimeField()
    purged_before = models.DateTimeField(null=True)
    zone = models.CharField(max_length=64, default="UTC", db_default="UTC")  # of the days
    zone_since = models.DateField(null=True)  # the first day of that zone; null: all of them

    def __str__(self) -> str:
        return f"{self.tenant} until {self.counted_at}"
