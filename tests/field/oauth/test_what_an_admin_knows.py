"""Where the standards ask for a refusal, an admin may say “I know”; what they did not say stays refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connections import egress
from connections.forms import ConnectionForm
from connections.models import AuditEvent, Connection, User
from oauth.models import Discovery, SignIn
from oauth.protocol.discovery import metadata_urls
from oauth.protocol.metadata import ServerMetadata
from oauth.protocol.steps import MetadataResponse
from tests.conftest import House
from tests.field.oauth.test_guesses import page_of
from tests.forms import shown_by
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.protocol.test_discovery import (
    CHALLENGE,
    HINT,
    LOGIN,
    MCP,
    NO_ANSWER,
    ORIGIN,
    Walked,
    document,
    resource,
    walk,
)  # fmt: skip
from tests.oauth.test_callback import changed
from tests.oauth.test_sign_in import works
from tests.servers.authorization.metadata import ELSEWHERE, OAUTH
from tests.servers.authorization.server import approve
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send

SETTING, PKCE = "“Authorization server” in Advanced settings", "“PKCE is supported though not announced”"
ENTRA = "https://login.microsoftonline.com"


def told(issuer: str, **more: Any) -> MetadataResponse:
    return document(**{"issuer": issuer, "token_endpoint": f"{issuer}/token"} | more)


def chosen(walked: Walked) -> ServerMetadata:
    assert walked.found is not None, walked.refusal
    return walked.found.server


# --- the walk ---------------------------------------------------------------------------------------------------------

ATLASSIAN = {MCP: CHALLENGE, f"{ORIGIN}{OAUTH}": told("https://cf.example.com")}
CONTEXT7 = {MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(LOGIN)[0]: told("https://clerk.example.com")}
POOL = "https://cognito-idp.eu-west-1.example.com/eu-west-1_abc"
COGNITO = {MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(POOL)[2]: told(POOL)}


@pytest.mark.parametrize(
    ("answers", "trusts", "issuer"),
    [
        (ATLASSIAN, "https://cf.example.com", "https://cf.example.com"),
        (ATLASSIAN, "https://cf.example.com/", "https://cf.example.com"),
        (ATLASSIAN, f"{ORIGIN}{OAUTH}", "https://cf.example.com"),
        (CONTEXT7, "https://clerk.example.com", "https://clerk.example.com"),
        (CONTEXT7, metadata_urls(LOGIN)[0], "https://clerk.example.com"),
        (COGNITO, POOL, POOL),
        (COGNITO, metadata_urls(POOL)[2], POOL),
        ({MCP: CHALLENGE, HINT: resource(of="https://other.example.com/mcp"), metadata_urls(POOL)[0]: told(POOL)},
         POOL, POOL),
    ],
)  # fmt: skip
def test_what_an_admin_trusts_is_where_people_sign_in(
    answers: dict[str, MetadataResponse], trusts: str, issuer: str
) -> None:
    walked = walk(answers, trusts=trusts)
    assert chosen(walked).issuer == issuer
    assert walked.found is not None
    assert walked.found.trusted == (issuer,)
    assert walked.found.resource == MCP


@pytest.mark.parametrize("answers", [ATLASSIAN, CONTEXT7], ids=["where it was found", "what the resource names"])
def test_the_refusal_names_the_setting(answers: dict[str, MetadataResponse]) -> None:
    refusal = walk(answers).refusal
    assert refusal is not None
    assert (refusal.code, SETTING in refusal.sentence) == ("metadata_refused", True)
    assert "example.com" in refusal.sentence
    assert len(refusal.sentence) <= 300


def test_a_document_of_another_resource_names_the_setting() -> None:
    refusal = walk({MCP: CHALLENGE, HINT: resource(of="https://other.example.com/mcp")}).refusal
    assert refusal is not None
    assert SETTING in refusal.sentence


def test_an_issuer_too_long_for_a_sentence_is_not_in_it() -> None:
    said = f"https://clerk.example.com/{'x' * 1_900}"
    refusal = walk({MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(LOGIN)[0]: told(said)}).refusal
    assert refusal is not None
    assert SETTING in refusal.sentence
    assert len(refusal.sentence) <= 300


@pytest.mark.parametrize(
    ("answers", "trusts", "code"),
    [
        (ATLASSIAN, "https://cf.example.com.evil.example", "metadata_refused"),
        (ATLASSIAN, "https://cf.example.com/more", "metadata_refused"),
        (CONTEXT7, "https://cf.example.com", "metadata_refused"),
        (CONTEXT7, f"https://clerk.example.com{OAUTH}", "no_authorization_server"),
        (CONTEXT7 | {metadata_urls("https://clerk.example.com")[0]: told(LOGIN)}, "https://clerk.example.com",
         "metadata_refused"),
        (CONTEXT7 | {metadata_urls("https://clerk.example.com")[1]: NO_ANSWER}, "https://clerk.example.com",
         "metadata_unavailable"),
        ({MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(LOGIN)[0]: told(LOGIN)}, POOL, "metadata_refused"),
        ({MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(POOL)[0]: document(issuer=POOL)}, POOL,
         "metadata_refused"),
    ],
)  # fmt: skip
def test_another_server_than_the_trusted_one_stays_refused(
    answers: dict[str, MetadataResponse], trusts: str, code: str
) -> None:
    refusal = walk(answers, trusts=trusts).refusal
    assert refusal is not None
    assert refusal.code == code


@pytest.mark.parametrize(
    ("trusts", "said", "issuer"),
    [
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/common/v2.0"),
        (f"{ENTRA}/acme/v2.0/.well-known/openid-configuration", f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/acme/v2.0"),
        (f"{ENTRA}/acme/.well-known/openid-configuration", "https://sts.windows.net/72f9/", "https://sts.windows.net/72f9/"),
    ],
)  # fmt: skip
def test_the_template_of_entra_is_the_tenant_of_the_address(trusts: str, said: str, issuer: str) -> None:
    at = trusts if "/.well-known/" in trusts else metadata_urls(trusts)[0]
    assert chosen(walk({MCP: CHALLENGE, at: told(said)}, trusts=trusts)).issuer == issuer


# --- a whole sign-in --------------------------------------------------------------------------------------------------


def says(scene: Scene, **members: Any) -> dict[str, Any]:
    """Save the connection's page with these fields, as the admin does; return the faults."""
    address = f"/admin/connections/connection/{scene.connection.pk}/change/"
    answer = scene.client.post(address, shown_by(scene.client.get(address)) | members)
    scene.connection.refresh_from_db()
    return {} if answer.status_code == 302 else dict(answer.context["adminform"].form.errors)


