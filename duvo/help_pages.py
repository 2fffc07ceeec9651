"""The help pages: Markdown in `templates/help`, in the product's look, for everybody who asks.

A page says nothing of who reads it, so it is drawn once by each process, without session or database.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

FOLDER: Final = Path(settings.BASE_DIR) / "templates" / "help"
# In the order in which people need them.
NAMES: Final = (
    "connect-a-server",
    "people-and-sign-in",
    "building-custom-connections",
    "calls-over-rest",
    "errors",
    "running-it",
    "security",
    "decisions",
    "figures",
)
EXAMPLE: Final = "https://duvo.example.com"  # stands for the product's own address in the pages
KEPT_FOR: Final = 300  # seconds that a browser or a proxy may keep a page
_NEIGHBOUR = re.compile(r"([a-z-]+)\.md(#.*)?")
_NO_PART_OF_AN_ID = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its name in the address, its title, what it is for in one line, its headings, and its HTML."""

    name: str
    title: str
    line: str
    headings: tuple[tuple[str, str], ...]  # id and text of those of the second level
    html: str


@require_safe
@cache_control(public=True, max_age=KEPT_FOR)
def index(request: HttpRequest) -> HttpResponse:
    """Answer with the list of all pages."""
    return HttpResponse(_drawn("", settings.PUBLIC_URL))


@require_safe
@cache_control(public=True, max_age=KEPT_FOR)
def show(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with one page; raises Http404."""
    if name not in NAMES:
        raise Http404
    return HttpResponse(_drawn(name, settings.PUBLIC_URL))


@lru_cache(maxsize=2 * len(NAMES))
def _drawn(name: str, public_url: str) -> str:
    pages = [page(each, public_url) for each in NAMES]
    context: dict[str, object] = {"pages": pages}
    if name:
        at = NAMES.index(name)
        context |= {
            "page": pages[at],
            "previous": pages[at - 1] if at else None,
            "next": pages[at + 1] if at + 1 < len(pages) else None,
        }
    return render_to_string("help/page.html" if name else "help/index.html", context)


@lru_cache(maxsize=2 * len(NAMES))
def page(name: str, public_url: str = EXAMPLE) -> Page:
    """Return a page as it is drawn for a product that is reached under this address."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8").replace(EXAMPLE, public_url)
    parser = markdown()
    env: dict[str, object] = {}
    tokens = parser.parse(text, env)
    _name_headings(tokens)
    title, line, rest = tokens[1], tokens[4], tokens[3:]  # a page begins with its title and a paragraph of one line
    headings = tuple(
        (str(token.attrs["id"]), _plain(tokens[at + 1]))
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    )
    # Our own files, drawn without raw HTML.
    html = mark_safe(parser.renderer.render(rest, parser.options, env))  # noqa: S308
    return Page(name, _plain(title), _plain(line), headings, html)


def markdown() -> MarkdownIt:
    """Return CommonMark with tables; raw HTML is shown as text, and links that would run something are none."""
    return MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")


class _Renderer(RendererHTML):
    """Leads links to other pages' files to their addresses, and lets wide tables and code scroll within themselves."""

    def link_open(self, tokens: list[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        if neighbour := _NEIGHBOUR.fullmatch(str(token.attrs.get("href", ""))):
            token.attrs["href"] = reverse("help-page", args=[neighbour[1]]) + (neighbour[2] or "")
        return self.renderToken(tokens, idx, options, env)

    def table_open(self, tokens: list[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        number = sum(token.type == "table_open" for token in tokens[: idx + 1])  # each region has a name of its own
        region = f'<div class="scroll" tabindex="0" role="region" aria-label="Table {number}">'
        return region + self.renderToken(tokens, idx, options, env)

    def table_close(self, tokens: list[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"{self.renderToken(tokens, idx, options, env)}</div>"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _within_itself(super().fence(tokens, idx, options, env))

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _within_itself(super().code_block(tokens, idx, options, env))


def _within_itself(code: str) -> str:
    return code.replace("<pre>", '<pre tabindex="0">', 1)


def _name_headings(tokens: list[Token]) -> None:
    """Give each heading the id that GitHub gives it, so that links hold in both places."""
    seen: Counter[str] = Counter()
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            name = _NO_PART_OF_AN_ID.sub("", _plain(tokens[at + 1]).lower()).replace(" ", "-")
            token.attrs["id"] = f"{name}-{seen[name]}" if seen[name] else name
            seen[name] += 1


def _plain(inline: Token) -> str:
    return "".join(child.content or " " * (child.type == "softbreak") for child in inline.children or [])
