"""Every address that is measured: what the lists themselves link to, and a page of a row of each kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import quote, urlencode

from tests.scale.people import Looker

CHOICES = 3  # of a filter
_SIDE = re.compile(r'<nav id="changelist-filter".*?</nav>', re.DOTALL)
_LINK = re.compile(r'href="(\?[^"]*)"')
_HEAD = re.compile(r'<div class="sortoptions">.*?href="(\?[^"]*)"|<div class="text"><a href="(\?[^"]*)"', re.DOTALL)
_FORM = re.compile(r'<form method="get" class="filter">.*?</form>', re.DOTALL)
_NAME = re.compile(r'(?:select|input type="search") name="([^"]+)"')
_OPTION = re.compile(r'<option value="([^"]+)"')
_FOUND = ("0007", "tool_3")  # parts of names that a few rows have
WORDS = ("tool_2", "0042", "needle")  # of which many rows, few and none are found


def of_person(looker: Looker) -> Iterator[str]:
    """Yield the addresses of the pages that this person may open."""
    from django.contrib import admin

    yield from ("/admin/", "/admin/?organization=all", "/admin/inbox/", "/admin/inbox/?whose=others")
    yield from ("/admin/inbox/count/", "/admin/inbox/?kind=review", "/admin/inbox/?page=2")
    for model, page in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        answer = looker.get(base)
        if answer.status_code != 200:
            continue
        yield base
        if page.has_add_permission(answer.wsgi_request):
            yield f"{base}add/"
        yield from (f"{base}{query}" for query in _of_list(answer.content.decode(), bool(page.search_fields)))
        for row in _rows(model, answer.content.decode()):
            yield from (f"{base}{row}/change/", f"{base}{row}/history/")
            if model._meta.model_name == "call":
                yield from (f"{base}{row}/life/", f"{base}{row}/contents/")
            if model._meta.model_name == "connection":
                yield f"/admin/tools/probe/report/{row}/"
    if looker.name != "reviewer":
        ways = ("day", "tool", "connection", "assignment", "owner")
        yield from (f"/admin/tools/dailyuse/?by={by}" for by in ways)


def _of_list(page: str, searched: bool) -> Iterator[str]:
    """Yield the query strings of a list: pages, sorting, filters and searches."""
    yield from ("?p=2", "?p=20")
    yield from sorted({unescape(first or second) for first, second in _HEAD.findall(page)})
    side = "".join(_SIDE.findall(page))
    by_name: dict[str, list[str]] = {}
    for link in _LINK.findall(_FORM.sub("", side)):
        by_name.setdefault(unescape(link)[1:].partition("=")[0], []).append(unescape(link))
    for links in by_name.values():
        yield from links[: 2 * CHOICES + 4]
    for form in _FORM.findall(side):
        for name in _NAME.findall(form):
            values = [value for value in _OPTION.findall(form) if value][:CHOICES] or _FOUND
            yield from (f"?{urlencode({name: unescape(value)})}" for value in values)
    if searched:
        yield from (f"?q={word}" for word in WORDS)


def _rows(model: Any, page: str) -> list[str]:
    """Return the id of a row of the list, if it has pages of its own."""
    found = re.findall(rf'href="/admin/{model._meta.app_label}/{model._meta.model_name}/([^/"]+)/change/', page)
    return found[:1]


def of_program(looker: Looker) -> Iterator[str]:
    """Yield the addresses of the API's lists with each filter."""
    from tools.models.call_states import CallState

    yield "/v1/me"
    yield "/v1/quotas"
    yield from (f"/v1/usage?by={by}" for by in ("day", "tool", "connection"))
    yield from _with_next(looker, "/v1/connections")
    if looker.name == "admin's":
        yield from _with_next(looker, "/v1/audit-events")
        event = looker.get("/v1/audit-events?limit=1").json()["results"][0]
        for name in ("actor", "action", "object_type", "object_id", "outcome"):
            yield f"/v1/audit-events?{name}={quote(str(event[name]))}"
        yield "/v1/audit-events?request_id=needle"
        yield f"/v1/audit-events?since={quote(event['at'])}&until=2100-01-01T00:00:00Z"
        return
    yield "/v1/sessions"
    yield from _with_next(looker, "/v1/tools")
    yield from _with_next(looker, "/v1/calls")
    for state in CallState.values:
        yield from _with_next(looker, f"/v1/calls?state={state}")
    for tool in ("server-00000__tool_1", "server-00499__tool_5", "nobodys__tool"):
        yield f"/v1/calls?tool={tool}"
        yield f"/v1/calls?tool={tool}&state=failed"


def _with_next(looker: Looker, address: str) -> Iterator[str]:
    yield address
    if following := looker.get(address).json().get("next"):
        yield "/v1/" + following.partition("/v1/")[2]
