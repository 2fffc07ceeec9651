"""What a query string may ask, and what of the database a person may not see: the two sides of the oracle crawl.

An oracle is an address whose answer says something of a row or column that is not shown: one bit a time is enough to
read all of it. The crawl asks each address twice, of two databases that differ only in what the person may not see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import DatabaseError, transaction
from django.db.models import DateTimeField, Field, ForeignKey, JSONField, Model, UUIDField
from django.http import HttpResponse
from django.test import Client, RequestFactory

from connections import audit
from connections.models import AuditEvent, Membership, Tenant, User
from tests.connections.estate import body
from tools.models import CallEvent

ROOMS = ("connections", "oauth", "tools")
HOPS = 4  # relations on the way from a list to a column
COLUMNS = 2  # asked for at the end of each way
# The columns that no page shows of a row that is seen; sealed ones are added.
NEVER_SHOWN = {
    "connections.user": ["password", "last_login", "date_joined", "sessions_ended"],
    "connections.invitation": ["digest", "for_staff"],
    "tools.accesstoken": ["digest"],
    "tools.call": ["body_digest", "traceparent"],
}
TELLING = ("password", "sealed", "instructions", "server_url", "webhook_url", "digest", "name")

Answer = tuple[int, str, str]


# --- what is asked --------------------------------------------------------------------------------------------------


def ways(model: type[Model], hops: int = HOPS) -> list[tuple[str, type[Model]]]:
    """The shortest way to every model of ours through each relation of this one, as a lookup and where it leads."""
    found = []
    for first in _relations(model):
        seen, edge = {model}, [(first.name, first.related_model)]
        for _ in range(hops):
            further = []
            for path, target in edge:
                if target in seen:
                    continue
                seen.add(target)
                found.append((path, target))
                further += [(f"{path}__{step.name}", step.related_model) for step in _relations(target)]
            edge = further
    return found


def _relations(model: type[Model]) -> list[Any]:
    related = [field for field in model._meta.get_fields() if field.is_relation and field.related_model]
    return [field for field in related if field.related_model._meta.app_label in ROOMS]


def lookups(model: type[Model]) -> list[str]:
    """Query strings that ask for columns behind the relations of a list; each tells one value from another."""
    asked, turn = [], cycle(["", "__gte", "__startswith", "__in", "__regex", "__contains"])
    for path, target in [("", model), *ways(model)]:
        for column in sorted(_columns(target), key=lambda column: _rank(column, path))[: COLUMNS if path else None]:
            row = target._default_manager.exclude(**{column.name: _nothing(column)}).order_by("pk").first()
            value = getattr(row, column.attname, None)
            operator = next(turn) if isinstance(value, str) else "__gte"
            name = f"{path}__{column.name}" if path else column.name
            asked.append(urlencode({f"{name}{operator}": value if value is not None else "1"}))
    return asked


def _columns(model: type[Model]) -> list[Field[Any, Any]]:
    return [field for field in model._meta.concrete_fields if not field.primary_key and not field.is_relation]


def _rank(column: Field[Any, Any], path: str) -> tuple[int, str]:
    """The telling columns first; of the others, different ones at the end of different ways."""
    telling = next((rank for rank, word in enumerate(TELLING) if word in column.name), len(TELLING))
    return telling, sha256(f"{path}{column.name}".encode()).hexdigest()


def _nothing(column: Field[Any, Any]) -> Any:
    return (
        "" if column.empty_strings_allowed and not isinstance(column, DateTimeField | UUIDField | JSONField) else None
    )


def dates(model: type[Model]) -> list[str]:
    """Query strings as a date hierarchy would write them."""
    columns = [field.name for field in model._meta.fields if isinstance(field, DateTimeField)]
    return [f"{column}__{part}={value}" for column in columns for part, value in (("year", 2026), ("month", 1))]


def orders(model: type[Model]) -> list[str]:
    """Each column's order, and what is none."""
    width = len(admin.site.get_model_admin(model).list_display) + 2
    return [*(f"o={sign}{number}" for number in range(width) for sign in ("", "-")), "o=name", "o=1.-2.99"]


def switches() -> list[str]:
    """What else a list reads from its query string."""
    return ["_popup=1&_to_field=id", "_to_field=name", "_facets=True&all=", "e=1", "p=2", "q=a&o=-1"]


def filters(model: type[Model], user: User, ids: Sequence[object]) -> list[str]:
    """What the filters of a page read, with the choices they offer and with ids of rows that are not seen."""
    request = RequestFactory().get("/")
    request.user = user
    page, asked = admin.site.get_model_admin(model), []
    for entry in page.get_list_filter(request):
        if callable(entry):
            values = (*ids, "1", "", "acme", "unknown", "usable", "attention", "people", "2026-11-01", "9999-12-31")
            read = entry(request, {}, model, page).expected_parameters()
            assert read, entry
            asked += [f"{name}={value}" for name in read for value in values]
        else:
            name = entry[0] if isinstance(entry, tuple) else entry
            asked += [f"{name}__id__exact={value}" for value in ids]
            asked += [f"{name}_name={value}" for value in ("acme", "rival", "only", "")]
            asked += [f"{name}{end}" for end in ("__isnull=True", "__isnull=False", "__exact=1", "__in=1", "=1")]
    return asked


