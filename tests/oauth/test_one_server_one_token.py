"""A token goes to the server that it was got for, a client's secret to the issuer that it was entered for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from connections import egress
from connections.errors import SecretOfAnotherServer
from connections.models import Connection, Credential
from oauth import refreshing
from oauth.errors import NeedsSignIn
from oauth.models import SignIn, Tokens
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_sign_in import CALLBACK, secret
from tests.servers.authorization.protection import protect
from tests.servers.fixtures import StartAuthorizationServer
from tools.catalog.upstream import server_for, with_bearer

ELSEWHERE = "https://elsewhere.example.com/mcp"
CLIENT: dict[str, Any] = {"oauth_client_id": "acme-1"}


def with_a_client(scene: StartScene) -> Scene:
    """A scene whose client is entered in Advanced settings, signed in."""
    there = scene(connection=CLIENT, auth_methods=["client_secret_post"])
    there.auth.add_client("acme-1", secret="first", redirect_uri=CALLBACK)
    secret(there, "first")
    there.sign_in()
    return there


def test_a_secret_that_is_entered_for_a_new_sign_in_server_is_not_shown_to_the_one_before(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    there = with_a_client(scene)
    before = there.auth
    after = authorization_server(auth_methods=["client_secret_post"])
    after.add_client("acme-1", secret="second", redirect_uri=CALLBACK)
    protect(there.server, after)
    there.press("check-sign-in")
    Credential.objects.get().set("second", by=there.house.admin)
    SignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    refreshing.attend(there.sign_in_row.pk)
    there.press("sign-out")
    seen = [request.form for path in ("/token", "/revoke") for request in before.at(path)]
    assert seen
    assert "second" not in str(seen)
    there.auth = after
    there.sign_in()
    assert [form["client_secret"] for form in after.token_requests] == ["second"]
    assert Credential.objects.get().issuer == after.issuer


def test_the_token_of_a_sign_in_at_another_server_does_not_take_the_place_of_an_old_one(scene: StartScene) -> None:
    there = scene()
    there.sign_in()
    row, held = there.sign_in_row, refreshing.held(there.connection, None)
    other = SignIn(
        connection=there.connection, registration=row.registration, server=row.server, server_url=ELSEWHERE
    )  # fmt: skip
    other.keep(Tokens("token-of-elsewhere"), timezone.now(), None)
    row.delete()
    other.save(force_insert=True)
    Connection.objects.filter(pk=there.connection.pk).update(server_url=ELSEWHERE)
    with pytest.raises(NeedsSignIn):
        egress.run(refreshing.renewed(held, refused=True))


def test_a_token_is_put_into_no_request_to_another_server(scene: StartScene) -> None:
    there = scene()
    there.sign_in()
    held, server = refreshing.held(there.connection, None), server_for(there.connection)
    assert ("Authorization", f"Bearer {held.token}") in with_bearer(server, held).headers
    with pytest.raises(SecretOfAnotherServer):
        with_bearer(replace(server, url=ELSEWHERE), held)
