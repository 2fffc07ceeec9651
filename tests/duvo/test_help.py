"""The help pages: there for everybody, without a link that leads nowhere, and led to from every page of the admin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import resolve, reverse

from connections.models import User
from duvo import help_pages
from duvo.pages import Bounds, Busy, PagesMiddleware, Slots
from duvo.templatetags.help import HELP
from tests.conftest import PASSWORD, House

ADDRESSES = ["/help/", *(f"/help/{name}/" for name in help_pages.NAMES)]
ROOT = Path(settings.BASE_DIR)


class Links(HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" and "href" in found else []


@pytest.fixture
def linked(client: Client) -> dict[str, Links]:
    """Every help page by its address."""
    return {address: Links(client.get(address).content.decode()) for address in ADDRESSES}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_is_there_for_everybody_costs_no_query_and_may_be_kept(
    address: str, client: Client, django_assert_num_queries: Any, db: None
) -> None:
    with django_assert_num_queries(0):
        answer = client.get(address)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert "Cookie" not in answer.headers.get("Vary", "")
    assert not answer.cookies
    assert answer.headers["Content-Security-Policy"] == client.get("/admin/login/").headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert " style=" not in answer.content.decode()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_is_only_looked_at(address: str, client: Client) -> None:
    assert client.head(address).status_code == 200
    assert {client.post(address).status_code, client.put(address).status_code} == {405}


def test_a_person_who_is_signed_in_gets_the_same_page(acme: House, client: Client) -> None:
    strangers = [client.get(address).content for address in ADDRESSES]
    assert client.login(username=acme.admin.username, password=PASSWORD)
    assert [client.get(address).content for address in ADDRESSES] == strangers


class Full(Slots):
    """Not one slot is free."""

    async def acquire(self, bounds: Bounds, *, patience: float) -> None:
        raise Busy


async def test_a_page_is_there_also_when_no_other_page_has_a_slot() -> None:
    async def answered(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    middleware = PagesMiddleware(answered)
    middleware._slots[asyncio.get_running_loop()] = Full()
    requests = [RequestFactory().get(path) for path in ("/help/", "/help/errors/", "/admin/", "/helper")]
    assert [(await middleware(request)).status_code for request in requests] == [200, 200, 503, 503]


def test_what_is_no_page_is_not_there(client: Client, db: None) -> None:
    for name in ("nothing", "base", "page", "index", "..%2Fsettings"):
        assert client.get(f"/help/{name}/").status_code == 404
    assert client.get("/help").headers["Location"] == "/help/"


def test_every_file_is_a_page_and_begins_with_its_title_and_one_line() -> None:
    assert {file.stem for file in help_pages.FOLDER.glob("*.md")} == set(help_pages.NAMES)
    for name in help_pages.NAMES:
        title, empty, line, end = (help_pages.FOLDER / f"{name}.md").read_text().splitlines()[:4]
        assert title.startswith("# ")
        assert (empty, end) == ("", "")
        assert line.endswith(".")


def test_every_link_of_a_page_leads_somewhere(linked: dict[str, Links]) -> None:
    for address, page in linked.items():
        assert len(page.ids) == len(set(page.ids)), address
        for link in page.links:
            if link.startswith("https://"):
                continue
            target, _, anchor = link.partition("#")
            target = target or address
            resolve(target)
            assert not anchor or target not in linked or anchor in linked[target].ids, f"{address}: {link}"


def test_every_link_between_the_files_holds_in_the_repository(linked: dict[str, Links]) -> None:
    for file in [ROOT / "README.md", *help_pages.FOLDER.glob("*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
            if link.startswith("https://"):
                continue
            target, _, anchor = link.partition("#")
            there = (file.parent / target).resolve() if target else file
            assert there.is_file(), f"{file.name}: {link}"
            if anchor:
                assert anchor in linked[f"/help/{there.stem}/"].ids, f"{file.name}: {link}"


def test_a_page_names_the_address_of_this_installation(settings: Any, client: Client) -> None:
    settings.PUBLIC_URL = "https://tools.acme.example"
    page = client.get("/help/connect-a-server/").content.decode()
    assert "https://tools.acme.example/v1/oauth/mcp/callback" in page
    assert help_pages.EXAMPLE not in page


def test_markdown_runs_nothing() -> None:
    drawn = help_pages.markdown().render("<script>x</script> [x](javascript:x) <b>y</b>\n\n<div onclick=x>\n")
    assert "<script" not in drawn
    assert "<div" not in drawn
    assert "href" not in drawn


def paragraphs(text: str) -> Iterator[list[str]]:
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        if lines and not lines[0].startswith(("|", "    ", "#")):
            yield lines


def test_the_readme_is_read_on_one_screen_or_two() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    assert max(len(lines) for lines in paragraphs(text)) <= 6
    assert all(f"templates/help/{name}.md" in text for name in help_pages.NAMES)


# --- from the admin ---


def test_every_page_of_the_admin_has_its_help(linked: dict[str, Links]) -> None:
    assert {model._meta.model_name for model in admin.site._registry} == set(HELP)
    for name, heading, _ in HELP.values():
        assert not heading or heading in linked[f"/help/{name}/"].ids


@pytest.mark.parametrize("model", sorted(HELP))
def test_lists_and_forms_lead_to_their_help(model: str, acme: House, client: Client, linked: dict[str, Links]) -> None:
    root = User.objects.create_superuser("root@duvo.example", "root@duvo.example", PASSWORD)
    [options] = [found._meta for found in admin.site._registry if found._meta.model_name == model]
    page, heading, _ = HELP[model]
    expected = reverse("help-page", args=[page]) + (f"#{heading}" if heading else "")
    for person in (acme.admin, root):
        client.force_login(person)
        shown = 0
        for action in ("changelist", "add"):
            answer = client.get(reverse(f"admin:{options.app_label}_{model}_{action}"))
            if answer.status_code != 200:
                continue  # not this person's
            found = Links(answer.content.decode())
            assert expected in found.links, action
            assert "/help/" in found.links, action
            shown += 1
    assert shown, "nobody sees a page of this model"


def test_an_empty_list_leads_to_its_help_where_its_sentence_stands(acme: House, client: Client) -> None:
    client.force_login(acme.admin)
    page = client.get(reverse("admin:connections_connection_changelist")).content.decode()
    empty = page.partition('<div class="empty">')[2].partition("</div>")[0]
    assert 'href="/help/connect-a-server/"' in empty
