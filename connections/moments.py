"""Moments as people read them: in the time zone of their organization, which stands beside them.

Stored moments, files and what programs get are in UTC. Pages are in the zone that Django has activated for the request
(`duvo.admin`), mails in the zone of the organization that they are about.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone

MINUTES: Final = "%Y-%m-%d %H:%M"
SECONDS: Final = "%Y-%m-%d %H:%M:%S"
_OTHER_NAMES = ("Etc/", "SystemV/", "US/", "posix/", "right/")  # of zones that have a better one


def zone_of(name: str) -> tzinfo:
    """Return the zone of this IANA name; UTC for one that this machine does not know."""
    return ZoneInfo(name) if name in available() else UTC


@cache
def available() -> frozenset[str]:
    """Return the names of all zones that this machine knows, UTC in any case."""
    return frozenset(available_timezones() | {"UTC"})


@cache
def offered() -> tuple[str, ...]:
    """Return the names to choose from, UTC first: those of places."""
    places = (name for name in available() if "/" in name and not name.startswith(_OTHER_NAMES))
    return ("UTC", *sorted(places))


def shown(when: datetime, form: str = MINUTES, zone: tzinfo | None = None) -> str:
    """Return a moment with its zone: of the page if none is given."""
    local = timezone.localtime(when, zone)
    return f"{local:{form}} {named(local)}"


def brief(when: datetime, form: str = MINUTES) -> str:
    """Return a moment for a column of a page, with its zone unless that is UTC; it sorts as it reads."""
    local = timezone.localtime(when)
    return f"{local:{form}}" if named(local) == "UTC" else f"{local:{form}} {named(local)}"


def named(local: datetime) -> str:
    """Return the name of a moment's zone, such as CET; of zones without one how far they are from UTC."""
    name = local.tzname() or ""
    return f"UTC{name}" if name[:1] in ("+", "-") else name
