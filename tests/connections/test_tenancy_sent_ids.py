"""A stranger's ids, sent in forms, actions and buttons, change nothing of theirs; and who belongs to a house."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client, RequestFactory

from connections.models import AuditEvent, Connection, Membership, Tenant, User
from tests.conftest import House, found
from tests.connections.estate import Estate, body, rows, settle
from tests.connections.isolation import BUTTONS, button
from tools.models import Assignment, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


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


# --- what the admin does with a set of rows, whoever has chosen them ------------------------------------------------


def asks(user: User) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user
    return request


@pytest.mark.parametrize("model", [Connection, Assignment])
def test_a_deletion_of_a_set_leaves_rows_out_that_one_may_not_change(
    model: type[Model], acme: House, rival: House, estate: Estate
) -> None:
    own = settle(rival, "rival-only")
    Membership.objects.create(user=rival.admin, tenant=acme.tenant, role="member")  # who sees them, and no more
    ours, theirs = rows(rival, own)[model], rows(acme, estate)[model]
    admin.site.get_model_admin(model).delete_queryset(asks(rival.admin), model._default_manager.all())
    assert not model._default_manager.filter(pk=ours.pk).exists()
    assert model._default_manager.filter(pk=theirs.pk).exists()


def test_no_form_offers_rows_that_one_may_not_change(acme: House, rival: House, estate: Estate) -> None:
    """Each choice of another row, on each page of the admin: what is not offered is not accepted either."""
    settle(rival, "rival-only")
    request, seen = asks(rival.admin), 0
    for model, page in admin.site._registry.items():
        fields = [*model._meta.local_fields, *model._meta.local_many_to_many]
        for field in (one for one in fields if one.is_relation):
            form_field = page.formfield_for_dbfield(field, request)
            if form_field is None or not hasattr(form_field, "queryset"):
                continue
            seen += 1
            theirs = rows(acme, estate).get(form_field.queryset.model)
            if theirs is not None:
                assert not form_field.queryset.filter(pk=theirs.pk).exists(), f"{model.__name__}.{field.name}"
    assert seen > 5
