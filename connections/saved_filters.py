"""Filters of a list under a name: each person saves their own, for the organization that they look at.

A saved filter is a link to the list with a query string, and holds only what the list itself takes from one, at the
moment when it is saved and each time it is shown.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.views.main import IGNORED_PARAMS, ORDER_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied, TooManyFieldsSent, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from connections.forms.fields import NameField
from connections.models import SavedFilter, User
from connections.tenancy import ClosedAdmin, person

MOST: Final = 20  # of one person, on one list
LONGEST: Final = 1_000  # characters of a query string
LONGEST_NAME: Final = 60


class Choice(NamedTuple):
    """One saved filter as the list shows it."""

    pk: UUID
    name: str
    query: str
    chosen: bool


def urls(site: AdminSite) -> list[URLPattern]:
    """Return the addresses of the buttons."""
    view = site.admin_view
    return [
        path("saved-filters/", view(require_POST(lambda request: save(site, request))), name="saved_filter_save"),
        path(
            "saved-filters/<uuid:pk>/remove/",
            view(require_POST(lambda request, pk: remove(site, request, pk))),
            name="saved_filter_remove",
        ),
    ]


def place_of(user: User) -> UUID | None:
    """Return the only organization whose rows a person sees, None where they see those of several."""
    roles = list(user.roles)
    return roles[0] if len(roles) == 1 and not user.sees_every_organization else None


def taken(page: ClosedAdmin, request: HttpRequest, query: str) -> str:
    """Return what of a query string the list takes: choices of its filters, its search and order, and nothing else."""
    try:
        sent = QueryDict(query[:LONGEST])
    except TooManyFieldsSent:
        return ""
    kept = QueryDict(mutable=True)
    for name, values in sent.lists():
        if _takes(page, request, name, values):
            kept.setlist(name, values)
    told = kept.urlencode()
    return told if len(told) <= LONGEST else ""  # which is longer than what was sent, where that was not escaped


def _takes(page: ClosedAdmin, request: HttpRequest, name: str, values: list[Any]) -> bool:
    if any("\0" in value for value in values):
        return False
    if name == SEARCH_VAR:
        return bool(page.get_search_fields(request)) and any(values)
    if name in IGNORED_PARAMS:
        return name == ORDER_VAR
    return any(values) and all(page.lookup_allowed(name, value, request) for value in values)


def choices(page: ClosedAdmin, request: HttpRequest) -> list[Choice]:
    """Return what this person has saved on a list."""
    rows = list(_mine(page, person(request))[:MOST])
    here = _same(taken(page, request, request.GET.urlencode())) if rows else frozenset()
    found = [(row, taken(page, request, row.query)) for row in rows]
    return [Choice(row.pk, row.name, query, _same(query) == here) for row, query in found]


def _mine(page: ClosedAdmin, user: User) -> QuerySet[SavedFilter]:
    return SavedFilter.objects.filter(user=user, tenant=place_of(user), page=page.opts.label_lower)


def _same(query: str) -> frozenset[str]:
    return frozenset(query.split("&"))


# --- buttons ---


def save(site: AdminSite, request: HttpRequest) -> HttpResponseRedirect:
    """Store the filters of a list under a name; those of the same name are replaced."""
    page = _page(site, request, request.POST.get("page", ""))
    query = taken(page, request, request.POST.get("query", ""))
    back = _list(page, query)
    try:
        name = NameField(max_length=LONGEST_NAME).clean(request.POST.get("name"))
    except ValidationError as refusal:
        messages.error(request, f"Nothing was saved. Give the filters a name. {refusal.messages[0]}")
        return back
    if not query:
        messages.error(request, "Nothing was saved. Choose filters, or search for less, and save that.")
        return back
    user = person(request)
    rows = _mine(page, user)
    if rows.filter(name=name).update(query=query):
        messages.success(request, f"“{name}” shows what you see now.")
    elif rows.count() >= MOST:
        messages.error(request, f"Nothing was saved: these would be more than {MOST}. Remove one first.")
    else:
        with suppress(IntegrityError), transaction.atomic():  # a second click was quicker
            rows.create(user=user, tenant_id=place_of(user), page=page.opts.label_lower, name=name, query=query)
        messages.success(request, f"Saved as “{name}”.")
    return back


def remove(site: AdminSite, request: HttpRequest, pk: UUID) -> HttpResponseRedirect:
    """Forget a saved filter of one's own."""
    row = get_object_or_404(SavedFilter, pk=pk, user=person(request))
    row.delete()
    messages.success(request, f"“{row.name}” is removed.")
    return _list(_page(site, request, row.page))


def _page(site: AdminSite, request: HttpRequest, label: str) -> ClosedAdmin:
    page = next((page for model, page in site._registry.items() if model._meta.label_lower == label), None)  # noqa: SLF001
    if not isinstance(page, ClosedAdmin):
        raise Http404
    if not page.has_view_or_change_permission(request):
        raise PermissionDenied
    return page


def _list(page: ClosedAdmin, query: str = "") -> HttpResponseRedirect:
    address = reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")
    return HttpResponseRedirect(f"{address}?{query}" if query else address)
