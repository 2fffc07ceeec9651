"""Signing in, at every kind of authorization server that the field has."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from connections import signing_keys
from connections.models import AuditEvent, Connection, Credential
from oauth import registering
from oauth.models import Discovery, PendingAuthorization, Registration, SignIn
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.tools.conftest import eventually

CALLBACK = f"{settings.PUBLIC_URL}/v1/oauth/mcp/callback"


def secret(scene: Scene, value: str) -> None:
    Credential(connection=scene.connection, kind="oauth_client_secret").set(value, by=scene.house.admin)


def works(scene: Scene) -> None:
    """The person is led back to the connection, which is then connected, with tools."""
    answer = scene.sign_in()
    assert (answer.status_code, answer.get("Location")) == (
        302,
        f"/admin/connections/connection/{scene.connection.pk}/change/",
    )
    scene.probe()
    assert scene.connection.headline == "connected"
    assert scene.state == ("ready", "")
    assert scene.connection.tools.count() > 0


def retirements() -> list[str]:
    """Why registrations were retired, as the audit log has it."""
    retired = AuditEvent.objects.filter(action="connection.registration_retired")
    return list(retired.values_list("outcome", flat=True))


def test_a_server_with_registration_needs_nothing_but_a_sign_in(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    [registration] = scene.auth.registrations
    assert registration["redirect_uris"] == [CALLBACK]
    assert registration["application_type"] == "web"
    assert registration["token_endpoint_auth_method"] in scene.auth.auth_methods
    assert "scope" not in registration
    [asked] = scene.auth.authorizations
    assert (asked["code_challenge_method"], asked["resource"]) == ("S256", scene.server.url)
    assert [form["resource"] for form in scene.auth.token_requests] == [scene.server.url]


def test_signing_in_again_uses_the_same_registration_and_asks_for_consent(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    scene.sign_in(again="1")
    assert len(scene.auth.registrations) == 1
    assert [asked.get("prompt") for asked in scene.auth.authorizations] == [None, "consent"]
    assert SignIn.objects.count() == 1


def test_a_client_metadata_document_is_used_before_registration(scene: StartScene, settings: Any) -> None:
    settings.OAUTH_CLIENT_METADATA_URL = "https://duvo.example.com/client.json"
    scene = scene(cimd=True)
    document = registering.cimd_document()
    scene.auth.know_document("https://duvo.example.com/client.json", document)
    works(scene)
    assert scene.auth.registrations == []
    assert Discovery.objects.get().rung == "cimd"
    assert scene.client.get("/v1/oauth/mcp/client.json").json() == document


def test_a_client_of_ones_own_comes_before_everything(scene: StartScene) -> None:
    scene = scene(connection={"oauth_client_id": "acme-1"}, cimd=True)
    secret(scene, "s3cret of acme")
    scene.auth.add_client("acme-1", secret="s3cret of acme", redirect_uri=CALLBACK)
    works(scene)
    assert scene.auth.registrations == []
    assert Registration.objects.get().kind == "preregistered"


def test_without_registration_the_state_asks_for_a_client_id(scene: StartScene) -> None:
    scene = scene(dcr=False)
    scene.probe()
    assert scene.state == ("missing", "client_id_needed")
    assert "Advanced settings" in scene.connection.next_step
    answer = scene.press("sign-in")
    assert answer["Location"].endswith("/change/")
    assert "does not let us register" in scene.said()[0]


@pytest.mark.parametrize("metadata", ["oauth", "oidc_inserted", "oidc_appended"])
def test_an_issuer_with_a_path_is_found(scene: StartScene, metadata: str) -> None:
    works(scene(issuer_path="/tenants/acme", metadata=metadata))


@pytest.mark.parametrize("place", ["header", "path", "root"])
def test_the_resource_metadata_is_found_where_it_is(scene: StartScene, place: str) -> None:
    works(scene(protected={"metadata": place}))


def test_a_server_of_2025_03_is_its_own_sign_in_server(scene: StartScene) -> None:
    works(scene(protected={"metadata": "origin"}, iss="absent"))


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_we_register_with_the_method_that_the_server_supports(scene: StartScene, method: str) -> None:
    scene = scene(auth_methods=[method])
    works(scene)
    assert [r["token_endpoint_auth_method"] for r in scene.auth.registrations] == [method]
    assert Registration.objects.get().auth_method == method


def test_tokens_may_come_form_encoded(scene: StartScene) -> None:
    works(scene(form_encoded=True))


def test_tokens_without_an_end_are_kept(scene: StartScene) -> None:
    scene = scene(expires_in=None)
    works(scene)
    row = scene.sign_in_row
    assert (row.expires_at, row.renew_at, row.renewable) == (None, None, True)


def test_metadata_of_another_issuer_is_refused(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong")
    scene.probe()
    assert scene.state == ("missing", "metadata_refused")
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert scene.auth.registrations == []


def test_metadata_of_another_resource_is_refused(scene: StartScene) -> None:
    scene = scene(protected={"resource": "https://elsewhere.example.com/mcp"})
    scene.probe()
    assert scene.state == ("missing", "metadata_refused")


def test_a_server_without_pkce_is_refused(scene: StartScene) -> None:
    scene = scene(pkce=False)
    scene.probe()
    assert scene.state == ("missing", "pkce_missing")
    assert scene.auth.authorizations == []


@pytest.mark.parametrize("hostile", ["huge", "deep", "html", "not_json", "private_endpoint"])
def test_hostile_metadata_ends_in_a_sentence(scene: StartScene, hostile: str) -> None:
    scene = scene(hostile=hostile)
    scene.probe()
    state, reason = scene.state
    assert (state, reason) in {
        ("missing", "no_authorization_server"),
        ("missing", "metadata_unavailable"),
        ("missing", "metadata_refused"),
    }
    assert scene.auth.registrations == []
    assert all(step["conclusion"] for step in Discovery.objects.get().steps)


def test_metadata_that_has_moved_within_its_server_is_found(scene: StartScene) -> None:
    works(scene(hostile="redirect"))


def test_slow_metadata_does_not_hold_a_person_for_ever(scene: StartScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oauth.discovering.DOCUMENT_TIMEOUT", 0.2)
    scene = scene(slow=5)
    scene.probe()
    assert scene.state == ("missing", "metadata_unavailable")


def test_every_document_that_was_asked_for_is_on_record(scene: StartScene) -> None:
    scene = scene()
    scene.press("check-sign-in")
    found = Discovery.objects.get()
    assert [step["what"] for step in found.steps] == [
        "The MCP server, without a token",
        "Protected resource metadata",
        "Sign-in server metadata",
    ]
    assert found.rung == "dcr"
    assert found.sentence == "The sign-in server lets us register by ourselves: no client ID is needed."


def test_the_scopes_of_the_challenge_are_asked_for(scene: StartScene) -> None:
    scene = scene(protected={"scopes": ["files:read"]}, scopes_supported=["files:read", "admin"])
    works(scene)
    assert [asked["scope"] for asked in scene.auth.authorizations] == ["files:read"]


def test_offline_access_is_asked_for_where_it_is_offered(scene: StartScene) -> None:
    scene = scene(protected={"scopes": ["files:read"]}, offline_access=True)
    works(scene)
    assert [asked["scope"] for asked in scene.auth.authorizations] == ["files:read offline_access"]


def test_the_resource_can_be_left_out(scene: StartScene) -> None:
    scene = scene(connection={"oauth_omit_resource": True}, reject_resource=True)
    works(scene)
    assert all("resource" not in form for form in [*scene.auth.authorizations, *scene.auth.token_requests])


def test_a_registration_that_the_provider_forgot_is_made_anew_once(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    scene.auth.forget_clients()
    answer = scene.come_back(callback)
    assert answer.status_code == 302
    assert answer["Location"].startswith(scene.auth.url)
    scene.come_back(approve(answer["Location"]))
    assert scene.sign_in_row.ended_at is None
    assert len(scene.auth.registrations) == 2
    assert sorted(Registration.objects.values_list("retired_because", flat=True)) == ["", "client_forgotten"]
    assert retirements() == ["client_forgotten"]


def test_an_expired_client_secret_means_a_new_registration(scene: StartScene) -> None:
    scene = scene(secret_expires_at=1_700_000_000, auth_methods=["client_secret_post"])
    scene.depart()
    scene.depart()
    assert len(scene.auth.registrations) == 2
    assert set(Registration.objects.values_list("retired_because", flat=True)) == {"", "secret_expired"}
    assert retirements() == ["secret_expired"]


def test_a_registration_that_gives_way_to_a_client_of_ones_own_is_on_record(scene: StartScene) -> None:
    scene = scene()
    scene.depart()
    assert retirements() == []
    Connection.objects.update(oauth_client_id="acme-1")
    secret(scene, "s3cret of acme")
    scene.depart()
    assert retirements() == ["replaced"]


def test_a_client_secret_is_never_shown_to_another_sign_in_server(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    scene = scene(connection={"oauth_client_id": "acme-1"}, dcr=False)
    secret(scene, "s3cret of acme")
    scene.auth.add_client("acme-1", secret="s3cret of acme", redirect_uri=CALLBACK)
    works(scene)
    other = authorization_server(dcr=False)
    protect(scene.server, other)
    assert scene.press("sign-in")["Location"].endswith("/change/")
    assert "another sign-in server" in scene.said()[-1]
    assert other.token_requests == []
    Credential.objects.get().set("s3cret of other", by=scene.house.admin)
    other.add_client("acme-1", secret="s3cret of other", redirect_uri=CALLBACK)
    works(scene)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_client_credentials_need_no_person(scene: StartScene, method: str) -> None:
    scene = scene(
        connection={"oauth_client_id": "robot/1", "oauth_grant": "client_credentials", "oauth_token_auth": method},
        client_credentials=True,
        dcr=False,
    )
    secret(scene, "s3:cret%")
    scene.auth.add_client("robot/1", secret="s3:cret%", methods=[method])
    scene.probe()
    assert scene.connection.headline == "connected"
    assert scene.state == ("ready", "")
    assert [form["grant_type"] for form in scene.auth.token_requests] == ["client_credentials"]


def test_client_credentials_with_a_key_of_ours(scene: StartScene) -> None:
    scene = scene(
        connection={
            "oauth_client_id": "robot-1", "oauth_grant": "client_credentials", "oauth_token_auth": "private_key_jwt",
        },
        client_credentials=True, dcr=False, auth_methods=["private_key_jwt"],
    )  # fmt: skip
    Credential(connection=scene.connection, kind="oauth_signing_key").set(signing_keys.make(), by=None)
    published = scene.client.get(f"/v1/oauth/mcp/keys/{scene.connection.pk}.json").json()
    assert "d" not in published["keys"][0]
    scene.auth.add_client("robot-1", jwks=published)
    scene.probe()
    assert scene.state == ("ready", "")
    assert scene.auth.assertions[0]["sub"] == "robot-1"


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt", "tls_client_auth"])
def test_a_server_that_registers_us_for_a_method_that_we_did_not_ask_for_is_told_and_no_failure(
    scene: StartScene, method: str
) -> None:
    scene = scene(echo_method=method)
    if method == "private_key_jwt":
        assert scene.press("sign-in").status_code == 302
        assert "registered us for private_key_jwt" in scene.said()[-1]
        assert not Registration.objects.exists()
    else:  # a method that nobody here knows: what else the answer says decides
        assert scene.sign_in().status_code == 302
        assert scene.auth.token_requests


def test_a_key_that_is_gone_is_told_before_the_browser_leaves(scene: StartScene) -> None:
    settings = {"oauth_client_id": "robot-1", "oauth_token_auth": "private_key_jwt"}
    scene = scene(connection=settings, dcr=False, auth_methods=["private_key_jwt"])
    assert scene.press("sign-in").status_code == 302
    assert "key that signs for us is missing" in scene.said()[-1]


def test_wrong_client_credentials_are_told_with_a_reason(scene: StartScene) -> None:
    scene = scene(
        connection={"oauth_client_id": "robot-1", "oauth_grant": "client_credentials"},
        client_credentials=True, dcr=False,
    )  # fmt: skip
    secret(scene, "wrong")
    scene.auth.add_client("robot-1", secret="right")
    scene.probe()
    assert scene.state == ("refused", "client_refused")


def test_signing_out_revokes_and_forgets(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    token = scene.sign_in_row.tokens().refresh_token
    scene.press("sign-out")
    assert scene.auth.revoked == [token]
    assert not SignIn.objects.exists()
    assert scene.state == ("needs_sign_in", "sign_in_needed")
    assert "revoked" in scene.said()[-1]


def test_another_server_url_ends_the_sign_in(scene: StartScene, mcp_server: StartServer) -> None:
    scene = scene()
    works(scene)
    Connection.objects.update(server_url=mcp_server().url)
    scene.probe()
    assert not SignIn.objects.exists()
    assert len(scene.auth.revoked) == 1
    assert scene.state[0] in {"needs_sign_in", "missing"}


def test_another_method_ends_the_sign_in(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    Connection.objects.update(authorization="none")
    scene.probe()
    assert not SignIn.objects.exists()
    assert len(scene.auth.revoked) == 1


def test_who_leaves_the_organization_leaves_no_token(scene: StartScene) -> None:
    scene = scene(connection={"sharing": "personal"})
    scene.sign_in()
    scene.house.membership(scene.house.admin).delete()
    scene.probe()
    assert not SignIn.objects.exists()
    assert len(scene.auth.revoked) == 1


@pytest.mark.parametrize("door", ["admin", "API", "organization"])
def test_a_deleted_connection_gives_its_tokens_back(scene: StartScene, api: Api, door: str) -> None:
    scene = scene()
    works(scene)
    if door == "admin":
        scene.client.post(f"/admin/connections/connection/{scene.connection.pk}/delete/", {"post": "yes"})
    elif door == "API":
        token = scene.house.member_token(scene.house.admin)
        api.as_(token).request("DELETE", f"/v1/connections/{scene.connection.pk}")
    else:
        scene.house.tenant.delete()
    assert not Connection.objects.exists()
    eventually(lambda: scene.auth.revoked, "the revocation")


def test_every_step_is_audited_without_a_secret(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    scene.press("sign-out")
    actions = list(AuditEvent.objects.order_by("at").values_list("action", flat=True))
    assert [action for action in actions if action.startswith("connection.")] == [
        "connection.registered",
        "connection.sign_in_started",
        "connection.signed_in",
        "connection.signed_out",
    ]


def test_sign_ins_that_are_only_begun_and_registrations_that_are_over_leave_little_behind(scene: StartScene) -> None:
    scene = scene()
    scene.probe()
    for _ in range(23):
        assert scene.press("sign-in").status_code == 302
    assert PendingAuthorization.objects.count() == 20
    made = Registration.objects.get()
    Registration.objects.bulk_create(
        Registration(
            connection=made.connection, issuer=made.issuer, redirect_uri=made.redirect_uri, kind="dcr",
            client_id=f"old-{number}", auth_method="none", retired_at=timezone.now(),
        )
        for number in range(25)
    )  # fmt: skip
    assert registering.forget(made)
    assert Registration.objects.exclude(retired_at=None).count() == 20
    assert Registration.objects.filter(pk=made.pk).exists()
