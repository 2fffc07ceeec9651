"""Nothing that cannot be taken back happens on one click: the button stands behind a sentence that says what ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from connections.models import Credential, User
from tests.conftest import House
from tools.models import Call

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def behind(page: str, action: str) -> str:
    """The text of what is to be opened before the button with this action is seen."""
    for details in re.findall(r"<details.*?</details>", page, re.DOTALL):
        if action in details:
            assert " open" not in details.partition(">")[0]
            assert page.count(action) == 1
            return re.sub(r"<[^>]*>", " ", details)
    return ""


def test_a_call_is_cancelled_after_it_was_said_what_that_means(acme: House, signed_in: SignedIn) -> None:
    row = Call.objects.create(tenant=acme.tenant, tool_name="orders__pay", sealed_arguments="x")
    page = signed_in(acme.admin).get(f"/admin/tools/call/{row.pk}/change/").content.decode()
    assert "nothing is sent" in behind(page, f"/admin/tools/call/{row.pk}/cancel/")
    assert "/cancel/" not in signed_in(acme.auditor).get(f"/admin/tools/call/{row.pk}/change/").content.decode()


def test_a_token_is_revoked_and_ones_own_key_forgotten_likewise(acme: House, signed_in: SignedIn) -> None:
    row = acme.assignment()
    acme.token(row)
    client = signed_in(acme.admin)
    page = client.get(f"/admin/tools/assignment/{row.pk}/change/").content.decode()
    assert "turned away" in behind(page, f"/tokens/{row.access_tokens.get().pk}/revoke/")
    own = acme.connection(authorization="api_key", sharing="personal")
    Credential(connection=own, owner=acme.admin, kind="api_key").set("k", by=acme.admin)
    page = client.get(f"/admin/connections/connection/{own.pk}/change/").content.decode()
    assert "until you enter it again" in behind(page, f"/admin/connections/connection/{own.pk}/disconnect/")
