"""An organization admin who knows an address and nothing else: what the server wants is found out and taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from connections.models import Connection
from tests.browser.conftest import Visit
from tests.browser.test_sign_in import ADD, COLOURS, connected, fits, provider
from tests.conftest import House
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer, Receive, Send

__all__ = ["provider"]

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_an_address_is_enough_to_be_told_what_the_server_wants(
    acme: House, visit: Visit, provider: Any, mcp_server: StartServer, tmp_path: Path, width: int, colours: str
) -> None:
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(ADD)
    ann.shoot("empty", tmp_path)
    fits(ann)
    for url, method, words in (
        (provider()[0].url, "OAuth", "This server wants a sign-in."),
        (mcp_server("api key").url, "API key", "Most servers of this kind want an API key."),
        (mcp_server().url, "None", "This server asks for no sign-in and no key."),
    ):
        page.get_by_label("Server URL").fill(url)
        page.get_by_label("Name", exact=True).focus()
        expect(page.locator("#fits .verdict")).to_contain_text(words)
        expect(page.get_by_role("radio", name=method, exact=True)).to_be_checked()
        ann.shoot(method, tmp_path)
        fits(ann)
    expect(page.get_by_label("Name", exact=True)).to_have_value("127.0.0.1")
    page.get_by_role("radio", name="API key").check()
    page.get_by_label("Server URL").fill(provider()[0].url)
    page.get_by_label("Name", exact=True).focus()
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator("h1")).to_have_text("127.0.0.1")
    assert acme.tenant.connections.get().authorization == "api_key", "a person's choice is not changed"


def test_a_host_without_a_scheme_is_completed_before_it_is_looked_at(acme: House, visit: Visit) -> None:
    ann = visit(acme.admin)
    ann.open(ADD)
    field = ann.page.get_by_label("Server URL")
    for typed, becomes in (
        (" mcp.example.com/mcp ", "https://mcp.example.com/mcp"), ("localhost:3000", "localhost:3000"),
        ("npx some.thing", "npx some.thing"), ("ftp://mcp.example.com", "ftp://mcp.example.com"),
    ):  # fmt: skip
        field.fill(typed)
        ann.page.get_by_label("Name", exact=True).focus()
        expect(field).to_have_value(becomes)


def test_without_javascript_the_first_submission_shows_what_fits(acme: House, visit: Visit, provider: Any) -> None:
    ann = visit(acme.admin, script=False)
    ann.open(ADD)
    ann.page.get_by_label("Server URL").fill(provider()[0].url)
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#fits .verdict")).to_contain_text("This server wants a sign-in.")
    expect(ann.page.get_by_role("radio", name="OAuth")).to_be_checked()
    assert not Connection.objects.exists()
    ann.page.get_by_role("button", name="Add and check").click()
    expect(ann.page.locator("h1")).to_have_text("127.0.0.1")
    assert acme.tenant.connections.get().authorization == "oauth"


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_the_address_to_which_a_server_redirects_is_offered_and_looked_at(
    acme: House, visit: Visit, open_egress: None, mcp_server: StartServer, tmp_path: Path, width: int, colours: str
) -> None:
    server = mcp_server()

    async def moved(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        if request.path != "/old":
            return False
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", server.url.encode())]})
        await send({"type": "http.response.body"})
        return True

    server.rules.insert(0, moved)
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(ADD)
    page.get_by_label("Server URL").fill(f"{server.origin}/old")
    page.get_by_label("Name", exact=True).focus()
    expect(page.locator("#fits .verdict")).to_contain_text(f"sends us to {server.url}")
    ann.shoot("moved", tmp_path)
    fits(ann)
    page.get_by_role("button", name="Use this address").click()
    expect(page.locator("#fits .verdict")).to_contain_text("This server asks for no sign-in and no key.")
    expect(page.get_by_label("Server URL")).to_have_value(server.url)
    expect(page.get_by_role("button", name="Use this address")).to_have_count(0)
    assert not Connection.objects.exists()
    fits(ann)


@pytest.mark.parametrize(("width", "colours"), COLOURS)
def test_the_button_appears_when_the_check_ends_and_leads_through_the_sign_in(
    acme: House, visit: Visit, worker: None, provider: Any, tmp_path: Path, width: int, colours: str
) -> None:
    server, _ = provider()
    ann = visit(acme.admin, width=width, colours=colours)
    page = ann.page
    ann.open(ADD)
    page.get_by_label("Name", exact=True).fill("Orders")
    page.get_by_role("radio", name="API key").check()
    page.get_by_label("Server URL").fill(server.url)
    page.locator("#id_api_key").fill("key-of-acme-0123456789")
    page.get_by_role("button", name="Add and check").click()
    button = page.get_by_role("button", name="Use OAuth and sign in")
    expect(button).to_be_visible(timeout=30_000)
    expect(page.locator("#way-in")).to_contain_text("What is stored for API key is removed then: API key.")
    ann.shoot("wanted", tmp_path)
    fits(ann)
    button.click()
    page.get_by_role("button", name="Allow").click()
    connected(page)
    assert ann.complaints == []
    assert acme.tenant.connections.get().authorization == "oauth"
