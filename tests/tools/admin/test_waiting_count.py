"""The header of each page says how much waits for this person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.test import Client

from connections.models import User
from tests.conftest import House
from tests.tools.conftest import Shop


def ask(shop: Shop) -> None:
    """Have two calls wait for an approval."""
    shop.set_tool("echo", policy="ask")
    for _ in range(2):
        assert shop.call("echo", {"text": "x"}, headers={"Prefer": "wait=0"}).json()["state"] == "awaiting_approval"


def test_each_page_says_how_much_waits_for_this_person(
    shop: Shop,
    acme: House,
    rival: House,
    signed_in: Callable[[Any], Client],
) -> None:
    ask(shop)
    acme.connection("Billing", tools_state="changes_to_review")

    def header(user: User) -> str:
        return signed_in(user).get("/admin/connections/connection/").content.decode()

    assert "Inbox (3)" in header(acme.admin)
    for user in (acme.member, rival.admin):
        assert ">Inbox</a>" in header(user)
    assert "Inbox" not in header(acme.auditor)  # for whom nothing ever waits
    acme.tenant.suspend("Unpaid.")
    assert "Inbox (" not in header(acme.admin)


def test_the_count_costs_one_query_and_nobody_any_for_whom_nothing_can_wait(
    shop: Shop, acme: House, signed_in: Callable[[Any], Client], django_assert_max_num_queries: Any
) -> None:
    ask(shop)
    for user, most in ((acme.admin, 1), (acme.member, 1), (acme.auditor, 0)):
        client = signed_in(user)
        with django_assert_max_num_queries(20) as captured:
            assert client.get("/admin/connections/connection/").status_code == 200
        said = [query["sql"] for query in captured if "connections_notice" in query["sql"]]
        assert len(said) == most
