"""A forged document of the MCP server stands for no authorization server that an admin trusts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connections.models import Connection, Credential
from oauth.models import Discovery, SignIn
from oauth.protocol.discovery import metadata_urls
from oauth.protocol.steps import MetadataResponse
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.protocol.test_discovery import CHALLENGE, HINT, LOGIN, MCP, NO_ANSWER, document, resource, walk
from tests.oauth.test_sign_in import CALLBACK, secret
from tests.servers.authorization.metadata import OAUTH
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import AuthorizationServer
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send

TRUSTED, HERE = "https://login.acme.example", "“Authorization server”"
OWN = metadata_urls(TRUSTED)
GONE = MetadataResponse(410)


def told(issuer: str = TRUSTED, at: str = TRUSTED, **more: Any) -> MetadataResponse:
    return document(**{"issuer": issuer, "token_endpoint": f"{at}/token"} | more)


def led(to: MetadataResponse, **own: MetadataResponse) -> dict[str, MetadataResponse]:
    """The documents of a server that leads to this one; `own` answers at the first or second address of TRUSTED."""
    answers = {MCP: CHALLENGE, HINT: resource(LOGIN), metadata_urls(LOGIN)[0]: to}
    return answers | {OWN[["first", "second"].index(which)]: answer for which, answer in own.items()}


# --- the walk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{}, {"first": GONE}, {"first": GONE, "second": GONE}])
def test_where_an_issuer_says_that_it_has_no_document_the_servers_documents_lead(own: dict[str, Any]) -> None:
    walked = walk(led(told(), **own), trusts=TRUSTED)
    assert walked.found is not None, walked.refusal
    assert walked.found.server.token_endpoint == f"{TRUSTED}/token"


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize(
    ("own", "code"),
    [
        (NO_ANSWER, "metadata_unavailable"),
        (MetadataResponse(500), "metadata_unavailable"),
        (MetadataResponse(503), "metadata_unavailable"),
        (MetadataResponse(429), "metadata_unavailable"),
        (MetadataResponse(403), "no_authorization_server"),
        (MetadataResponse(401), "no_authorization_server"),
        (MetadataResponse(400), "no_authorization_server"),
        (MetadataResponse(204), "no_authorization_server"),
        (MetadataResponse(302, leads_to="https://elsewhere.example"), "no_authorization_server"),
        (MetadataResponse(200, b"<html>"), "no_authorization_server"),
        (document(issuer=TRUSTED), "metadata_refused"),
        (told("https://other.example"), "metadata_refused"),
    ],
)  # fmt: skip
def test_another_answer_of_an_issuer_is_not_that_it_has_none(which: str, own: MetadataResponse, code: str) -> None:
    for forged in (told(), told(at="https://evil.example")):
        walked = walk(led(forged, **{which: own}), trusts=TRUSTED)
        assert walked.refusal is not None
        assert walked.refusal.code == code
        assert not set(walked.asked) & set(metadata_urls(LOGIN)), "nobody else is asked about it"
        assert HERE in walked.refusal.sentence


@pytest.mark.parametrize(
    "name", ["token_endpoint", "revocation_endpoint", "registration_endpoint", "authorization_endpoint"]
)
@pytest.mark.parametrize(
    "at",
    ["https://evil.example", f"{TRUSTED}:8443", f"{TRUSTED}.evil.example", "https://acme.example", LOGIN],
)
def test_elsewhere_an_issuer_has_endpoints_at_its_own_origin_only(name: str, at: str) -> None:
    walked = walk(led(told(**{name: f"{at}/endpoint"})), trusts=TRUSTED)
    assert walked.refusal is not None
    assert walked.refusal.code == "no_authorization_server"
    assert HERE in walked.refusal.sentence
    assert any(name in step.conclusion for step in walked.look.steps)


def test_endpoints_elsewhere_are_taken_from_the_issuers_own_document_and_from_an_address_that_is_entered() -> None:
    elsewhere = told(at="https://tokens.example")
    for answers, trusts in ((led(told(), first=elsewhere), TRUSTED), (led(elsewhere), metadata_urls(LOGIN)[0])):
        walked = walk(answers, trusts=trusts)
        assert walked.found is not None
        assert (walked.found.server.issuer, walked.found.server.token_endpoint) == (
            TRUSTED,
            "https://tokens.example/token",
        )


# --- a whole sign-in --------------------------------------------------------------------------------------------------


def on(path: str, status: int, body: bytes = b"") -> Rule:
    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path.startswith(path) and await respond(send, status, body)

    return answer


def trusting(scene: Scene, evil: AuthorizationServer, **settings: Any) -> None:
    """Acme trusts its provider; the MCP server names another, whose document says to be that one."""
    forged = {
        "issuer": scene.auth.issuer,
        "authorization_endpoint": f"{scene.auth.url}/authorize",
        "token_endpoint": f"{evil.url}/token",
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    }
    evil.behave(on(OAUTH, 200, json.dumps(forged).encode()))
    protect(scene.server, scene.auth)
    protect(scene.server, evil)
    trust = {"oauth_authorization_server": scene.auth.issuer, "oauth_client_id": "c1"}
    Connection.objects.update(**trust | settings)
    scene.connection.refresh_from_db()
    secret(scene, "top-secret")
    scene.auth.add_client("c1", secret="top-secret", redirect_uri=CALLBACK)


@pytest.mark.parametrize("status", [403, 404, 410, 429, 503])
def test_a_secret_goes_to_no_other_when_the_trusted_server_fails(
    scene: StartScene, authorization_server: StartAuthorizationServer, status: int
) -> None:
    scene, evil = scene(dcr=False), authorization_server()
    trusting(scene, evil)
    assert scene.sign_in().status_code == 302
    assert Credential.objects.get().issuer == scene.auth.issuer
    scene.auth.behave(on("/.well-known/", status))
    answer = scene.press("sign-in", again="1")
    assert not answer.get("Location", "").startswith(scene.auth.url)
    assert Discovery.objects.get().reason in {"metadata_unavailable", "no_authorization_server"}
    assert (evil.token_requests, len(scene.auth.token_requests)) == ([], 1)
    assert SignIn.objects.get().server["token_endpoint"] == f"{scene.auth.url}/token"


def test_a_secret_goes_to_no_other_with_nobody_present(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    scene, evil = scene(dcr=False, client_credentials=True), authorization_server()
    trusting(scene, evil, oauth_grant="client_credentials")
    scene.auth.behave(on("/.well-known/", 503))
    scene.probe()
    assert (evil.token_requests, scene.auth.token_requests) == ([], [])
    assert scene.state[0] != "ready"
