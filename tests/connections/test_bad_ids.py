"""What can be no id, no number and no date is answered plainly, wherever it is sent: never by a fault of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model
from django.test import Client, RequestFactory

from connections import lookups
from connections.models import AuditEvent, Connection, User
from tests import tries
from tests.conftest import House
from tests.connections import oracles
from tests.connections.estate import Estate, body, never_was, rows
from tests.connections.isolation import BUTTONS, button
from tests.connections.test_tenancy import admin_patterns

pytestmark = pytest.mark.django_db

BAD = ["abc", "9" * 30, "a\0b", "[1]", "-1", "9" * 5000, "a" * 3000, "\N{FULLWIDTH DIGIT ONE}", "_00_2F"]
FAR = ["0001-01-01 00:00:00+14:00", "9999-12-31 23:59:59-14:00", "NaN"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "django.request",
        "django.security.DisallowedModelAdminLookup",
        "django.security.DisallowedModelAdminToField",
    ):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)


@pytest.fixture
def client(superuser: User, acme: House) -> Client:
    """Whoever sees and may do the most, in a browser that is shown a fault of ours as its users are."""
    browser = Client(raise_request_exception=False)
    browser.force_login(superuser)
    browser.post(f"/admin/connections/tenant/{acme.tenant.pk}/act/", {"reason": "Asked for help"})
    browser.get("/admin/")  # which says that they act there
    return browser


def status(client: Client, path: str, sent: dict[str, Any] | None = None) -> int:
    """The status of an answer; a fault in the database does not spoil the questions that follow."""
    with oracles.undone():
        return client.get(path).status_code if sent is None else client.post(path, sent).status_code


def with_ids() -> list[str]:
    return [route for _, route in admin_patterns() if "<" in route]


@pytest.mark.parametrize("value", BAD[:4], ids=range(4))
def test_an_id_in_an_address_that_can_be_none_is_not_found(value: str, estate: Estate, client: Client) -> None:
    for route in with_ids():
        path = re.sub(r"<[^>]+>", quote(value, safe=""), route)
        with oracles.undone():
            assert client.get(path, follow=True).status_code in {404, 405}, path
        with oracles.undone():
            assert client.post(path).status_code in {302, 403, 404, 405}, path


def _actions() -> list[tuple[type[Model], str]]:
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True)
    vars(request.user)["roles"] = {uuid4(): "admin"}
    return [(model, name) for model, page in admin.site._registry.items() for name in page.get_actions(request)]


@pytest.mark.parametrize(("model", "action"), _actions())
def test_an_id_in_an_action_that_can_be_none_is_like_one_that_no_row_has(
    model: type[Model], action: str, acme: House, estate: Estate, client: Client
) -> None:
    path, row = oracles.address(model), rows(acme, estate)[model]

    def press(*ids: str, **more: str) -> Any:
        with oracles.undone():
            data = {"action": action, ACTION_CHECKBOX_NAME: list(ids), "post": "yes", "confirmed": "1", **more}
            answer = client.post(path, data, follow=True)
            return answer.status_code, body(answer)

    nothing = press(never_was(row))
    assert nothing[0] == 200
    for value in BAD:
        assert press(value) == nothing, value
    assert press(BAD[0], index="0") == nothing
    assert press(str(row.pk), *BAD)[0] == 200
    with oracles.undone():
        assert client.post(path, {f"{ACTION_CHECKBOX_NAME}[]": "1", "action": action}).status_code == 200
        assert client.post(path, {ACTION_CHECKBOX_NAME: "1", "action": [action, "x"], "index": "-7"}).status_code == 302


def test_the_rows_that_are_there_are_acted_upon_whatever_stands_beside_them(
    acme: House, estate: Estate, signed_in: Callable[[User | None], Client]
) -> None:
    chosen = {ACTION_CHECKBOX_NAME: [*BAD, str(estate.connection.pk)], "action": "disable"}
    signed_in(acme.admin).post("/admin/connections/connection/", chosen)
    assert not Connection.objects.get().enabled
    assert list(AuditEvent.objects.values_list("action", flat=True)).count("connection.disabled") == 1


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model.__name__)
def test_a_value_in_a_query_string_that_can_be_none_is_told_so(
    model: type[Model], acme: House, estate: Estate, client: Client, superuser: User
) -> None:
    request = RequestFactory().get("/")
    request.user = superuser
    page: Any = admin.site.get_model_admin(model)
    for name in [*sorted(lookups.of_filters(page, request)), "o", "p", "q", "all", "e", "_popup", "_to_field"]:
        for value in ["abc", "a\0b", *(FAR if name.endswith(("__gte", "__lt")) else ["9" * 3000])]:
            path = f"{oracles.address(model)}?{urlencode({name: value})}"
            assert status(client, path) in {200, 302, 400, 403}, path
        twice = f"{oracles.address(model)}?{name}=1&{name}=2&{name}[]=3"
        assert status(client, twice) in {200, 302, 400, 403}, twice


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model.__name__)
def test_a_value_in_a_form_that_can_be_none_is_told_so(
    model: type[Model], acme: House, estate: Estate, client: Client
) -> None:
    row = rows(acme, estate)[model]
    start = oracles.address(model)
    for path in [f"{start}{row.pk}/change/", *([] if model is Connection else [f"{start}add/"])]:  # one form for both
        shown = client.get(path)
        if shown.status_code != 200:
            continue
        names = set(re.findall(r'<(?:input|select|textarea)[^>]* name="([^"]+)"', shown.content.decode()))
        for name in names - {"csrfmiddlewaretoken"}:
            for value in ("a\0b", "9" * 400):
                data = {"name": "x", "server_url": "https://8.8.8.8/mcp", "authorization": "none", name: value}
                assert status(client, path, data) in {200, 302, 403, 404}, f"{path} {name}"


OF_STAFF = {
    "connections_tenant_suspend", "connections_tenant_resume", "connections_tenant_act", "connections_tenant_leave",
}  # fmt: skip


@pytest.mark.parametrize("name", BUTTONS)
def test_a_value_behind_a_button_that_can_be_none_is_told_so(
    name: str, estate: Estate, acme: House, superuser: User
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(superuser if name in OF_STAFF else acme.admin)
    path, data = button(name, estate)
    if name == "connections_connection_disconnect":  # only there has somebody something of their own
        Connection.objects.filter(pk=estate.connection.pk).update(sharing="personal", authorization="api_key")
    for field in {*data, "digest", "mark", "idle_timeout", "expires_on", "reason"}:
        for value in ["a\0b", "9" * 400, FAR[1]]:
            sent = {**data, field: value}
            tries.forget()  # refused for a while, it would say nothing of what it was sent
            assert status(client, path, sent) in {200, 302, 404}, f"{name} {field} {value[:9]!r}"


def test_a_target_that_is_refused_leads_to_the_start_page(
    acme: House, signed_in: Callable[[User | None], Client]
) -> None:
    for target in (
        "https://evil.example.com/",
        "//evil.example.com",
        "javascript:alert(1)",
        "/\\evil.example.com",
        "\0",
    ):
        login = {"username": acme.admin.username, "password": "correct horse battery staple", "next": target}
        for answer in (
            Client().post("/admin/login/", login),
            Client().post(f"/admin/login/?{urlencode({'next': target})}", {**login, "next": target}),
            signed_in(acme.admin).get(f"/admin/login/?{urlencode({'next': target})}"),
        ):
            assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/"), target


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31 23:59:59-23:59", "0001-01-01 00:00:00+23:59", "2026-01-01 00:00:00+16:00", "2026-13-01", "\0", "x"],
)
def test_a_moment_that_the_database_cannot_read_filters_nothing(
    acme: House, signed_in: Callable[[User | None], Client], moment: str
) -> None:
    page = signed_in(acme.admin).get("/admin/connections/auditevent/", {"at__gte": moment}, follow=True)
    assert page.status_code in {200, 400}
