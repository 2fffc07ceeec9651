"""Signing in to the pages by their own form."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from tests.neighbours.visitor import Answer, Visitor

FORM = "application/x-www-form-urlencoded"
LOGIN = "/admin/login/"


async def log_in(visitor: Visitor, username: str, password: str) -> str:
    """Send the form of the login page; return the cookies of who was let in, or nothing."""
    crumb = cookies(await visitor.ask("GET", LOGIN)).get("csrftoken", "")
    fields = {"csrfmiddlewaretoken": crumb, "username": username, "password": password, "next": "/admin/"}
    answer = await visitor.ask("POST", LOGIN, urlencode(fields).encode(), FORM, Cookie=f"csrftoken={crumb}")
    return written(cookies(answer)) if answer.status == 302 else ""


def cookies(answer: Answer) -> dict[str, str]:
    """Return the cookies that an answer sets."""
    return dict(re.findall(r"^set-cookie: ([^=;]+)=([^;\r]*)", answer.head, re.IGNORECASE | re.MULTILINE))


def written(jar: dict[str, str]) -> str:
    """Return cookies as a header has them."""
    return "; ".join(f"{name}={value}" for name, value in jar.items())
