"""The words of people in the place of those of a table."""

from __future__ import annotations

from django import template

_WORDS = {"at": "Time", "created at": "Created", "started at": "Started", "may use": "May use"}

register = template.Library()


@register.filter
def in_words(column: str) -> str:
    """Return what a filter of this column is called."""
    return _WORDS.get(column, f"By {column}")
