"""Connections whose check is due, and whose turn it is."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from connections.models import Connection
from tests.conftest import House
from tools.catalog.checker import PLACES, Checker


def many(house: House, count: int, url: str = "https://mcp.example.com/mcp") -> list[Connection]:
    """So many connections whose check is due, the first for the longest."""
    since = timezone.now() - timedelta(hours=1)
    rows = [
        Connection(
            tenant=house.tenant, name=f"c{number}", slug=f"c{number}", server_url=url,
            next_probe_at=since + timedelta(seconds=number),
        )
        for number in range(count)
    ]  # fmt: skip
    return Connection.objects.bulk_create(rows)


def admitted(places: int = PLACES) -> list[UUID]:
    """Which connections a process with so many free places checks next."""
    wanted: list[UUID] = []
    Checker(places)._admit(wanted, places, Counter())
    return wanted
