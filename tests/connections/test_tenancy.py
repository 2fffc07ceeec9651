"""Every page of the admin, asked by everybody: a stranger learns of a row exactly what they learn of none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib import admin
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from connections import audit
from connections.models import AuditEvent, Connection, Membership, Tenant, User
from connections.tenancy import ClosedAdmin, SuperuserAdmin, TenantAdmin
from tests.conftest import House, found
from tools.models import AccessToken, Assignment, Call, Probe, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
MARK = "acme-only"  # stands in every row of acme that is shown anywhere


@dataclass
class Estate:
    """One row of everything that a house can own."""

    connection: Connection
    tool: Tool
    probe: Probe
    assignment: Assignment
    token: AccessToken
    own_token: AccessToken
    call: Call
    event: AuditEvent


def settle(house: House, mark: str = MARK) -> Estate:
    connection = house.connection(f"{mark} orders", url=f"https://{mark}.example.com/mcp")
    definition = {"name": f"{mark}-tool", "description": mark}
    tool = Tool.objects.create(
        connection=connection,
        name=f"{mark}-tool",
        public_name=f"orders__{mark}",
        definition=definition,
        digest="d" * 64,
    )
    probe = Probe.objects.create(connection=connection)
    probe.add_stage("dns", "failed", f"{mark} does not exist.", 3)
    probe.finish(Probe.Outcome.FAILED, "host_not_found")
    assignment = house.assignment(f"{mark} assignment")
    token, _ = AccessToken.issue(assignment=assignment, label=f"{mark} token")
    own_token, _ = AccessToken.issue(membership=house.membership(house.admin), label=f"{mark} own token")
    now = timezone.now()
    call = Call.objects.create(
        tenant=house.tenant, assignment=assignment, connection=connection, tool=tool, tool_name=f"orders__{mark}",
        sealed_arguments="", state="failed", error_code="x", error_sentence=mark, finished_at=now,
    )  # fmt: skip
    event = audit.record(house.admin, "connection.created", connection, tenant=house.tenant)
    return Estate(connection, tool, probe, assignment, token, own_token, call, event)


@pytest.fixture
def estate(acme: House) -> Estate:
    return settle(acme)


def rows(house: House, estate: Estate) -> dict[type[Model], Model]:
    return {
        Tenant: house.tenant,
        Membership: house.membership(house.member),
        User: house.member,
        Connection: estate.connection,
        AuditEvent: estate.event,
        Tool: estate.tool,
        Probe: estate.probe,
        Assignment: estate.assignment,
        AccessToken: estate.own_token,
        Call: estate.call,
    }


def never_was(row: Model) -> str:
    """An id of the same kind that no row has."""
    return str(uuid4()) if isinstance(row.pk, UUID) else str(row.pk + 1_000_000)


def body(response: HttpResponse, *ids: object) -> str:
    """What an answer says, without what differs between any two answers: the CSRF token and the id asked for."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", response.content.decode())
    for identifier in ids:
        text = text.replace(str(identifier), "ID")
    return text


# --- which pages there are ------------------------------------------------------------------------------------------


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