# --- what is not seen -----------------------------------------------------------------------------------------------


def change_what_is_hidden(user: User) -> int:
    """Change everything that this person may not see, as far as the database lets it be; return how many values."""
    changed = 0
    seen = _seen(user)
    for model in apps.get_models():
        if model._meta.app_label not in ROOMS or model in {AuditEvent, CallEvent}:  # these only grow, by triggers
            continue
        for row in model._default_manager.all():
            columns = _hidden(row, user, seen)
            changed += sum(_change(row, column) for column in columns)
    for tenant in Tenant.objects.exclude(pk__in=seen[Tenant]):
        audit.record("somebody@example.com", "connection.deleted", tenant, tenant=tenant)
    return changed


def _seen(user: User) -> dict[type[Model], set[Any]]:
    """The keys of the rows that this person sees, as the pages have it; that these are right is tested elsewhere."""
    request = RequestFactory().get("/")
    request.user = user
    seen: dict[type[Model], set[Any]] = {}
    for model, page in admin.site._registry.items():
        rows = page.get_queryset(request) if page.has_view_permission(request) else model._default_manager.none()
        seen[model] = set(rows.values_list("pk", flat=True))
    colleagues = User.objects.filter(memberships__tenant__in=user.roles).values_list("pk", flat=True)
    seen[User] |= {user.pk, *colleagues}
    return seen


def _hidden(row: Model, user: User, seen: dict[type[Model], set[Any]]) -> list[Field[Any, Any]]:
    columns = _columns(type(row))
    if _is_seen(row, user, seen):
        never = {*NEVER_SHOWN.get(row._meta.label_lower, ()), *getattr(row, "sealed_fields", ())}
        if isinstance(row, Tenant) and not user.is_superuser:
            never |= {"slug"} if user.roles[row.pk] == "admin" else {"slug", "webhook_url"}
        if isinstance(row, User) and (user.is_superuser or row == user):  # "Welcome, ..." stands on every page
            never = {"password"}
        return [column for column in columns if column.name in never]
    if isinstance(row, Tenant) and user.is_reviewer:  # they see whose connection it is
        return [column for column in columns if column.name not in {"name", "slug"}]  # a slug tells two of a name apart
    return columns


def _is_seen(row: Model, user: User, seen: dict[type[Model], set[Any]]) -> bool:
    if type(row) in seen:
        return row.pk in seen[type(row)]
    above = [field for field in row._meta.fields if isinstance(field, ForeignKey) and field.related_model in seen]
    of_organization = next((field for field in above if field.related_model is not User), None)
    if of_organization is None:  # a person's own, who alone sees it
        return any(getattr(row, field.attname) == user.pk for field in above)
    return getattr(row, of_organization.attname) in seen[of_organization.related_model]


def _change(row: Model, column: Field[Any, Any]) -> int:
    value = getattr(row, column.attname)
    rows = type(row)._default_manager.filter(pk=row.pk)
    for other in _others(column, value):
        with suppress(DatabaseError), transaction.atomic():
            return rows.update(**{column.attname: other})
    return 0


def _others(column: Field[Any, Any], value: Any) -> list[Any]:
    if column.choices:
        return [choice for choice, _ in column.flatchoices if choice != value]
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case datetime():
            return [value - timedelta(days=800)]
        case dict() | list():
            return [{"other": json.dumps(value)[:20]}]
        case str():
            return [f"0{value}"[: column.max_length or 10_000], "0"]
    return []


# --- asking ---------------------------------------------------------------------------------------------------------


def address(model: type[Model]) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def told(response: HttpResponse) -> Answer:
    """What an answer says: its status, where it leads, and its text, without the CSRF token and what "Today" is."""
    text = re.sub(r'"request_id":\s*"[^"]*"|__(?:gte|lt)=[^&"]*', "", body(response))
    return response.status_code, response.headers.get("Location", ""), sha256(text.encode()).hexdigest()


def ask(client: Client, addresses: Sequence[str]) -> dict[str, Answer]:
    return {one: told(client.get(one)) for one in addresses}


def act(client: Client, model: type[Model], ids: Sequence[object]) -> dict[str, Answer]:
    """Press every action of a list for rows that are not seen; whatever it does is undone."""
    answers = {}
    names = [getattr(action, "__name__", action) for action in admin.site.get_model_admin(model).actions or ()]
    for action in [*names, "delete_selected"]:
        with undone():
            data = {"action": action, ACTION_CHECKBOX_NAME: [str(one) for one in ids], "post": "yes", "confirmed": "1"}
            answers[f"{address(model)} {action}"] = told(client.post(address(model), data))
    return answers


@contextmanager
def undone() -> Iterator[None]:
    """Take back what is written inside."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def both(first: User, second: Tenant) -> User:
    """Make a person of one house a member of another, too."""
    Membership.objects.create(user=first, tenant=second, role="member")
    return User.objects.get(pk=first.pk)
