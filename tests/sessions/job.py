"""A program with one page at the Browser; it always knows what its page must be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.sessions.house import BrowserHouse

FORGOTTEN = "session_lost"
_PATIENCE = 60  # seconds for the end of a call, in waits of 20
_numbers = count(1)


@dataclass
class Score:
    """What came of a scene. A page is lost when the server has forgotten it, and then its program must be told."""

    calls: int = 0
    pages: int = 0  # that could have been lost
    wrong: list[str] = field(default_factory=list)  # pages of others
    untold: list[str] = field(default_factory=list)  # pages that were lost without a word
    failed: list[str] = field(default_factory=list)
    lost: int = 0
    told: int = 0

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.wrong or self.untold or self.failed)


@dataclass
class Job:
    """One page: an assignment's own session, or one that the program names."""

    house: BrowserHouse
    score: Score
    assignment: int
    name: str | None = None
    title: str | None = None  # of the page at which it was left; None: a blank one
    visitor: str | None = None

    def __str__(self) -> str:
        return f"assignment {self.assignment}, {self.name or 'its own'}"

    def go(self, via: int | None = 0, seconds: float = 0) -> None:
        """Go to a page that nobody has seen before, and see that it came."""
        title = f"page-{next(_numbers)}"
        body = self.call("browser_navigate", via, url=self.house.pages.url(title, seconds))
        if body is None:
            body = self.call("browser_navigate", via, url=self.house.pages.url(title, seconds))
        if body is not None:
            self.title = title
            self._compare(_title(body))

    def look(self, via: int | None = 0) -> str:
        """See that the page is the one at which it was left; return what is on it."""
        body = self.call("browser_snapshot", via) or self.call("browser_snapshot", via)
        if body is None:
            return ""
        text = _text(body)
        self._compare(_title(body))
        if found := re.search(r"Visitor (\d+)", text):
            if self.visitor not in (None, found[1]):
                self.score.untold.append(f"{self} was visitor {self.visitor}, and is {found[1]}")
            self.visitor = found[1]
        return text

    def call(self, tool: str, via: int | None = 0, **arguments: Any) -> dict[str, Any] | None:
        """Call a tool through a web process, or with None through the queue; return None when nothing has run.

        That is so when the page is lost, and the program was told.
        """
        body = self.ended(self.ask(tool, via, **arguments))
        code = (body.get("error") or {}).get("code") or body.get("code")
        if code == FORGOTTEN or (body.get("session") or {}).get("restarted"):
            self.score.lost += 1
            self.score.told += 1
            self.title = self.visitor = None
        if code == FORGOTTEN:
            return None
        if body.get("state") != "succeeded":
            self.score.failed.append(f"{self}: {tool} {body.get('state')} {code} {body.get('detail') or ''}")
            return None
        return body

    def ask(self, tool: str, via: int | None, prefer: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Make a call and return what is answered at first."""
        self.score.calls += 1
        web = self.house.through(self._alive() if via is None else via, self.house.tokens[self.assignment])
        headers = {"Prefer": prefer or ("respond-async" if via is None else "wait=30")}
        answer = web.call(f"browser__{tool}", arguments, **headers, **self._named())
        body: dict[str, Any] = answer.json()
        return body

    def ended(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a call as it is at its end."""
        for _ in range(_PATIENCE // 20):
            if "id" not in body or body["finished_at"]:
                break
            body = self.get(f"/v1/calls/{body['id']}", Prefer="wait=20")
        return body

    def get(self, path: str, **headers: str) -> dict[str, Any]:
        """Ask the product."""
        web = self.house.through(self._alive(), self.house.tokens[self.assignment])
        body: dict[str, Any] = web.get(path, **headers).json()
        return body

    def cancel(self, call_id: str) -> dict[str, Any]:
        """Cancel a call."""
        return dict(self._request("POST", f"/v1/calls/{call_id}/cancel").json())

    def end(self) -> None:
        """End the session; the server is told."""
        answer = self._request("DELETE", "/v1/sessions" + (f"/{self.name}" if self.name else ""))
        assert answer.status_code == 204, answer.text
        self.title = self.visitor = None

    def _request(self, method: str, path: str) -> Any:
        return self.house.through(self._alive(), self.house.tokens[self.assignment]).request(method, path)

    def _alive(self) -> int:
        return next(number for number, web in enumerate(self.house.webs) if web.process.poll() is None)

    def _named(self) -> dict[str, str]:
        return {"Duvo-Session": self.name} if self.name else {}

    def _compare(self, title: str) -> None:
        if title == (self.title or ""):
            return
        seen = f"{self} was at {self.title or 'a blank page'}, and sees {title or 'a blank page'}"
        (self.score.wrong if title else self.score.untold).append(seen)


def _text(body: dict[str, Any]) -> str:
    return "\n".join(block.get("text", "") for block in body["content"])


def _title(body: dict[str, Any]) -> str:
    found = re.search(r"^- Page Title: (.*)$", _text(body), re.MULTILINE)
    return found[1].strip() if found else ""