# Addresses that speak of no row, and what each of the cast is answered:
# superuser, admin, member, auditor, rival's admin, reviewer, nobody.
CAST = ("superuser", "admin", "member", "auditor", "rival", "reviewer", "nobody")
GENERAL = {
    "index": (200, 200, 200, 200, 200, 200, 302),
    "login": (302, 302, 302, 302, 302, 302, 200),
    "logout": (405, 405, 405, 405, 405, 405, 302),
    "password_change": (200, 200, 200, 200, 200, 200, 302),
    "password_change_done": (200, 200, 200, 200, 200, 200, 302),
    "autocomplete": (403, 403, 403, 403, 403, 403, 302),
    "jsi18n": (200, 200, 200, 200, 200, 200, 302),
    "app_list": (200, 200, 200, 200, 200, 200, 302),
    "auth_user_password_change": (200, 404, 404, 404, 404, 404, 302),
}
# Pages of one kind of row: its list, its add page, one row of acme (page, history), its delete page.
PAGES: dict[type[Model], dict[str, tuple[int, ...]]] = {
    Connection: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (200, 200, 403, 403, 200, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (200, 200, 403, 403, 404, 403, 302),
    },
    Tool: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (403, 403, 403, 403, 404, 403, 302),
    },
    Probe: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (403, 403, 403, 403, 404, 403, 302),
    },
    Assignment: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (200, 200, 403, 403, 200, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (200, 200, 403, 403, 404, 404, 302),
    },
    Call: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    AccessToken: {  # everybody sees only their own; this one is the admin's
        "changelist": (403, 200, 200, 200, 200, 403, 302),
        "add": (403, 200, 200, 200, 200, 403, 302),
        "change": (404, 200, 404, 404, 404, 404, 302),
        "delete": (404, 403, 404, 404, 404, 404, 302),
    },
    Tenant: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (200, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (200, 403, 403, 403, 404, 404, 302),
    },
    Membership: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (200, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (200, 200, 403, 403, 404, 404, 302),
    },
    AuditEvent: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    User: {
        "changelist": (200, 403, 403, 403, 403, 403, 302),
        "add": (200, 403, 403, 403, 403, 403, 302),
        "change": (200, 404, 404, 404, 404, 404, 302),
        "delete": (200, 404, 404, 404, 404, 404, 302),
    },
}
# Buttons: addresses that take only POST. Who may press them on acme's row.
BUTTONS = {
    "connections_connection_check": (302, 302, 403, 403, 404, 403, 302),
    "tools_tool_approve": (302, 302, 403, 403, 404, 403, 302),
    "tools_tool_policy": (302, 302, 403, 403, 404, 403, 302),
    "tools_assignment_token": (200, 200, 403, 403, 404, 404, 302),
    "tools_assignment_revoke": (302, 302, 403, 403, 404, 404, 302),
    "tools_accesstoken_revoke": (404, 302, 404, 404, 404, 404, 302),
}
LIVE_REPORT = {"tools_probe_report": (200, 200, 200, 200, 404, 200, 302)}


@pytest.fixture
def cast(acme: House, rival: House, reviewer: User, superuser: User) -> dict[str, User | None]:
    return {
        "superuser": superuser, "admin": acme.admin, "member": acme.member, "auditor": acme.auditor,
        "rival": rival.admin, "reviewer": reviewer, "nobody": None,
    }  # fmt: skip


def test_every_page_stands_on_a_closed_base() -> None:
    for model, page in admin.site._registry.items():
        assert isinstance(page, ClosedAdmin), model
        assert isinstance(page, TenantAdmin) or (model is User and isinstance(page, SuperuserAdmin)), model
        assert not page.inlines, f"{model}: inlines need rules of their own"
        assert not page.autocomplete_fields, f"{model}: autocomplete needs rules of its own"
        assert not page.raw_id_fields, f"{model}: raw ids need rules of their own"
    assert set(PAGES) == set(admin.site._registry)


def test_no_address_of_the_admin_is_missing_from_these_tables() -> None:
    known = set(GENERAL) | set(BUTTONS) | set(LIVE_REPORT)
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


