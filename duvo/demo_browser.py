"""A request over HTTP, and a browser as small as the demo needs it: cookies, forms and redirects."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

PATIENCE = 60  # seconds for one page
MOST_REDIRECTS = 5
REDIRECTS = {301, 302, 303}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class BrowserError(Exception):
    """A page could not be opened or is not the expected one; the message says which."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Form:
    """Where a form is sent, and what it sends if nothing is entered."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """What the browser shows."""

    url: str
    status: int
    text: str

    def form(self, path: str) -> Form:
        """Return the form that is sent to this path; BrowserError when there is none."""
        reader = _Forms()
        reader.feed(self.text)
        for form in reader.forms:
            if urlsplit(urljoin(self.url, form.action)).path == path:
                return form
        raise BrowserError(f"{self.url.partition('?')[0]} answered {self.status} and has no form for {path}.")


class Browser:
    """One person's browser; it knows the product, whose address is `public_url`, at `home`."""

    def __init__(self, *, home: str, public_url: str) -> None:
        """Start with no cookies."""
        self._home = home
        self._public_url = public_url
        self._cookies: dict[str, SimpleCookie] = {}

    def open(self, url: str) -> Page:
        """Return the page at an address, or at a path of the product; BrowserError when there is no answer."""
        return self._follow("GET", urljoin(self._home, url))

    def submit(self, page: Page, path: str, **entered: str) -> Page:
        """Fill in and send the form of a page that goes to `path`; return the page it leads to."""
        form = page.form(path)
        return self._follow("POST", urljoin(page.url, form.action), urlencode(form.fields | entered))

    def _follow(self, method: str, url: str, body: str = "") -> Page:
        for _ in range(MOST_REDIRECTS):
            answer = self._send(method, url, body)
            if answer.status not in REDIRECTS:
                return Page(url, answer.status, answer.text)
            method, url, body = "GET", urljoin(url, answer.headers.get("Location", "")), ""
            if url.startswith(f"{self._public_url}/"):
                url = self._home + url.removeprefix(self._public_url)
        raise BrowserError("One redirect followed the other.")

    def _send(self, method: str, url: str, body: str) -> Answer:
        jar = self._cookies.setdefault(urlsplit(url).netloc, SimpleCookie())
        headers = {"Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())} if jar else {}
        answer = send(method, url, body, headers | (FORM if body else {}))
        for cookie in answer.headers.get_all("Set-Cookie", []):
            jar.load(cookie)
        return answer


def send(method: str, url: str, body: str, headers: dict[str, str]) -> Answer:
    """Send one request over HTTP and return what comes; BrowserError when nothing does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request(method, path, body=body or None, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise BrowserError(f"{method} {url.partition('?')[0]} got no answer.") from error
    finally:
        connection.close()


class _Forms(HTMLParser):
    """Reads the forms of a page: hidden fields, and what is chosen from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add a form or one of its fields."""
        given = dict(attrs)
        if tag == "form":
            self.forms.append(Form(given.get("action") or ""))
            self._inside = True
        elif tag == "input" and self._inside and (given.get("type") == "hidden" or "checked" in given):
            self.forms[-1].fields[given.get("name") or ""] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        """Leave a form."""
        self._inside = self._inside and tag != "form"