def test_a_sign_in_at_a_server_that_says_it_is_another(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong", iss="absent")
    scene.probe()
    assert scene.state == ("missing", "metadata_refused")
    assert ELSEWHERE in Discovery.objects.get().sentence
    assert SETTING in page_of(scene)
    assert says(scene, oauth_authorization_server=ELSEWHERE) == {}
    scene.probe()
    assert scene.state == ("missing", "metadata_unavailable"), "its own address does not say that it has no document"
    assert says(scene, oauth_authorization_server=f"{scene.auth.origin}{OAUTH}") == {}
    works(scene)
    assert scene.sign_in_row.server["issuer"] == ELSEWHERE
    assert "Named by an admin" in page_of(scene)
    event = AuditEvent.objects.filter(action="connection.changed").latest("at")
    assert event.data["oauth_authorization_server"] == scene.connection.oauth_authorization_server
    assert event.actor == scene.house.admin.username


def test_a_sign_in_with_pkce_that_is_not_announced(scene: StartScene) -> None:
    scene = scene(pkce=False)
    scene.probe()
    assert scene.state == ("missing", "pkce_missing")
    assert PKCE in Discovery.objects.get().sentence
    assert says(scene, oauth_assume_pkce="on") == {}
    works(scene)
    asked = scene.auth.authorizations[-1]
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
    assert "Not announced" in page_of(scene)
    event = AuditEvent.objects.get(action="connection.changed")
    assert (event.data["oauth_assume_pkce"], event.actor) == (True, scene.house.admin.username)


def test_what_it_says_of_pkce_says_nothing_of_the_issuer(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong", connection={"oauth_assume_pkce": True})
    scene.probe()
    assert scene.state == ("missing", "metadata_refused")


def test_what_it_says_of_the_issuer_says_nothing_of_pkce(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong", pkce=False)
    Connection.objects.update(oauth_authorization_server=f"{scene.auth.origin}{OAUTH}")
    scene.probe()
    assert scene.state == ("missing", "pkce_missing")


def test_another_iss_than_that_of_the_trusted_server_stays_refused(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong")
    Connection.objects.update(oauth_authorization_server=f"{scene.auth.origin}{OAUTH}")
    callback = approve(scene.depart())
    for iss in (scene.auth.url, f"{ELSEWHERE}/", "https://evil.example", None):
        answer = scene.come_back(changed(callback, iss=iss))
        assert answer.status_code == 400, iss
    assert scene.auth.token_requests == []
    assert scene.come_back(changed(callback, iss=ELSEWHERE)).status_code == 302


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"oauth_authorization_server": ""}, {"oauth_authorization_server": "THERE"}),
        ({"oauth_authorization_server": "THERE"}, {"oauth_authorization_server": ""}),
        ({"oauth_authorization_server": "THERE"}, {"oauth_authorization_server": "https://login.example.com"}),
        ({"oauth_assume_pkce": True}, {"oauth_assume_pkce": ""}),
    ],
    ids=["named", "taken back", "another", "pkce taken back"],
)
def test_a_sign_in_ends_with_what_it_was_made_on(
    scene: StartScene, before: dict[str, Any], after: dict[str, Any]
) -> None:
    scene = scene(pkce="oauth_assume_pkce" not in before)
    filled = [
        {name: scene.auth.issuer if value == "THERE" else value for name, value in one.items()}
        for one in (before, after)
    ]
    type(scene.connection).objects.filter(pk=scene.connection.pk).update(**filled[0])
    works(scene)
    scene.connection.refresh_from_db()
    assert SignIn.objects.of(scene.connection, None) is not None
    assert says(scene, **filled[1]) == {}
    assert SignIn.objects.of(scene.connection, None) is None
    assert scene.connection.credential_state != "ready"