@pytest.mark.parametrize("name", GENERAL)
def test_who_may_open_the_pages_of_no_row(
    name: str, acme: House, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    paths = {
        "index": "/admin/", "app_list": "/admin/connections/",
        "auth_user_password_change": f"/admin/connections/user/{acme.member.pk}/password/",
        "password_change_done": "/admin/password_change/done/",
    }  # fmt: skip
    path = paths.get(name, f"/admin/{name}/")
    for who, expected in zip(CAST, GENERAL[name], strict=True):
        assert signed_in(cast[who]).get(path).status_code == expected, f"{who} at {path}"


def button(name: str, estate: Estate) -> tuple[str, dict[str, str]]:
    """Where a button leads, and what it sends."""
    return {
        "connections_connection_check": (f"/admin/connections/connection/{estate.connection.pk}/check/", {}),
        "tools_tool_approve": (f"/admin/tools/tool/{estate.tool.pk}/approve/", {"digest": "d" * 64}),
        "tools_tool_policy": (f"/admin/tools/tool/{estate.tool.pk}/policy/", {"policy": "deny"}),
        "tools_assignment_token": (f"/admin/tools/assignment/{estate.assignment.pk}/tokens/", {"label": "x"}),
        "tools_assignment_revoke": (
            f"/admin/tools/assignment/{estate.assignment.pk}/tokens/{estate.token.pk}/revoke/",
            {},
        ),
        "tools_accesstoken_revoke": (f"/admin/tools/accesstoken/{estate.own_token.pk}/revoke/", {}),
    }[name]


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
        models: list[Any] = [Connection, Tool, AccessToken, AuditEvent]
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = state()
    path, data = button(name, estate)
    for who in ("member", "auditor", "rival", "reviewer", "nobody"):
        signed_in(cast[who]).post(path, data)
    assert state() == before


# --- a stranger's row is missing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["change", "history", "delete", "check", "approve", "policy", "tokens", "revoke", ""])
@pytest.mark.parametrize("model", PAGES, ids=lambda model: model.__name__)
def test_a_row_of_another_house_is_answered_like_one_that_never_was(
    page: str, model: type[Model], acme: House, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    row = rows(acme, estate)[model]
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    nothing = never_was(row)
    for who in ("rival", "reviewer", "nobody"):
        client = signed_in(cast[who])
        owner_sees = model in {Connection, Tool, Probe} and who == "reviewer"
        for method in (client.get, client.post):
            real = method(f"{base}{row.pk}/{page}/" if page else f"{base}{row.pk}/")
            none = method(f"{base}{nothing}/{page}/" if page else f"{base}{nothing}/")
            if owner_sees:
                continue
            assert real.status_code == none.status_code, f"{who} {method.__name__} {page}"
            assert body(real, row.pk) == body(none, nothing)
            assert MARK not in real.content.decode()
            location, other = real.headers.get("Location", ""), none.headers.get("Location", "")
            assert location.replace(str(row.pk), "ID") == other.replace(nothing, "ID")


def test_the_live_report_of_a_strangers_connection_is_missing(
    estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    nothing = uuid4()
    for who, expected in zip(CAST, LIVE_REPORT["tools_probe_report"], strict=True):
        client = signed_in(cast[who])
        answer = client.get(f"/admin/tools/probe/report/{estate.connection.pk}/")
        assert answer.status_code == expected, who
        if expected == 404:
            assert body(answer, estate.connection.pk) == body(
                client.get(f"/admin/tools/probe/report/{nothing}/"), nothing
            )


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
        "standing=nonsense", "e=1",
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


# --- a stranger's ids, sent ------------------------------------------------------------------------------------------


def test_a_connection_cannot_be_made_in_another_house(acme: House, rival: House, signed_in: SignedIn) -> None:
    data = {"name": "Trojan", "server_url": "https://8.8.8.8/mcp", "authorization": "none", "enabled": "on"}
    third = found("third")
    Membership.objects.create(user=rival.admin, tenant=third.tenant, role="admin")
    client = signed_in(rival.admin)
    refused = client.post("/admin/connections/connection/add/", data | {"tenant": str(acme.tenant.pk)})
    never = client.post("/admin/connections/connection/add/", data | {"tenant": (nothing := str(uuid4()))})
    assert refused.status_code == 200
    assert body(refused, acme.tenant.pk) == body(never, nothing)
    assert not Connection.objects.exists()
    assert client.post("/admin/connections/connection/add/", data | {"tenant": str(third.tenant.pk)}).status_code == 302
    assert Connection.objects.get().tenant == third.tenant


def test_a_tenant_that_is_sent_where_none_is_asked_for_is_ignored(
    acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    client = signed_in(rival.admin)
    data = {"name": "Stock", "server_url": "https://8.8.8.8/mcp", "authorization": "none", "tenant": acme.tenant.pk}
    client.post("/admin/connections/connection/add/", data)
    assert Connection.objects.get(name="Stock").tenant == rival.tenant
    signed_in(acme.admin).post(
        f"/admin/connections/connection/{estate.connection.pk}/change/", data | {"tenant": rival.tenant.pk}
    )
    estate.connection.refresh_from_db()
    assert estate.connection.tenant == acme.tenant


def test_an_assignment_takes_only_tools_of_its_own_house(
    acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    own = settle(rival, "rival-only")
    client = signed_in(rival.admin)
    path = f"/admin/tools/assignment/{own.assignment.pk}/change/"
    data = {"name": "Mine", "scope": "chosen", "enabled": "on"}
    refused = client.post(path, data | {"tools": [str(estate.tool.pk)]})
    never = client.post(path, data | {"tools": [nothing := str(uuid4())]})
    assert refused.status_code == 200
    assert body(refused, estate.tool.pk) == body(never, nothing)
    assert not own.assignment.tools.exists()
    assert client.post(path, data | {"tools": [str(own.tool.pk)]}).status_code == 302
    assert list(own.assignment.tools.all()) == [own.tool]


def test_not_even_who_belongs_to_both_houses_mixes_their_tools(
    acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    own = settle(rival, "rival-only")
    Membership.objects.create(user=rival.admin, tenant=acme.tenant, role="admin")
    data = {"name": "Mine", "scope": "chosen", "enabled": "on", "tools": [str(estate.tool.pk)]}
    answer = signed_in(rival.admin).post(f"/admin/tools/assignment/{own.assignment.pk}/change/", data)
    assert answer.status_code == 200
    assert not own.assignment.tools.exists()


ACTIONS = {
    Connection: ["check_now", "enable", "disable", "delete_selected"],
    Tool: ["approve_chosen", "allow_chosen", "deny_chosen"],
    Assignment: ["delete_selected"],
}


@pytest.mark.parametrize("role", ["stranger", "member of both"])
@pytest.mark.parametrize(("model", "action"), [(model, action) for model in ACTIONS for action in ACTIONS[model]])
def test_an_action_touches_only_rows_that_one_may_change(
    model: type[Model], action: str, role: str, acme: House, rival: House, estate: Estate, signed_in: SignedIn
) -> None:
    if role == "member of both":  # acme's rows are in the list then, and still not theirs to change
        Membership.objects.create(user=rival.admin, tenant=acme.tenant, role="member")
    row = rows(acme, estate)[model]
    tables: list[Any] = [Connection, Tool, Assignment, AuditEvent]
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    data = {"action": action, "_selected_action": [str(row.pk)], "post": "yes", "confirmed": "1"}
    data[f"digest_{row.pk}"] = "d" * 64
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    answer = signed_in(rival.admin).post(path, data)
    assert answer.status_code in {200, 302, 403}
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before


def test_an_action_of_the_owner_does_touch_them(acme: House, estate: Estate, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    chosen = {"_selected_action": [str(estate.connection.pk)]}
    client.post("/admin/connections/connection/", {"action": "disable", **chosen})
    assert not Connection.objects.get().enabled
    client.post("/admin/connections/connection/", {"action": "enable", **chosen})
    assert Connection.objects.get().enabled
    client.post("/admin/connections/connection/", {"action": "delete_selected", "post": "yes", **chosen})
    assert not Connection.objects.exists()
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"connection.disabled", "connection.enabled", "connection.deleted"} <= actions


# --- members --------------------------------------------------------------------------------------------------------


def test_an_organization_keeps_its_last_admin(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    own = acme.membership(acme.admin)
    path = f"/admin/connections/membership/{own.pk}"
    assert "only admin" in client.post(f"{path}/change/", {"role": "member"}).content.decode()
    refused = client.post(f"{path}/delete/", {"post": "yes"}, follow=True)
    assert "only admin" in refused.content.decode()
    assert acme.membership(acme.admin).role == "admin"
    other = acme.membership(acme.member)
    client.post(f"/admin/connections/membership/{other.pk}/change/", {"role": "admin"})
    assert acme.membership(acme.member).role == "admin"
    client.post(f"{path}/delete/", {"post": "yes"})
    assert not acme.tenant.memberships.filter(user=acme.admin).exists()


def test_whoever_left_sees_nothing_from_the_next_click_on(acme: House, estate: Estate, signed_in: SignedIn) -> None:
    client = signed_in(acme.member)
    path = f"/admin/connections/connection/{estate.connection.pk}/change/"
    assert client.get(path).status_code == 200
    acme.membership(acme.member).delete()
    assert client.get(path).status_code == 302  # nothing is left to see: back to the door


def test_a_deleted_organization_leaves_its_audit_trail(
    acme: House, estate: Estate, superuser: User, signed_in: SignedIn
) -> None:
    client = signed_in(superuser)
    client.post(f"/admin/connections/tenant/{acme.tenant.pk}/delete/", {"post": "yes"})
    assert not Tenant.objects.filter(pk=acme.tenant.pk).exists()
    assert set(AuditEvent.objects.values_list("action", flat=True)) == {"connection.created", "tenant.deleted"}
    assert client.get("/admin/connections/auditevent/").status_code == 200
    for event in AuditEvent.objects.all():
        assert client.get(f"/admin/connections/auditevent/{event.pk}/change/").status_code == 200


@pytest.mark.parametrize("name", BUTTONS)
def test_a_button_pressed_from_another_site_does_nothing(name: str, acme: House, estate: Estate) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(acme.admin)
    path, data = button(name, estate)
    assert client.post(path, data).status_code == 403
