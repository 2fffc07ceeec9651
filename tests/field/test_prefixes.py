"""What the names of a connection's tools begin with: readable in any script, chosen once, and said where it matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections import names
from connections.forms import ConnectionForm
from connections.models import Connection, User
from tests.conftest import House
from tests.live import Api

URL = "https://8.8.8.8/mcp"
SignedIn = Callable[[User | None], Client]

pytestmark = pytest.mark.django_db


def filled(house: House, **fields: Any) -> ConnectionForm:
    data = {"name": "Orders", "server_url": URL, "authorization": "none", "enabled": True, **fields}
    return ConnectionForm(data, tenant=house.tenant, user=house.admin)


def saved(house: House, **fields: Any) -> Connection:
    form = filled(house, **fields)
    assert form.is_valid(), form.errors
    return form.save()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("Заказы", "zakazy"), ("東京", "dongjing"), ("Παραγγελίες", "paraggelies"), ("주문", "jumun"),
        ("注文 shop", "zhuwen-shop"), ("Bücher & Größe", "bucher-grosse"), ("Łódź", "lodz"), ("طلبات", "tlbt"),
        ("🚀 Launch", "rocket-launch"), ("O'Brien", "obrien"), ("a_b", "a-b"), ("!!!", "connection"),
        ("Щ" * 80, "shch" * 6), ("Orders", "orders"), ("A very long name of a connection", "a-very-long-name-of-a-co"),
    ],
)  # fmt: skip
def test_a_name_in_any_script_has_a_readable_prefix(acme: House, name: str, prefix: str) -> None:
    form = filled(acme, name=name)
    assert form.is_valid(), form.errors
    assert form.save().slug == prefix
    assert names.is_prefix(prefix)


def test_names_that_read_alike_get_different_prefixes(acme: House) -> None:
    slugs = [saved(acme, name=name).slug for name in ("Заказы", "Zakazy", "zakázy")]
    assert slugs == ["zakazy", "zakazy-2", "zakazy-3"]


def test_an_organization_in_another_script_is_told_apart_by_a_readable_word() -> None:
    assert names.slug_of("Заказы") == "zakazy"
    assert names.slug_of("АСМЕ") == names.slug_of("acme") == "acme"  # what looks like Latin reads as Latin


@pytest.mark.parametrize(
    ("chosen", "prefix"), [("shop", "shop"), ("shop-2", "shop-2"), ("shop__", "shop"), ("", "orders")]
)
def test_a_prefix_may_be_chosen_when_adding(acme: House, chosen: str, prefix: str) -> None:
    form = filled(acme, tool_prefix=chosen)
    assert form.is_valid(), form.errors
    assert form.save().slug == prefix


@pytest.mark.parametrize("chosen", ["Shop", "a b", "a__b", "-a", "a-", "a--b", "ä", "a.b", "a/b", "x" * 25, "\u200ba"])
def test_what_cannot_begin_the_names_of_tools_is_refused(acme: House, chosen: str) -> None:
    assert "tool_prefix" in filled(acme, tool_prefix=chosen).errors


def test_a_prefix_belongs_to_one_connection_of_an_organization(acme: House, rival: House) -> None:
    saved(acme, tool_prefix="shop")
    assert "tool_prefix" in filled(acme, name="Other", tool_prefix="shop").errors
    assert filled(rival, tool_prefix="shop").is_valid()


def test_programs_choose_it_when_adding_and_never_later(api: Api, acme: House, open_egress: None) -> None:
    api = api.as_(acme.member_token(acme.admin))
    body = {"name": "Orders", "server_url": "http://127.0.0.1:9/mcp", "slug": "shop"}
    row = api.post("/v1/connections", body).json()
    assert row["slug"] == "shop"
    taken = api.post("/v1/connections", {**body, "name": "Other"})
    assert (taken.status_code, taken.json()["errors"][0]["pointer"]) == (422, "/slug")
    path = f"/v1/connections/{row['id']}"
    later = api.request("PATCH", path, json={"slug": "store"})
    assert (later.status_code, later.json()["errors"][0]["pointer"]) == (422, "/slug")
    assert api.request("PATCH", path, json={"slug": "shop", "name": "Store"}).status_code == 200


def test_the_pages_say_which_prefix_there_is_and_that_it_stays(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    assert 'name="tool_prefix"' in client.get("/admin/connections/connection/add/").content.decode()
    connection = saved(acme)
    path = f"/admin/connections/connection/{connection.pk}/change/"
    page = client.get(path).content.decode()
    assert "begin with “orders__”, also when you change it" in page
    assert 'name="tool_prefix"' not in page
    sent = {"name": "Shop", "server_url": URL, "authorization": "none", "enabled": "on"}
    answer = client.post(path, sent, follow=True).content.decode()
    assert "begin with “orders__” as before" in answer
    assert "as before" not in client.post(path, {**sent, "max_rate": "5"}, follow=True).content.decode()
    assert Connection.objects.get(pk=connection.pk).slug == "orders"
    assert "<code>orders__</code>" in signed_in(acme.member).get(path).content.decode()