def test_a_sign_in_under_way_ends_when_the_trust_changes(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    assert says(scene, oauth_assume_pkce="on") == {}
    assert scene.come_back(callback).status_code == 400
    assert not SignIn.objects.exists()


def test_a_trust_that_changes_nothing_keeps_a_sign_in(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    assert says(scene, oauth_assume_pkce="on") == {}
    assert SignIn.objects.of(scene.connection, None) is not None


# --- what may be entered ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("entered", "code"),
    [
        ("http://login.example.com", "https_required"),
        ("login.example.com", "scheme_missing"),
        ("https://169.254.169.254/latest", "private_address"),
        ("https://10.0.0.1/", "private_address"),
        ("https://[fd00::1]/", "private_address"),
        ("https://localhost/", "localhost"),
        ("https://login.internal/", "private_name"),
        ("https://user:pass@login.example.com/", "credentials_in_url"),
        ("https://login.example.com/?api_key=abcdefgh12345", "secret_in_url"),
        ("https://login.example.com:22/", "port_forbidden"),
    ],
)
def test_an_address_that_is_never_asked_cannot_be_entered(acme: House, entered: str, code: str) -> None:
    data = ConnectionForm.data_of(acme.connection(authorization="oauth")) | {"oauth_authorization_server": entered}
    form = ConnectionForm(data, instance=acme.tenant.connections.get(), tenant=acme.tenant, user=acme.admin)
    assert not form.is_valid()
    assert [fault.code for fault in form.errors.as_data()["oauth_authorization_server"]] == [code]


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254", "https://10.0.0.1", "https://[fd00::1]", "http://8.8.8.8"]
)
@pytest.mark.parametrize("path", ["", OAUTH])
def test_the_egress_guards_a_trusted_address_however_it_came_in(scene: StartScene, address: str, path: str) -> None:
    scene = scene(connection={"oauth_authorization_server": f"{address}{path}"})
    with egress.observe() as connections:
        scene.probe()
    assert scene.state[0] == "missing"
    assert {at for step in connections for at in step.addresses} <= {"127.0.0.1"}
    assert scene.auth.authorizations == scene.auth.token_requests == []


