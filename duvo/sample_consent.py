"""The consent pages of the sample authorization server: one that asks, and one for a consent that was decided."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.responses import HTMLResponse

PATH = "/consent"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Warehouse</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><style>
body { margin: 0; background: #eef1f5; color: #1c2530; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 26rem; margin: 10vh auto; padding: 2rem; background: #fff; border-radius: 12px;
       box-shadow: 0 2px 12px #0002 }
h1 { margin-top: 0; font-size: 1.4rem; line-height: 1.3 } small { color: #566270 }
fieldset { margin: 1.2rem 0; padding: .6rem 1rem; border: 1px solid #c5cdd8; border-radius: 8px }
label { display: block; padding: .3rem 0 } p.buttons { display: flex; gap: .8rem }
button { flex: 1; padding: .7rem; border: 1px solid #17508f; border-radius: 8px; background: #fff; color: #17508f;
         font: inherit; cursor: pointer }
button[value=allow] { background: #17508f; color: #fff }
</style></head><body><main>%s</main></body></html>"""
_QUESTION = """<h1>Allow {client} to use the warehouse for you?</h1>
<p>It will see who you are, and the deliveries that you expect.</p>
<form method="post" action="{path}"><input type="hidden" name="ticket" value="{ticket}">
<fieldset><legend>Sign in as</legend>{people}</fieldset>
<p class="buttons"><button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></p></form>
<p><small>This is a demonstration: the people are pretend, and no password is asked for.</small></p>"""
_PERSON = '<label><input type="radio" name="person" value="{key}" required> {name}</label>'
_USED = "<h1>This page has been used</h1><p>Start again where you came from.</p>"


def question(ticket: str, client: str, people: Mapping[str, str]) -> HTMLResponse:
    """Return the page that asks whether `client` may act for one of the people (key to name)."""
    choices = "".join(_PERSON.format(key=escape(key), name=escape(name)) for key, name in people.items())
    choices = choices.replace(" required", " required checked", 1)
    page = _QUESTION.format(client=escape(client), path=PATH, ticket=escape(ticket), people=choices)
    return HTMLResponse(_PAGE % page, headers=_HEADERS)


def used() -> HTMLResponse:
    """Return the page for a consent that was given, refused or never asked for."""
    return HTMLResponse(_PAGE % _USED, status_code=410, headers=_HEADERS)
