"""A History page and the slugs of staff in a browser: readable, accessible, and free of complaints."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from connections import audit
from connections.models import User
from connections.states import ReachabilityState
from tests.browser.conftest import Visit
from tests.conftest import House, found

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_history_is_read_as_words(
    acme: House, superuser: User, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    orders = acme.connection("Orders")
    changed = ["name", "server_url", "max_rate", "oauth_grant"]
    audit.record(acme.admin, "connection.created", orders, tenant=acme.tenant)
    audit.record(acme.admin, "connection.changed", orders, tenant=acme.tenant, fields=changed, secrets=["api_key set"])
    audit.record("system", "connection.sign_in_ended", orders, tenant=acme.tenant, outcome="refused", reason="too dear")
    told = {"changes": {"name": ["Orders", "Orders EU"], "call_timeout": [300, 60]}}
    audit.record(acme.admin, "connection.changed", orders, tenant=acme.tenant, **told)
    orders.set_reachability(ReachabilityState.UNREACHABLE, "connect_timeout", "It did not accept the connection.")
    ann = visit(acme.admin, width=width, colours=colours)
    ann.open(f"/admin/connections/connection/{orders.pk}/history/")
    expect(ann.page.locator("#change-history")).to_contain_text("name, server URL, calls per minute, grant")
    expect(ann.page.locator("#change-history")).to_contain_text("Reason: too dear")
    assert ann.complaints == []
    assert ann.violations() == []
    ann.shoot("history", tmp_path)
    found("ACME").connection("Stock")
    root = visit(superuser, width=width, colours=colours)
    root.open("/admin/connections/connection/")
    expect(root.page.locator("#result_list")).to_contain_text("ACME (acme-2)")
    root.shoot("slugs", tmp_path)
    root.open(f"/admin/connections/tenant/{acme.tenant.pk}/change/")
    root.shoot("organization", tmp_path)
    assert root.complaints == []
