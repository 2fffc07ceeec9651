"""Which account at the provider has signed in: shown, compared with the one before, written down, and never trusted."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections.models import AuditEvent
from oauth.models import Registration
from oauth.protocol import accounts
from oauth.protocol.accounts import Account
from oauth.protocol.metadata import ServerMetadata
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.server import approve

ISSUER = "https://id.example.com"
SERVER = ServerMetadata(
    issuer=ISSUER, token_endpoint=f"{ISSUER}/token", userinfo_endpoint=f"{ISSUER}/userinfo"
)  # fmt: skip
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
GOOD = {"iss": ISSUER, "aud": "us", "exp": NOW.timestamp() + 60, "sub": "1", "email": "ada@example.com"}


def token_of(claims: Any) -> str:
    return f"e30.{urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


def sign_in_as(scene: Scene, subject: str, **claims: Any) -> str:
    """Sign in with an ID token of this account, and return what the page then says."""
    address = scene.depart(again="1")
    client = Registration.objects.get(retired_at=None).client_id
    scene.auth.account = {
        "iss": scene.auth.issuer, "aud": client, "exp": time.time() + 60, "sub": subject, **claims,
    }  # fmt: skip
    scene.come_back(approve(address))
    page = scene.client.get(f"/admin/connections/connection/{scene.connection.pk}/change/")
    return page.content.decode()


def test_the_account_is_shown_and_another_one_is_warned_of(scene: StartScene) -> None:
    scene = scene()
    page = sign_in_as(scene, "1", email="ada@provider.example")
    assert "Signed in as ada@provider.example." in page
    assert "another account" not in page
    page = sign_in_as(scene, "1", email="ada.lovelace@provider.example")
    assert "another account" not in page, "the same account under another name"
    page = sign_in_as(scene, "2", email="bob@provider.example")
    assert "another account at the provider than before, which was ada.lovelace@provider.example" in page
    again = scene.client.get(f"/admin/connections/connection/{scene.connection.pk}/change/").content.decode()
    assert "another one than before: ada.lovelace@provider.example" in again
    last = AuditEvent.objects.filter(action="connection.signed_in").order_by("-at")[0]
    assert last.data["account"] == "bob@provider.example"
    assert last.data["account_before"] == "ada.lovelace@provider.example"
    assert scene.state == ("ready", "") or scene.state[0] == "ready"


@pytest.mark.parametrize(
    "forged", [{"aud": "somebody else"}, {"iss": "https://evil.example"}, {"exp": 1}, {"azp": "somebody else"}]
)
def test_an_id_token_that_is_not_for_us_says_nothing_and_stops_nothing(
    scene: StartScene, forged: dict[str, Any]
) -> None:
    scene = scene()
    page = sign_in_as(scene, "1", email="ada@provider.example", **forged)
    assert "ada@provider.example" not in page
    assert scene.sign_in_row.account == ""
    assert "Signed in." in page


def test_without_an_id_token_the_user_info_is_asked_once(scene: StartScene) -> None:
    scene = scene(
        connection={"oauth_scopes": "openid orders:read"}, userinfo={"sub": "7", "preferred_username": "ada"}
    )  # fmt: skip
    scene.sign_in()
    assert scene.sign_in_row.account == "ada"
    assert scene.auth.count("/userinfo") == 1


@pytest.mark.parametrize("trouble", ["not asked for", "another subject", "fails"])
def test_user_info_that_cannot_be_used_is_not(scene: StartScene, trouble: str) -> None:
    scopes = "orders:read" if trouble == "not asked for" else "openid"
    scene = scene(connection={"oauth_scopes": scopes}, userinfo={"sub": "7", "name": "Mallory"})
    address = scene.depart()
    if trouble == "another subject":
        client = Registration.objects.get(retired_at=None).client_id
        scene.auth.account = {"iss": scene.auth.issuer, "aud": client, "exp": time.time() + 60, "sub": "1"}
    if trouble == "fails":
        scene.auth.userinfo = None
    scene.come_back(approve(address))
    assert scene.sign_in_row.account == ("1" if trouble == "another subject" else "")
    assert scene.auth.count("/userinfo") == (0 if trouble == "not asked for" else 1)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_the_claims_of_a_token_for_us_are_read() -> None:
    assert accounts.of_id_token(token_of(GOOD), SERVER, "us", NOW) == GOOD
    assert accounts.of_id_token(token_of(GOOD | {"aud": ["x", "us"]}), SERVER, "us", NOW)
    for wrong in (
        GOOD | {"aud": ["x"]},
        GOOD | {"exp": None},
        GOOD | {"exp": True},
        GOOD | {"iss": f"{ISSUER}/"},
        [],
        "x",
    ):
        assert accounts.of_id_token(token_of(wrong), SERVER, "us", NOW) == {}
    assert accounts.of_id_token(token_of(GOOD), SERVER, "us", NOW + timedelta(minutes=2)) == {}


@given(text=st.text())
def test_no_token_is_too_strange(text: str) -> None:
    accounts.of_id_token(text, SERVER, "us", NOW)
    accounts.of_id_token(f"a.{text}.b", SERVER, "us", NOW)


@given(
    claims=st.dictionaries(
        st.sampled_from(["sub", "email", "name", "login"]), st.none() | st.integers() | st.text() | st.lists(st.text())
    )
)
def test_what_is_shown_is_short_and_visible(claims: dict[str, Any]) -> None:
    account = accounts.account_of(claims)
    assert len(account.name) <= accounts.LONGEST
    assert account.name.isprintable()


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "1", "email": "a@x"}, Account("1", "a@x")),
        ({"sub": "1", "email": "a@x", "email_verified": False, "name": "Ada"}, Account("1", "Ada")),
        ({"sub": 7}, Account("7", "7")),
        ({"sub": "1", "name": "A\u202eda\n  L"}, Account("1", "A da L")),
        ({"email": "a@x"}, Account()),
        ({"sub": True}, Account()),
    ],
)
def test_the_name_that_tells_most_is_taken(claims: dict[str, Any], expected: Account) -> None:
    assert accounts.account_of(claims) == expected


@pytest.mark.parametrize(
    ("userinfo", "scopes", "expected"),
    [
        (f"{ISSUER}/userinfo", "openid x", True), (f"{ISSUER}/userinfo", "x", False), ("", "openid", False),
        ("https://evil.example/userinfo", "openid", False), ("http://id.example.com/userinfo", "openid", False),
        ("not an address", "openid", False),
    ],
)  # fmt: skip
def test_a_token_goes_to_the_sign_in_servers_own_host_only(userinfo: str, scopes: str, expected: bool) -> None:
    assert accounts.may_ask(SERVER.model_copy(update={"userinfo_endpoint": userinfo}), scopes) is expected
