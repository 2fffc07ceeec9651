"""Whose share of look-ups a page uses: never that of everybody whose servers' names end alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from django.conf import settings
from django.test import Client

from connections.context import tenant
from connections.egress import network
from connections.errors import Unreachable
from connections.models import Membership, User
from tests.conftest import House
from tests.live import Api
from tests.loopback import NO_TLS

SignedIn = Callable[[User | None], Client]
CSRF = "a" * 32


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For whom names are looked up."""
    noted: list[str] = []

    async def resolve(host: str, port: int, **_: Any) -> list[str]:
        noted.append(tenant.get())
        raise Unreachable

    monkeypatch.setattr(network, "resolve_async", resolve)
    return noted


@pytest.fixture
def check(api: Api, signed_in: SignedIn) -> Callable[[User], None]:
    """Press "Check sign-in" beside the form of a new connection, in the browser of this person."""

    def press(user: User) -> None:
        session = signed_in(user).cookies[settings.SESSION_COOKIE_NAME].value
        cookies = {settings.SESSION_COOKIE_NAME: session, settings.CSRF_COOKIE_NAME: CSRF}
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=30, cookies=cookies) as browser:
            assert browser.get(f"{api.base}/admin/").status_code == 200  # from now on it is known whose it is
            form: dict[str, Any] = {"server_url": "https://mcp.rival.co.uk/mcp", "csrfmiddlewaretoken": CSRF}
            assert browser.post(f"{api.base}{CHECK}", data=form).status_code == 200

    return press


CHECK = "/admin/connections/connection/check-sign-in/"


def test_a_page_looks_names_up_for_the_organization_of_who_opened_it(
    check: Callable[[User], None], shares: list[str], acme: House, rival: House
) -> None:
    check(rival.admin)
    assert set(shares) == {str(rival.tenant.pk)}
    shares.clear()
    check(acme.admin)
    assert set(shares) == {str(acme.tenant.pk)}
    shares.clear()
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="admin")
    check(acme.admin)
    assert shares
    assert not {"", str(acme.tenant.pk), str(rival.tenant.pk)} & set(shares), "who belongs to both takes nobody's"
