"""Moments on pages, with their time zone; every template knows these filters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from connections import moments

_FORMS = {"": moments.MINUTES, "seconds": moments.SECONDS, "time": "%H:%M"}

register = template.Library()


@register.filter
def moment(when: datetime | None, form: str = "") -> str:
    """Return a moment with its zone; `form` is "seconds" or "time"."""
    return moments.shown(when, _FORMS[form]) if when else ""


@register.filter
def brief_moment(when: datetime | None, form: str = "") -> str:
    """Return a moment with its zone unless that is UTC."""
    return moments.brief(when, _FORMS[form]) if when else ""


@register.simple_tag
def zone_of_page() -> str:
    """Return the zone of the times on this page, "" for UTC."""
    name = timezone.get_current_timezone_name()
    return "" if name == "UTC" else name


@register.filter
def in_zone(when: datetime, zone: Any) -> str:
    """Return a moment in this zone."""
    return moments.shown(when, zone=zone)
