"""How long ago something was, in words."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.timesince import timesince


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return "just now" or the one largest unit, such as "3 days ago"."""
    age = timesince(moment, now or timezone.now(), depth=1).replace("\xa0", " ")
    return "just now" if age.startswith("0 ") else f"{age} ago"