def test_a_trusted_document_does_not_open_private_endpoints(scene: StartScene) -> None:
    scene = scene(hostile="private_endpoint")
    type(scene.connection).objects.update(oauth_authorization_server=f"{scene.auth.origin}{OAUTH}")
    scene.probe()
    assert scene.state[0] == "missing"
    assert any("is at a private address" in step["conclusion"] for step in Discovery.objects.get().steps)
    assert scene.connection.credential_reason == "metadata_refused"


def test_a_trusted_document_that_moves_away_is_not_followed(scene: StartScene) -> None:
    scene = scene(connection={"oauth_authorization_server": ""})

    async def lead(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == OAUTH and await respond(send, 302, location="https://evil.example/metadata")

    rule: Rule = lead
    scene.auth.behave(rule)
    type(scene.connection).objects.update(oauth_authorization_server=f"{scene.auth.origin}{OAUTH}")
    scene.probe()
    assert scene.state[0] == "missing"
    assert any("another server" in step["conclusion"] for step in Discovery.objects.get().steps)


# --- by program, and who may ------------------------------------------------------------------------------------------


def test_a_program_may_say_it_too(api: Api, acme: House, scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong", pkce=False, iss="absent")
    admin = api.as_(acme.member_token(acme.admin))
    path = f"/v1/connections/{scene.connection.pk}"
    refused = admin.request("PATCH", path, json={"oauth_authorization_server": "http://8.8.8.8/"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/oauth_authorization_server"
    said = {"oauth_authorization_server": f"{scene.auth.origin}{OAUTH}", "oauth_assume_pkce": True}
    for user in (acme.member, acme.auditor):
        assert api.as_(acme.member_token(user)).request("PATCH", path, json=said).status_code == 403
    assert admin.request("PATCH", path, json=said).status_code == 200
    works(scene)
    schema = json.dumps(admin.get("/v1/schema", headers={"Accept": "application/json"}).json())
    assert "oauth_authorization_server" in schema
    assert "oauth_assume_pkce" in schema


def test_a_program_may_say_it_when_it_adds_one(api: Api, acme: House) -> None:
    admin = api.as_(acme.member_token(acme.admin))
    new = {"name": "Orders", "server_url": "http://127.0.0.1:9/mcp", "oauth_authorization_server": ELSEWHERE}
    assert admin.post("/v1/connections", new).status_code == 201
    row = acme.tenant.connections.get()
    assert (row.authorization, row.oauth_authorization_server) == ("oauth", ELSEWHERE)


def test_a_rival_says_nothing(api: Api, rival: House, scene: StartScene) -> None:
    scene = scene()
    theirs = api.as_(rival.member_token(rival.admin))
    path = f"/v1/connections/{scene.connection.pk}"
    assert theirs.request("PATCH", path, json={"oauth_assume_pkce": True}).status_code == 404
    scene.connection.refresh_from_db()
    assert not scene.connection.oauth_assume_pkce


def test_who_only_reads_is_shown_what_is_trusted(scene: StartScene, signed_in: Any, reviewer: User) -> None:
    scene = scene(connection={"oauth_authorization_server": ELSEWHERE, "oauth_assume_pkce": True})
    scene.client = signed_in(reviewer)
    assert f"{ELSEWHERE}, which an admin trusts" in page_of(scene)
    assert "Supported though not announced" in page_of(scene)
