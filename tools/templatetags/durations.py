"""How long something took, as people read it."""

from __future__ import annotations

from datetime import timedelta

from django import template

_A_SECOND = 1000  # milliseconds

register = template.Library()


@register.filter
def took(span: timedelta) -> str:
    """Return milliseconds below a second, seconds above."""
    milliseconds = span / timedelta(milliseconds=1)
    return f"{milliseconds:.0f} ms" if milliseconds < _A_SECOND else f"{milliseconds / _A_SECOND:.1f} s"
