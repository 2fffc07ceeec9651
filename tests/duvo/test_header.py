"""The header of every page: where people go most, and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from connections.models import User
from tests.conftest import House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def test_the_header_leads_to_what_this_person_sees_and_to_the_way_out(acme: House, signed_in: SignedIn) -> None:
    for person, seen in (
        (acme.admin, ["Connections", "Assignments", "Calls", "Activity", "Members"]),
        (acme.auditor, ["Connections", "Assignments", "Calls", "Activity", "Members"]),
        (acme.member, ["Connections", "Assignments", "Members"]),
    ):
        page = signed_in(person).get("/admin/tools/assignment/").content.decode()
        header = page.partition('<nav id="sections"')[2].partition("</nav>")[0]
        assert re.findall(r">([A-Z][a-z]+)</a>", header) == seen
        assert header.count('aria-current="page"') == 1
        assert ">Sign out</button>" in page
        assert "Log out" not in page


def test_nobody_who_is_not_signed_in_is_led_anywhere(db: None, signed_in: SignedIn) -> None:
    assert 'id="sections"' not in signed_in(None).get("/admin/", follow=True).content.decode()
