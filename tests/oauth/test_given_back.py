"""Tokens that are of no more use here are revoked at the provider, by the client that they were made with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client

from connections import egress, signing_keys
from connections.models import AuditEvent, Credential, User
from oauth import refreshing, revoking
from oauth.models import SignIn
from tests.conftest import ActIn
from tests.forms import shown_by
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_callback import let_go
from tests.oauth.test_sign_in import CALLBACK, secret, works
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartServer
from tests.tools.conftest import eventually

CLIENT = {"oauth_client_id": "c1"}


def saves(scene: Scene, client: Client | None = None, **members: Any) -> None:
    """Change the connection on its page."""
    client, address = client or scene.client, f"/admin/connections/connection/{scene.connection.pk}/change/"
    answer = client.post(address, shown_by(client.get(address)) | members)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    scene.connection.refresh_from_db()


def outcomes() -> list[str]:
    """How the revocations went, as the audit log has it."""
    return list(AuditEvent.objects.filter(action="connection.signed_out").values_list("outcome", flat=True))


def given_back(scene: Scene, *clients: str) -> None:
    """The provider has revoked every token, each once, and that is on record."""
    eventually(lambda: len(outcomes()) == len(clients), "the record of the revocation")
    assert outcomes() == ["revoked"] * len(clients)
    assert scene.auth.refresh_tokens == []
    assert len(scene.auth.at("/revoke")) == len(clients)
    assert not SignIn.objects.exists()


def confidential(scene: StartScene, method: str, **settings: Any) -> Scene:
    """A connection with a client that an admin has registered, and a sign-in."""
    if method == "private_key_jwt":
        settings["oauth_token_auth"] = method
    opened = scene(dcr=False, connection=CLIENT | settings, auth_methods=[method])
    if method == "private_key_jwt":
        Credential(connection=opened.connection, kind="oauth_signing_key").set(signing_keys.make(), by=None)
        published = opened.client.get(f"/v1/oauth/mcp/keys/{opened.connection.pk}.json").json()
        opened.auth.add_client("c1", jwks=published, redirect_uri=CALLBACK)
    else:
        secret(opened, "top-secret")
        opened.auth.add_client("c1", secret="top-secret", redirect_uri=CALLBACK)
    works(opened)
    return opened


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("client_secret_post", {"authorization": "none"}),
        ("client_secret_basic", {"authorization": "none"}),
        ("private_key_jwt", {"authorization": "none"}),
        ("client_secret_post", {"oauth_client_id": "c2", "oauth_client_secret": "second"}),
        ("private_key_jwt", {"oauth_client_id": "c2", "oauth_client_secret": "second", "oauth_token_auth": ""}),
        ("client_secret_post", {"oauth_client_id": "", "remove_oauth_client_secret": "on"}),
        ("client_secret_post", {"server_url": "ANOTHER", "oauth_client_secret": "top-secret"}),
        ("private_key_jwt", {"server_url": "ANOTHER"}),
        ("client_secret_post", {"sharing": "personal"}),
        ("client_secret_post", {"oauth_grant": "client_credentials"}),
        ("client_secret_post", {"oauth_authorization_server": "https://login.example.com"}),
    ],
)
def test_what_a_change_ends_is_revoked_by_the_client_that_it_was_made_with(
    scene: StartScene, mcp_server: StartServer, method: str, change: dict[str, str]
) -> None:
    scene = confidential(scene, method)
    another = {"server_url": mcp_server().url} if "server_url" in change else {}
    saves(scene, **change | another)
    given_back(scene, "c1")
    scene.probe()
    assert outcomes() == ["revoked"], "a check finds nothing left to do"


def test_what_a_program_changes_is_revoked_too(scene: StartScene, api: Api) -> None:
    scene = confidential(scene, "client_secret_post")
    admin = api.as_(scene.house.member_token(scene.house.admin))
    new = {"oauth_client_id": "c2", "oauth_client_secret": "second"}
    answer = admin.request("PATCH", f"/v1/connections/{scene.connection.pk}", json=new)
    assert answer.status_code == 200, answer.text
    given_back(scene, "c1")


def test_what_members_had_is_revoked_when_they_share_one(scene: StartScene, signed_in: Any) -> None:
    scene = confidential(scene, "client_secret_post", sharing="personal")
    member = signed_in(scene.house.member)
    scene.come_back(approve(scene.press("sign-in", member)["Location"]), member)
    assert SignIn.objects.count() == 2
    saves(scene, sharing="shared")
    given_back(scene, "c1", "c1")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another name"},
        {"oauth_client_secret": "top-secret"},
        {"oauth_scopes": "read"},
        {"enabled": ""},
    ],
)
def test_a_change_that_a_sign_in_outlives_revokes_nothing(scene: StartScene, change: dict[str, str]) -> None:
    scene = confidential(scene, "client_secret_post")
    saves(scene, **change)
    assert (outcomes(), scene.auth.at("/revoke"), SignIn.objects.count()) == ([], [], 1)


def test_a_change_that_is_refused_revokes_nothing(scene: StartScene) -> None:
    scene = confidential(scene, "client_secret_post")
    page = f"/admin/connections/connection/{scene.connection.pk}/change/"
    filled = shown_by(scene.client.get(page))
    saves(scene, name="Another name")
    assert scene.client.post(page, filled | {"authorization": "none"}).status_code == 200
    assert (outcomes(), scene.auth.at("/revoke"), SignIn.objects.count()) == ([], [], 1)


def test_a_provider_that_refuses_the_revocation_is_on_record(scene: StartScene) -> None:
    scene = confidential(scene, "client_secret_post")
    scene.auth.provider.clients.clear()
    saves(scene, authorization="none")
    eventually(outcomes, "the record")
    assert outcomes() == ["provider_refused"]
    assert not SignIn.objects.exists()


def test_of_a_suspended_organization_nothing_is_changed_and_nothing_is_sent(scene: StartScene, act_in: ActIn) -> None:
    scene = confidential(scene, "client_secret_post")
    page = f"/admin/connections/connection/{scene.connection.pk}/change/"
    people = [scene.client, act_in(scene.house.tenant)]
    filled = [shown_by(person.get(page)) for person in people]
    scene.house.tenant.suspend("Unpaid.")
    for person, fields in zip(people, filled, strict=True):
        assert person.post(page, fields | {"authorization": "none"}).status_code == 403
    scene.connection.refresh_from_db()
    assert scene.connection.authorization == "oauth"
    assert (scene.auth.at("/revoke"), SignIn.objects.count()) == ([], 1)


def test_a_sign_in_that_comes_too_late_is_revoked_by_its_client(scene: StartScene) -> None:
    scene = confidential(scene, "client_secret_post")
    scene.press("sign-out")
    callback = approve(scene.depart())
    scene.auth.hold_tokens()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(scene.come_back, callback)
        scene.auth.wait_until_held()
        saves(scene, authorization="none")
        scene.auth.release_tokens()
        assert coming.result().status_code == 400
        pool.submit(let_go).result()
    assert scene.auth.refresh_tokens == []


# --- people who are deleted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["page", "list", "queryset"])
def test_what_a_deleted_person_had_is_revoked(scene: StartScene, superuser: User, signed_in: Any, door: str) -> None:
    scene = confidential(scene, "client_secret_post", sharing="personal")
    member = signed_in(scene.house.member)
    scene.come_back(approve(scene.press("sign-in", member)["Location"]), member)
    kept = SignIn.objects.get(owner=scene.house.member).tokens().refresh_token
    staff, gone = signed_in(superuser), scene.house.admin.pk
    scene.house.tenant.memberships.filter(user=scene.house.auditor).update(role="admin")  # the last one cannot go
    if door == "page":
        assert staff.post(f"/admin/connections/user/{gone}/delete/", {"post": "yes"}).status_code == 302
    elif door == "list":
        chosen = {"action": "delete_selected", "_selected_action": [gone], "post": "yes"}
        assert staff.post("/admin/connections/user/", chosen).status_code == 302
    else:
        User.objects.filter(pk=gone).delete()
    assert not User.objects.filter(pk=gone).exists()
    eventually(outcomes, "the record of the revocation")
    assert outcomes() == ["revoked"]
    assert scene.auth.refresh_tokens == [kept], "nobody else's"
    assert scene.state == ("ready", "")


def test_the_organizations_own_sign_in_outlives_who_made_it(scene: StartScene) -> None:
    scene = confidential(scene, "client_secret_post")
    scene.house.admin.delete()
    assert (outcomes(), scene.auth.at("/revoke"), SignIn.objects.count()) == ([], [], 1)


def test_of_who_is_deleted_from_a_suspended_organization_nothing_is_sent(scene: StartScene) -> None:
    scene = confidential(scene, "client_secret_post", sharing="personal")
    scene.house.tenant.suspend("Unpaid.")
    scene.house.admin.delete()
    eventually(outcomes, "the record")
    assert (outcomes(), scene.auth.at("/revoke")) == (["organization_suspended"], [])


def test_what_a_renewal_brings_during_a_sign_out_is_revoked_too(scene: StartScene) -> None:
    scene = scene(rotate=True, revoke_on_reuse=False)
    works(scene)
    row = scene.sign_in_row
    egress.run(
        refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id)
    )  # a worker, after the row was read
    newest = scene.auth.refresh_tokens
    assert revoking.revoke_and_delete(row) == "revoked"
    assert newest
    assert scene.auth.refresh_tokens == []
    assert revoking.revoke_and_delete(row) is None
