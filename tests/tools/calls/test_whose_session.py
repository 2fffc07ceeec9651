"""Whose a session at a server is: what it remembers of one assignment, no other one sees."""

from __future__ import annotations

from tests.conftest import House
from tests.tools.conftest import OpenShop


def test_two_assignments_of_acme_never_share_a_session(open_shop: OpenShop, acme: House) -> None:
    shop = open_shop(kind="legacy")
    other = shop.api.as_(acme.token(acme.assignment("Weekly orders")))
    for api in (shop.api, other, shop.api, other):
        assert api.call("orders__echo", {"text": "x"}).status_code == 200
    used = [request.headers["mcp-session-id"] for request in shop.server.requests if request.rpc_method == "tools/call"]
    assert used[0] == used[2] != used[1] == used[3]
    checked = {
        request.headers["mcp-session-id"] for request in shop.server.requests if request.rpc_method == "tools/list"
    }
    assert not checked & set(used), "the product's own checks have a session of their own"
