"""What the query string of a list may hold: exactly what the filters on its page put there."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import get_fields_from_path
from django.http import HttpRequest


def of_filters(page: admin.ModelAdmin[Any], request: HttpRequest) -> frozenset[str]:
    """Return the parameters that the page's filters read; found out once a request, as each value is asked about."""
    known: frozenset[str] | None = getattr(request, "lookups_of_filters", None)
    if known is None:
        filters = [_made(entry, page, request) for entry in page.get_list_filter(request)]
        known = frozenset(lookup for one in filters for lookup in one.expected_parameters() if lookup)
        vars(request)["lookups_of_filters"] = known
    return known


def _made(entry: Any, page: admin.ModelAdmin[Any], request: HttpRequest) -> admin.ListFilter:
    """Return the filter as the list itself makes it (ChangeList.get_filters)."""
    if callable(entry):
        return entry(request, {}, page.model, page)  # type: ignore[no-any-return]
    path, make = entry if isinstance(entry, tuple | list) else (entry, admin.FieldListFilter.create)
    field = get_fields_from_path(page.model, path)[-1]
    return make(field, request, {}, page.model, page, field_path=path)  # type: ignore[no-any-return]
