"""Columns that many lists share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin


def stamp(field: str, title: str) -> Callable[[Any], str]:
    """Return a column that shows a moment (UTC) in a form that sorts as it reads."""

    @admin.display(description=title, ordering=field)
    def show(row: Any) -> str:
        moment = getattr(row, field)
        return f"{moment:%Y-%m-%d %H:%M}" if moment else "–"

    show.__name__ = field
    return show
