"""Reading the links that people are mailed."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.test import Client

from tests.conftest import PASSWORD
from tests.servers.mail import MailServer

NEW = {"name": "Bea Bright", "password1": PASSWORD, "password2": PASSWORD}


def last_link(server: MailServer, reader: str) -> str:
    """The path, with its key, of the link in the last mail to this address."""
    text = next(message for address, message in reversed(server.taken) if address == reader).get_content()
    return path_of(next(line for line in text.splitlines() if "?key=" in line))


def path_of(address: str) -> str:
    parts = urlsplit(address.strip())
    return f"{parts.path}?{parts.query}"


def invite(client: Client, email: str, role: str = "member", **more: object) -> object:
    return client.post("/admin/connections/invitation/add/", {"email": email, "role": role, "days": 7, **more})


def heading(page: bytes) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page.decode())
    return found[1] if found else ""
