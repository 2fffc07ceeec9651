"""Columns that many lists share, and what a list may be searched by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Case, CharField, F, Value, When
from django.db.models.functions import Concat, StrIndex, Substr

from connections import moments

# A part of the path that is long enough to be a key: whether it is one, no database can tell.
_LONG_PART = r"^[^?]*://[^/?]*/([^?]*/)?[^/?]{12,}"


def stamp(field: str, title: str) -> Callable[[Any], str]:
    """Return a column that shows a moment in a form that sorts as it reads."""

    @admin.display(description=title, ordering=field)
    def show(row: Any) -> str:
        moment = getattr(row, field)
        return moments.brief(moment) if moment else "–"

    show.__name__ = field
    return show


def shown_address() -> Case:
    """Return what of `server_url` everybody may search for: scheme, host and path, without what may be a credential."""
    address = _before("server_url", "?")
    rest = Substr(address, StrIndex(address, Value("://")) + 3)
    host = Concat(_before(address, "://"), Value("://"), _before(rest, "/"))
    return Case(When(server_url__regex=_LONG_PART, then=host), default=address, output_field=CharField())


def _before(text: Any, mark: str) -> Substr:
    text = F(text) if isinstance(text, str) else text
    return Substr(text, 1, StrIndex(Concat(text, Value(mark)), Value(mark)) - 1)
