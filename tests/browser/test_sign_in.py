"""An organization admin at the browser signs in at a provider's own page and comes back to a connection that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from connections.models import Connection
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import AuthorizationServer
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.servers.running import McpServer

pytestmark = pytest.mark.browser

ADD = "/admin/connections/connection/add/"
COLOURS = [(1280, "light"), (375, "dark")]


@pytest.fixture
def provider(
    mcp_server: StartServer, authorization_server: StartAuthorizationServer, settings: Any, live_server_url: str
) -> Any:
    """`provider(dcr=False)`: an MCP server, and the authorization server with a consent page that guards it."""
    settings.PUBLIC_URL = live_server_url

    def start(scopes: list[str] | None = None, **options: Any) -> tuple[McpServer, AuthorizationServer]:
        server, auth = mcp_server(), authorization_server(consent="page", **options)
        protect(server, auth, scopes=scopes)
        return server, auth

    return start


def fill(page: Page, url: str) -> None:
    page.get_by_label("Name", exact=True).fill("Orders")
    page.get_by_label("Server URL").fill(url)
    page.get_by_role("radio", name="OAuth").check()


def connected(page: Page) -> None:
    expect(page.locator("h1")).to_have_text("Orders")
    expect(page.locator("[data-part=headline]")).to_have_text("Connected", timeout=30_000)
    expect(page.get_by_role("link", name="orders__")).not_to_have_count(0)


def fits(visitor: Visitor) -> None:
    """The page is not too wide, and neither the browser nor axe has anything to say."""
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "too wide"
    assert visitor.complaints == []  # before axe, which brings styles of its own
    assert visitor.violations() == []
    visitor.complaints.clear()


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_an_admin_signs_in_where_the_server_registers_us(
    acme: House, visit: Visit, worker: None, provider: Any, tmp_path: Path, width: int, colours: str
) -> None:
    server, auth = provider(scopes=["orders:read", "orders:write"])
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(ADD)
    fill(page, server.url)
    page.get_by_role("button", name="Check sign-in").click()
    expect(page.locator("#look .verdict")).to_contain_text("lets us register by ourselves")
    ann.shoot("add", tmp_path)
    fits(ann)
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator("#sign-in-steps li")).not_to_have_count(0)  # the check has found them out
    ann.shoot("needs", tmp_path)
    fits(ann)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Allow").click()
    connected(page)
    assert len(auth.registrations) == 1
    card = page.locator("#sign-in")
    expect(card).to_contain_text(acme.admin.username)
    expect(card).to_contain_text("orders:write")
    expect(card).to_contain_text(auth.issuer)
    expect(card.get_by_role("button", name="Sign out")).to_be_hidden()
    for summary in page.locator("details.more > summary").all():
        summary.click()
    expect(card.get_by_role("button", name="Sign out")).to_be_visible()
    expect(card).to_contain_text("calls here fail until somebody signs in again")
    ann.shoot("connected", tmp_path)
    fits(ann)
    for token in (*auth.access_tokens, *auth.refresh_tokens):
        assert token not in page.content()


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_an_admin_signs_in_with_a_client_of_their_own_by_the_guide(
    acme: House, visit: Visit, worker: None, provider: Any, tmp_path: Path, width: int, colours: str
) -> None:
    server, auth = provider(dcr=False)
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(ADD)
    fill(page, server.url)
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator("[data-part=next_step]")).to_contain_text("follow the guide", timeout=30_000)
    page.get_by_role("link", name="Open the guide").click()
    redirect_uri = page.get_by_label("Redirect URI").input_value()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    auth.add_client("acme-1", secret="s3cret-of-acme", redirect_uri=redirect_uri)
    page.get_by_label("Client ID").fill("acme-1")
    page.get_by_label("Client secret").fill("s3cret-of-acme")
    ann.shoot("guide", tmp_path)
    fits(ann)
    page.get_by_role("button", name="Save and check").click()
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Allow").click()
    connected(page)
    assert "s3cret-of-acme" not in page.content()
    expect(page.locator("#sign-in")).to_contain_text("acme-1")
    ann.shoot("own-client", tmp_path)
    assert Connection.objects.get().credential_state == "ready"


def test_a_person_who_refuses_reads_why_and_is_led_back(
    acme: House, visit: Visit, provider: Any, tmp_path: Path
) -> None:
    server, _ = provider()
    connection = acme.connection(url=server.url, authorization="oauth", credential_state="needs_sign_in")
    ann = visit(acme.admin)
    ann.open(f"/admin/connections/connection/{connection.pk}/change/")
    ann.page.get_by_role("button", name="Sign in", exact=True).click()
    ann.page.get_by_role("button", name="Deny").click()
    expect(ann.page.get_by_role("alert")).to_be_visible()
    ann.shoot("denied", tmp_path)
    assert ann.violations() == []
    ann.page.get_by_role("link", name="Back to Orders").click()
    expect(ann.page.locator("h1")).to_have_text("Orders")


@pytest.mark.parametrize("script", [True, False])
def test_the_enter_key_saves(acme: House, visit: Visit, provider: Any, script: bool) -> None:
    server, _ = provider()
    ann = visit(acme.admin, script=script)
    ann.open(ADD)
    fill(ann.page, server.url)
    ann.page.get_by_label("Name", exact=True).press("Enter")
    expect(ann.page.locator("h1")).to_have_text("Orders")
    assert acme.tenant.connections.get().authorization == "oauth"


def test_signing_in_works_without_javascript(acme: House, visit: Visit, provider: Any) -> None:
    server, _ = provider()
    ann = visit(acme.admin, script=False)
    ann.open(ADD)
    fill(ann.page, server.url)
    with ann.page.expect_popup() as opened:
        ann.page.get_by_role("button", name="Check sign-in").click()
    expect(opened.value.locator("#look .verdict")).to_contain_text("lets us register by ourselves")
    ann.page.get_by_role("button", name="Add and check").click()
    ann.page.get_by_role("button", name="Sign in", exact=True).click()
    ann.page.get_by_role("button", name="Allow").click()
    expect(ann.page.locator("#sign-in")).to_contain_text(acme.admin.username)
