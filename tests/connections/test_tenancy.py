"""Every page of the admin, asked by everybody: a stranger learns of a row exactly what they learn of none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from connections.models import AuditEvent, Connection, Invitation, Membership, Tenant, User
from connections.tenancy import ClosedAdmin, SuperuserAdmin, TenantAdmin
from tests.conftest import ActIn, House
from tests.connections.estate import MARK, Estate, body, never_was, rows, settle
from tests.connections.isolation import BUTTONS, CAST, GENERAL, PAGES, READ, acting, button, read
from tools.models import AccessToken, Call, Probe, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def admin_patterns() -> list[tuple[str, str]]:
    """Every named address of the admin: name and route."""

    def walk(patterns: Any, prefix: str) -> Any:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern) and pattern.name:
                yield pattern.name, route

    resolver = next(entry for entry in get_resolver().url_patterns if getattr(entry, "namespace", "") == "admin")
    return list(walk(resolver.url_patterns, "/admin/"))


def test_every_page_stands_on_a_closed_base() -> None:
    for model, page in admin.site._registry.items():
        assert isinstance(page, ClosedAdmin), model
        assert isinstance(page, TenantAdmin) or (model is User and isinstance(page, SuperuserAdmin)), model
        assert not page.inlines, f"{model}: inlines need rules of their own"
        assert not page.autocomplete_fields, f"{model}: autocomplete needs rules of its own"
        assert not page.raw_id_fields, f"{model}: raw ids need rules of their own"
    assert set(PAGES) == set(admin.site._registry)


def test_no_address_of_the_admin_is_missing_from_these_tables() -> None:
    known = set(GENERAL) | set(BUTTONS) | set(READ)
    for model in PAGES:
        stem = f"{model._meta.app_label}_{model._meta.model_name}"
        known |= {f"{stem}_{page}" for page in ("changelist", "add", "change", "delete", "history")}
    assert {name for name, _ in admin_patterns()} <= known


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model.__name__)
def test_who_may_open_which_page(
    model: type[Model], acme: House, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    row = rows(acme, estate)[model]
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    wanted = PAGES[model]
    table = {
        base: wanted["changelist"],
        f"{base}add/": wanted["add"],
        f"{base}{row.pk}/change/": wanted["change"],
        f"{base}{row.pk}/history/": wanted["change"],
        f"{base}{row.pk}/delete/": wanted["delete"],
    }
    for path, answers in table.items():
        for name, expected in zip(CAST, answers, strict=True):
            client = signed_in(cast[name])
            assert client.get(path).status_code == expected, f"{name} at {path}"


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model.__name__)
def test_a_superuser_who_acts_in_an_organization_opens_what_its_admins_open(
    model: type[Model], acme: House, estate: Estate, act_in: ActIn
) -> None:
    row, client = rows(acme, estate)[model], act_in(acme.tenant)
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for page, answers in PAGES[model].items():
        path = base if page == "changelist" else f"{base}add/" if page == "add" else f"{base}{row.pk}/{page}/"
        name = f"{model._meta.app_label}_{model._meta.model_name}_{page}"
        expected = 200 if (model, page) == (Membership, "add") else acting(name, *answers[:2])
        assert client.get(path).status_code == expected, path


@pytest.mark.parametrize("name", BUTTONS)
def test_a_superuser_who_acts_in_an_organization_presses_what_its_admins_press_and_nowhere_else(
    name: str, estate: Estate, rival: House, act_in: ActIn
) -> None:
    path, data = button(name, estate)
    looks, admin = BUTTONS[name][:2]
    assert act_in(rival.tenant).post(path, data).status_code == looks, f"acting elsewhere at {path}"
    assert act_in(estate.connection.tenant).post(path, data).status_code == acting(name, looks, admin), path


@pytest.mark.parametrize("name", GENERAL)
def test_who_may_open_the_pages_of_no_row(
    name: str, acme: House, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    paths = {
        "index": "/admin/", "app_list": "/admin/connections/",
        "auth_user_password_change": f"/admin/connections/user/{acme.member.pk}/password/",
        "password_change_done": "/admin/password_change/done/",
        "saved_filter_save": "/admin/saved-filters/", "saved_filter_remove": f"/admin/saved-filters/{uuid4()}/remove/",
        "mail_choices": "/admin/mails/", "inbox_count": "/admin/inbox/count/", "inbox_assign": "/admin/inbox/assign/",
    }  # fmt: skip
    path = paths.get(name, f"/admin/{name}/")
    for who, expected in zip(CAST, GENERAL[name], strict=True):
        assert signed_in(cast[who]).get(path).status_code == expected, f"{who} at {path}"


@pytest.mark.parametrize("name", BUTTONS)
def test_who_may_press_which_button(
    name: str, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    path, data = button(name, estate)
    for who, expected in zip(CAST, BUTTONS[name], strict=True):
        client = signed_in(cast[who])
        answer = client.post(path, data)
        assert answer.status_code == expected, f"{who} at {path}"
        assert client.get(path).status_code in {302, 405}, "a button takes only POST"


@pytest.mark.parametrize("name", BUTTONS)
def test_a_button_pressed_by_those_who_may_not_changes_nothing(
    name: str, acme: House, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    def state() -> list[Any]:
        models: list[Any] = [Connection, Tenant, Tool, AccessToken, Call, AuditEvent, Invitation]
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = state()
    path, data = button(name, estate)
    for who in ("superuser", "member", "auditor", "rival", "reviewer", "nobody"):
        if who != "superuser" or BUTTONS[name][0] == 403:
            signed_in(cast[who]).post(path, data)
    assert state() == before


# --- a stranger's row is missing ------------------------------------------------------------------------------------


OF_A_ROW = [
    "change", "history", "delete", "check", "use-address", "approve", "policy", "description", "placement", "tokens",
    "revoke", "connect", "disconnect",
    "webhook-secret", "consent", "withdraw", "seen", "act", "leave", "suspend", "resume",
    "webhook-test", "refuse", "answer", "cancel", "again", "end", "life", "contents", "contents/1", "send",
    "withdraw", "without-factor", "",
]  # fmt: skip


@pytest.mark.parametrize("who", ["rival", "reviewer", "nobody"])
@pytest.mark.parametrize("model", PAGES, ids=lambda model: model.__name__)
def test_a_row_of_another_house_is_answered_like_one_that_never_was(
    model: type[Model], who: str, acme: House, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    row = rows(acme, estate)[model]
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    nothing = never_was(row)
    owner_sees = model in {Connection, Tool, Probe} and who == "reviewer"
    client = signed_in(cast[who])
    for page in OF_A_ROW:
        for method in (client.get, client.post):
            real = method(f"{base}{row.pk}/{page}/" if page else f"{base}{row.pk}/")
            none = method(f"{base}{nothing}/{page}/" if page else f"{base}{nothing}/")
            if owner_sees:
                continue
            asked = f"{method.__name__} {page}"
            assert real.status_code == none.status_code, asked
            assert body(real, row.pk) == body(none, nothing), asked
            assert MARK not in real.content.decode(), asked
            location, other = real.headers.get("Location", ""), none.headers.get("Location", "")
            assert location.replace(str(row.pk), "ID") == other.replace(nothing, "ID"), asked


@pytest.mark.parametrize("name", READ)
def test_what_pages_read_of_a_strangers_row_is_missing(
    name: str, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    address, row = read(name, estate)
    nothing = uuid4()
    for who, expected in zip(CAST, READ[name], strict=True):
        client = signed_in(cast[who])
        answer = client.get(address.format(row))
        assert answer.status_code == expected, who
        if expected == 404:
            assert body(answer, row) == body(client.get(address.format(nothing)), nothing)


def test_a_stranger_reads_nothing_of_a_house_on_any_page(
    acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    settle(rival, "rival-only")
    for who, theirs, others in ((acme.admin, MARK, "rival-only"), (rival.admin, "rival-only", MARK)):
        client = signed_in(who)
        seen = ""
        for model in PAGES:
            base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            for path in (base, f"{base}add/", f"{base}?q={others[:4]}", f"{base}?o=1", f"{base}?all=1"):
                text = client.get(path).content.decode()
                seen += text
                assert others not in text, path
                assert f"@{'rival' if who == acme.admin else 'acme'}.example" not in text, path
        assert theirs in seen


@pytest.mark.parametrize(
    "query",
    [
        "organization={tenant}", "connection__id__exact={connection}", "assignment__id__exact={assignment}",
        "id__exact={connection}", "tenant__id__exact={tenant}", "tenant__name__startswith=a",
        "connection__tenant__name__startswith=a", "digest__startswith=d", "sealed_arguments__startswith=v",
        "credentials__sealed__startswith=v", "_to_field=name&_popup=1", "status=nonsense", "era=nonsense",
        "availability=nonsense", "e=1",
    ],
)  # fmt: skip
def test_a_query_string_tells_nothing_of_another_house(
    query: str, acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    client = signed_in(rival.admin)
    ids = {"tenant": acme.tenant.pk, "connection": estate.connection.pk, "assignment": estate.assignment.pk}
    nothing = dict.fromkeys(ids, uuid4())
    for model in PAGES:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        real, none = client.get(f"{base}?{query.format(**ids)}"), client.get(f"{base}?{query.format(**nothing)}")
        assert real.status_code == none.status_code
        assert body(real, *ids.values()) == body(none, *nothing.values())
        assert MARK not in real.content.decode()
