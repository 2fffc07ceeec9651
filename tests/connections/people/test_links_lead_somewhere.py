"""No link on a page leads to what is not there, or not this person's to open."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client

from connections.models import User
from tests import reading
from tests.connections.estate import Estate

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


@pytest.mark.parametrize("who", ["admin", "member", "auditor", "reviewer"])
def test_every_link_opens_for_whom_it_is_shown(
    who: str, estate: Estate, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    browser, found = signed_in(cast[who]), {}
    for path in [*reading.admin_pages(most=1), "/account/"]:
        answer = browser.get(path)
        if answer.status_code == 200:
            page = answer.content.decode()
            found |= {unescape(link): path for link in re.findall(r'<a [^>]*href="(/[^"#]*)', page)}
    assert len(found) > 15
    dead = {link: page for link, page in found.items() if browser.get(link).status_code not in {200, 302}}
    assert dead == {}
